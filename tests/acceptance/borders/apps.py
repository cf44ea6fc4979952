"""A shop in four processes: `shop` asks `stock` over httpx, leaves work to a Celery task, and calls an MCP tool.

uvicorn tests.acceptance.borders.apps:shop
uvicorn tests.acceptance.borders.apps:stock
celery --app tests.acceptance.borders.apps:tasks worker --pool solo
python -m tests.acceptance.borders.apps                             the MCP server, on its standard input
"""

import os
import sys
from typing import Any

import httpx
from celery import Celery
from fastapi import FastAPI
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server.mcpserver import MCPServer

from turntrace import Turntrace, TurntraceMiddleware

ALL = "session.id,user.id,feature,experiment,tags"
FOLDER = os.environ.get("BROKER_FOLDER", "")

tt = Turntrace(propagate_keys=ALL, baggage_keys=ALL)
tasks = tt.borders.celery(
    Celery(
        "shop",
        broker="filesystem://",
        backend=f"file://{FOLDER}",
        broker_transport_options={
            "data_folder_in": FOLDER,
            "data_folder_out": FOLDER,
            "control_folder": FOLDER,
        },
    )
)
shop, stock = FastAPI(), FastAPI()
for app in (shop, stock):
    app.add_middleware(TurntraceMiddleware, turntrace=tt)
shop.mount("/llm-admin", tt.panel())
tools = tt.borders.mcp_server(MCPServer("weather"), is_own=True)


@stock.get("/stock/{item}")
def count(item: str) -> dict[str, int]:
    """How many there are: the second service."""
    with tt.generation("guess", model="gpt-4o-mini", provider="openai", input=item) as call:
        call.update(output="3", usage={"input_tokens": 11, "output_tokens": 1})
    return {"count": 3}


@tasks.task(name="shop.remember")
def remember(order: str) -> str | None:
    """What is done later, by somebody else."""
    with tt.generation("summary", model="gpt-4o-mini", provider="openai", input=order) as call:
        call.update(output=order[:8], usage={"input_tokens": 13, "output_tokens": 2})
    return tt.current_trace_id()


@tools.tool()
def weather(city: str) -> str:
    """What the weather is."""
    with tt.generation("look", model="gpt-4o-mini", provider="openai", input=city) as call:
        call.update(output="dry", usage={"input_tokens": 17, "output_tokens": 1})
    return "dry"


@shop.post("/order")
async def order() -> dict[str, Any]:
    """The turn that crosses all three borders."""
    tt.update_trace(session_id="s-77", user_id="u-77", feature="orders", experiment="b", tags=["plan:pro"])
    with tt.observation("ask-stock", type="tool"):
        async with tt.borders.httpx(httpx.AsyncClient()) as client:
            answer = (await client.get(f"{os.environ['STOCK_URL']}/stock/kettle")).json()
    async with tt.borders.httpx(httpx.AsyncClient()) as client:  # in no step: the turn itself calls
        await client.get(f"{os.environ['STOCK_URL']}/stock/toaster")
    with tt.observation("leave-a-task", type="span"):
        remember.delay("Two kettles, one of them red.")
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "tests.acceptance.borders.apps"], env=dict(os.environ)
    )
    with tt.observation("ask-weather", type="tool", input={"city": "Bath"}):
        async with stdio_client(command) as streams, ClientSession(*streams) as session:
            await session.initialize()
            tt.borders.mcp_client(session, is_own=True)
            await session.call_tool("weather", {"city": "Bath"})
    return answer


@shop.get("/health")
@stock.get("/health")
def health() -> dict[str, str]:
    """Leaves no trace."""
    return {"status": "ok"}


if __name__ == "__main__":
    tools.run()
    tt.shutdown()
