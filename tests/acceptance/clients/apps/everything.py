"""The clients that are tested in CI, all in one process: openai, anthropic, pydantic-ai, mcp."""

from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from fastapi.responses import StreamingResponse
from mcp import Client
from mcp.server.mcpserver import MCPServer
from openai import AsyncOpenAI, OpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.acceptance.clients.apps.host import CLAUDE, MODEL, OPENAI_URL, PROVIDER, WISH, host

tt, app = host()
openai = OpenAI(base_url=OPENAI_URL, api_key="k")
async_openai = AsyncOpenAI(base_url=OPENAI_URL, api_key="k")
anthropic = Anthropic(base_url=PROVIDER, api_key="k")
async_anthropic = AsyncAnthropic(base_url=PROVIDER, api_key="k")
agent = Agent(
    OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=OPENAI_URL, api_key="k")),
    name="helper",
    instructions="Be brief.",
)
tools = MCPServer("articles")


@agent.tool_plain
def find(about: str) -> str:
    """Find an article."""
    return f"an article about {about}"


@tools.tool()
def look_up(about: str) -> str:
    """Look an article up."""
    return f"an article about {about}"


def asked(text: str) -> Any:
    return [{"role": "user", "content": text}]


@app.post("/openai")
def use_openai() -> StreamingResponse:
    """A whole answer, embeddings, and a stream that goes on to the client."""
    openai.chat.completions.create(model=MODEL, messages=asked("How?"))
    openai.embeddings.create(model="text-embedding-3-small", input="one")
    stream = openai.chat.completions.create(
        model=MODEL, messages=asked("How?"), stream=True, stream_options={"include_usage": True}
    )
    texts = (chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    return StreamingResponse(texts, media_type="text/plain")


@app.post("/anthropic")
async def use_anthropic() -> dict[str, str]:
    """A whole answer and a stream."""
    anthropic.messages.create(model=CLAUDE, max_tokens=100, messages=asked("How?"))
    async with async_anthropic.messages.stream(model=CLAUDE, max_tokens=100, messages=asked("How?")) as stream:
        return {"answer": "".join([text async for text in stream.text_stream])}


@app.post("/pydantic-ai")
async def use_pydantic_ai() -> dict[str, str]:
    """An agent that uses its tool."""
    return {"answer": (await agent.run(WISH)).output}


@app.post("/mcp")
async def use_mcp() -> dict[str, str]:
    """A tool of an MCP server, and a model call in the same turn."""
    async with Client(tools) as client:
        found = await client.call_tool("look_up", {"about": "kettle"})
    await async_openai.chat.completions.create(model=MODEL, messages=asked("How?"))
    return {"answer": str(found.content[0])}
