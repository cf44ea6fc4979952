"""Streams of numbered words, whole or from a provider that breaks; and what the process holds."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from turntrace import Turntrace, TurntraceMiddleware

CHUNKS = 40
GAP_SECONDS = 0.02

tt = Turntrace()


def word(stream: str, number: int) -> str:
    """One chunk, unlike all others."""
    return f"[{stream}.{number}]"


async def provider(stream: str, breaks_after: int | None) -> AsyncIterator[str]:
    """A model's stream, which may break."""
    for number in range(CHUNKS):
        if number == breaks_after:
            raise ConnectionResetError("the provider is gone")
        await asyncio.sleep(GAP_SECONDS)
        yield word(stream, number)


@tt.observe(type="generation", name="answer")
async def answer(stream: str, breaks_after: int | None) -> AsyncIterator[str]:
    async for token in provider(stream, breaks_after):
        yield token


async def by_hand(stream: str, breaks_after: int | None) -> AsyncIterator[str]:
    """The same with the observation inside of the host's own generator."""
    with tt.generation("answer", model="offline") as call:
        text = ""
        async for token in provider(stream, breaks_after):
            text += token
            call.update(output=text)
            yield token


async def read_on(stream: str, breaks_after: int | None) -> AsyncIterator[str]:
    """A task of its own reads the provider's stream to its end, whether the client stays or not."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    async def read() -> None:
        async for token in answer(stream, breaks_after):
            pieces.put_nowait(token)
        pieces.put_nowait(None)

    task = asyncio.create_task(read())
    reading.add(task)
    task.add_done_callback(reading.discard)
    while (piece := await pieces.get()) is not None:
        yield piece


reading: set[asyncio.Task[None]] = set()
WAYS = {"observed": answer, "by_hand": by_hand, "read_on": read_on}


async def stream(request: Request) -> Response:
    name, broken = request.query_params["name"], request.query_params.get("breaks_after")
    way = WAYS[request.query_params.get("way", "observed")]
    return StreamingResponse(way(name, None if broken is None else int(broken)), media_type="text/event-stream")


async def held(request: Request) -> Response:
    """What might leak."""
    counts = {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "open_turns": len(tt.recorder.open_turns),
    }
    return JSONResponse({**counts, "pid": os.getpid()})


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


app = TurntraceMiddleware(
    Starlette(
        routes=[
            Route("/stream", stream),
            Route("/held", held),
            Route("/health", health),
            Mount("/llm-admin", tt.panel()),
        ]
    ),
    turntrace=tt,
)
