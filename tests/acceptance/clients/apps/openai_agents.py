"""An agent of openai-agents, over the Responses API."""

from agents import Agent, Runner, function_tool, set_default_openai_client
from openai import AsyncOpenAI

from tests.acceptance.clients.apps.host import MODEL, OPENAI_URL, WISH, host

tt, app = host()
set_default_openai_client(AsyncOpenAI(base_url=OPENAI_URL, api_key="k"), use_for_tracing=False)


@function_tool
def find(about: str) -> str:
    """Find an article."""
    return f"an article about {about}"


agent = Agent(name="helper", instructions="Be brief.", tools=[find], model=MODEL)


@app.post("/agent")
async def use_agent() -> dict[str, str]:
    """Model, tool, model."""
    return {"answer": str((await Runner.run(agent, WISH)).final_output)}


@app.post("/stream")
async def use_stream() -> dict[str, str]:
    """The same, streamed."""
    result = Runner.run_streamed(Agent(name="teller", model=MODEL), "How?")
    count = 0
    async for _ in result.stream_events():
        count += 1
    return {"answer": str(result.final_output), "events": str(count)}
