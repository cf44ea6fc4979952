"""A WebSocket on which every message is a turn, and a client whose turn sends one: all of it is one trace.

    python docs/examples/websocket.py

A connection lasts, turns come and go: what a message belongs to stands in the message (`_meta`, as in MCP), what the
connection belongs to in the headers of its handshake.
"""

import asyncio
import json
import socket

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from turntrace import Turntrace, TurntraceMiddleware

tt = Turntrace(service_name="chat")
app = FastAPI()
app.add_middleware(TurntraceMiddleware, turntrace=tt)


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Answers every message with where it was recorded."""
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive_json()
            with tt.borders.received(message, name="chat-message", input=message["text"]):
                await websocket.send_json(tt.borders.stamp({"trace_id": tt.current_trace_id()}))
    except WebSocketDisconnect:
        return


async def main() -> None:
    """Two turns over one connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/chat"
        async with connect(url, additional_headers=tt.inject({}, url=url)) as connection:
            for question in ("Is it red?", "Is it a kettle?"):
                await ask(connection, question)
        server.should_exit = True
        await serving


async def ask(connection: ClientConnection, question: str) -> None:
    """One turn."""
    with tt.turn("ask", session_id="s-12", user_id="u-12", tags=["plan:pro"]):
        print("turn   ", tt.current_trace_id())
        with tt.observation("send", type="tool"):
            await connection.send(json.dumps(tt.borders.stamp({"text": question})))
            answer = json.loads(await connection.recv())
    print("message", answer["trace_id"], answer["_meta"]["baggage"])


if __name__ == "__main__":
    asyncio.run(main())
    tt.shutdown()
