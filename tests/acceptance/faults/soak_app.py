"""Turns of 5 KB, whole and streamed, whose model answers at once. With `SOAK_BARE` set, without Turntrace."""

import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

QUESTION = "How do I descale the kettle where the water is hard? " * 24
DOCUMENTS = [{"id": f"d{n}", "content": f"Paragraph {n} says how the kettle is descaled. " * 10} for n in range(5)]
ANSWER = "Fill it with equal parts of water and vinegar, boil, wait an hour and rinse. " * 14

if os.environ.get("SOAK_BARE"):
    tt: Any = None
else:
    from turntrace import Turntrace, TurntraceMiddleware

    tt = Turntrace()


def answered() -> str:
    """One turn."""
    if tt is None:
        return ANSWER
    with tt.observation("kb-search", type="retrieval", input=QUESTION[:100]) as step:
        step.update(documents=DOCUMENTS)
    with tt.generation("answer", model="gpt-4o-mini", provider="openai", input=QUESTION) as step:
        step.update(output=ANSWER, usage={"input_tokens": 300, "output_tokens": 40})
    return ANSWER


async def turn(request: Request) -> Response:
    return PlainTextResponse(answered())


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[str]:
        text = answered()
        for start in range(0, len(text), 256):
            yield text[start : start + 256]

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


routes = [Route("/turn", turn), Route("/stream", stream), Route("/health", health)]
app: Any = Starlette(routes=routes if tt is None else [*routes, Mount("/llm-admin", tt.panel())])
if tt is not None:
    app = TurntraceMiddleware(app, turntrace=tt)
