"""The smallest application with turns: one answer in one piece, one streamed. Starts in a moment."""

import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from turntrace import Turntrace, TurntraceMiddleware

tt = Turntrace()


async def ask(request: Request) -> Response:
    """A model call that takes no time."""
    with tt.generation("answer", model="gpt-4o-mini", provider="openai", input="hello") as call:
        call.update(output="hi", usage={"input_tokens": 5, "output_tokens": 2})
    return JSONResponse({"answer": "hi", "pid": os.getpid()})


async def chat(request: Request) -> Response:
    """The same as server-sent events."""
    return StreamingResponse(_events(), media_type="text/event-stream")


async def _events() -> AsyncIterator[str]:
    with tt.generation("answer", model="gpt-4o-mini", provider="openai", input="hello") as call:
        for piece in ("h", "i"):
            yield f"data: {piece}\n\n"
        call.update(output="hi", usage={"input_tokens": 5, "output_tokens": 2})
    yield "data: [DONE]\n\n"


async def health(request: Request) -> Response:
    """Which process answers; leaves no trace."""
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/ask", ask, methods=["POST"]), Route("/chat", chat, methods=["POST"])])
app.router.routes.append(Route("/health", health))
app.add_middleware(TurntraceMiddleware, turntrace=tt)
