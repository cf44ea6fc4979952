"""A function agent of llama-index."""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI

from tests.acceptance.clients.apps.host import MODEL, OPENAI_URL, WISH, host

tt, app = host()


def find(about: str) -> str:
    """Find an article."""
    return f"an article about {about}"


model = OpenAI(model=MODEL, api_base=OPENAI_URL, api_key="k")
agent = FunctionAgent(name="helper", tools=[find], llm=model, system_prompt="Be brief.", streaming=False)


@app.post("/agent")
async def use_agent() -> dict[str, str]:
    """Model, tool, model."""
    return {"answer": str(await agent.run(WISH))}


@app.post("/stream")
def use_stream() -> dict[str, str]:
    """A streamed answer outside of any agent."""
    return {"answer": "".join(piece.delta or "" for piece in model.stream_complete("How?"))}
