"""Turns of 5 KB, whole and streamed, whose model answers at once."""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from turntrace import Turntrace, TurntraceMiddleware

QUESTION = "How do I descale the kettle where the water is hard? " * 24
DOCUMENTS = [{"id": f"d{n}", "content": f"Paragraph {n} says how the kettle is descaled. " * 10} for n in range(5)]
ANSWER = "Fill it with equal parts of water and vinegar, boil, wait an hour and rinse. " * 14

tt = Turntrace()


def answered() -> str:
    """One turn."""
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


app = TurntraceMiddleware(
    Starlette(
        routes=[
            Route("/turn", turn),
            Route("/stream", stream),
            Route("/health", health),
            Mount("/llm-admin", tt.panel()),
        ]
    ),
    turntrace=tt,
)
