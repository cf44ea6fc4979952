"""A turn that streams an answer as server-sent events, made from the stream of another service: one trace.

    python docs/examples/server_sent_events.py

The whole stream is one turn, from the request to the last event. What is read of the other service's stream belongs to
the turn that reads it, wherever the generator runs. `EventSource` in a browser sends no headers: its session comes as
a query parameter (setting `session_query`).
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from turntrace import Turntrace, TurntraceMiddleware

ALL = "session.id,user.id,feature,experiment,tags"
tt = Turntrace(service_name="stories", session_query="session", propagate_keys=ALL, baggage_keys=ALL)
app = FastAPI()
app.add_middleware(TurntraceMiddleware, turntrace=tt)


@app.get("/words")
async def words() -> StreamingResponse:
    """The other service: a model, say."""
    return StreamingResponse(stream_words(), media_type="text/event-stream")


async def stream_words() -> AsyncIterator[str]:
    """Events that tell which turn they belong to."""
    with tt.generation("words", model="gpt-4o-mini", provider="openai") as call:
        for word in ("once", "upon"):
            yield event({"text": word, "trace_id": tt.current_trace_id(), "carried": tt.carrier().get("baggage")})
        call.update(output="once upon", usage={"input_tokens": 1, "output_tokens": 2})
    yield "data: [DONE]\n\n"


@app.get("/story")
async def story(base: str) -> StreamingResponse:
    """The turn: passes on what it reads."""
    tt.update_trace(user_id="u-13", feature="stories")
    return StreamingResponse(pass_on(base), media_type="text/event-stream")


async def pass_on(base: str) -> AsyncIterator[str]:
    """The events of the other service, after one of our own."""
    yield event({"text": "", "trace_id": tt.current_trace_id(), "carried": tt.carrier().get("baggage")})
    with tt.observation("read-words", type="tool"):
        async with tt.borders.httpx(httpx.AsyncClient()) as client, client.stream("GET", f"{base}/words") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    yield f"{line}\n\n"
    yield "data: [DONE]\n\n"


def event(data: dict[str, str | None]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data)}\n\n"


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Both services on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


async def main() -> None:
    """A client that reads the story."""
    async with serving() as base, httpx.AsyncClient() as client:
        answer = await client.get(f"{base}/story", params={"base": base, "session": "s-13"})
        for line in answer.text.splitlines():
            if line.startswith("data: {"):
                told = json.loads(line.removeprefix("data: "))
                print(f"{told['text']:5}", told["trace_id"], told["carried"])


if __name__ == "__main__":
    asyncio.run(main())
    tt.shutdown()
