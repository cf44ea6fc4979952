"""An agent of langchain, which is a graph of langgraph."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.acceptance.clients.apps.host import MODEL, OPENAI_URL, WISH, host

tt, app = host()


@tool
def find(about: str) -> str:
    """Find an article."""
    return f"an article about {about}"


model = ChatOpenAI(model=MODEL, base_url=OPENAI_URL, api_key="k", stream_usage=True)
agent = create_agent(model, [find], name="helper")


@app.post("/agent")
async def use_agent() -> dict[str, str]:
    """Model, tool, model."""
    found = await agent.ainvoke({"messages": [("user", WISH)]})
    return {"answer": str(found["messages"][-1].content)}


@app.post("/stream")
def use_stream() -> dict[str, str]:
    """A streamed answer outside of any agent."""
    return {"answer": "".join(str(chunk.content) for chunk in model.stream("How?"))}
