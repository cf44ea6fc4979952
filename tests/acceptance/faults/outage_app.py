"""The application under load: turns of 20 KB, some of them streamed, and a clock around everything of ours.

`OUTAGE_TIMES` names a file: each request appends one line, its start on the monotonic clock and how long it took, both
in nanoseconds, as the server sees it. Without the variable `OUTAGE_BARE` Turntrace records.
"""

import asyncio
import os
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from turntrace import Turntrace, TurntraceMiddleware

QUESTION = "How do I descale the kettle where the water is hard, and how often? " * 60
DOCUMENTS = [{"id": f"d{n}", "content": f"Paragraph {n} says how the kettle is descaled. " * 50} for n in range(5)]
ANSWER = "Fill it with equal parts of water and vinegar, boil, wait an hour and rinse twice. " * 40
MODEL_SECONDS = 0.005

tt = Turntrace()


async def answered() -> str:
    """One turn: retrieval, then a model that takes a moment."""
    with tt.observation("kb-search", type="retrieval", input=QUESTION[:200]) as step:
        step.update(documents=DOCUMENTS)
    with tt.generation("answer", model="gpt-4o-mini", provider="openai", input=QUESTION) as step:
        await asyncio.sleep(MODEL_SECONDS)
        step.update(output=ANSWER, usage={"input_tokens": 1180, "output_tokens": 96})
    return ANSWER


async def turn(request: Request) -> Response:
    return PlainTextResponse(await answered())


async def stream(request: Request) -> Response:
    async def pieces() -> Any:
        text = await answered()
        for start in range(0, len(text), 512):
            yield text[start : start + 512]

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


class Timed:
    """Outermost: what the server waits for the application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._file = os.open(os.environ["OUTAGE_TIMES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = time.monotonic_ns()
        await self._app(scope, receive, send)
        if scope["type"] == "http" and scope["path"] in ("/turn", "/stream"):
            os.write(self._file, b"%d %d %d\n" % (started, time.monotonic_ns() - started, os.getpid()))


inner = Starlette(
    routes=[
        Route("/turn", turn),
        Route("/stream", stream),
        Route("/health", health),
        Mount("/llm-admin", tt.panel()),
    ]
)
app = Timed(TurntraceMiddleware(inner, turntrace=tt))
