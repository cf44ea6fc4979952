"""A turn that calls a tool of an MCP server: the call is a turn of the same trace, with the same session.

    python docs/examples/mcp_tool.py

The server is started by the client and spoken to through its standard input, `python docs/examples/mcp_tool.py server`;
over HTTP nothing else changes. `is_own` says that client and server belong together: without it only the place in the
trace goes, no session and no user.
"""

import asyncio
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server.mcpserver import MCPServer

from turntrace import Turntrace

tt = Turntrace(service_name="weather-server" if sys.argv[1:] == ["server"] else "assistant")
server = tt.borders.mcp_server(MCPServer("weather"), is_own=True)


@server.tool()
def forecast(city: str) -> str:
    """What the weather will be."""
    return f"{city}: dry\n{tt.current_trace_id()} {tt.carrier().get('baggage')}"


async def main() -> None:
    """The turn that asks."""
    command = StdioServerParameters(command=sys.executable, args=[__file__, "server"], env=dict(os.environ))
    async with stdio_client(command) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tt.borders.mcp_client(session, is_own=True)
        with tt.turn("plan-a-walk", session_id="s-11", user_id="u-11", tags=["plan:pro"]):
            print("turn", tt.current_trace_id())
            with tt.observation("forecast", type="tool", input={"city": "Bath"}) as step:
                answer = await session.call_tool("forecast", {"city": "Bath"})
                step.update(output=answer.content[0].text)
        print("tool", answer.content[0].text.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:] == ["server"]:
        server.run()
    else:
        asyncio.run(main())
    tt.shutdown()
