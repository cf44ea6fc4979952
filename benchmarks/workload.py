"""The turn that every variant performs: an agent with retrieval of five documents, rerank, tool, generation; 5 KB.

The applications around it are what an application would be: FastAPI and Flask with one route each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

QUESTION = "How do I descale the kettle, and how often in a region with hard water?"
DOCUMENTS = [
    {
        "id": f"doc-{i}",
        "score": 0.9 - i / 10,
        "content": f"Paragraph {i} of the manual says how the kettle is descaled. " * 11,
    }
    for i in range(5)
]
RANKED = [document["id"] for document in DOCUMENTS]
MESSAGES = [
    {"role": "system", "content": "Answer from the documents and cite them. " * 10},
    {"role": "user", "content": QUESTION},
]
ANSWER = "Fill it with equal parts of water and vinegar, boil, wait an hour and rinse twice. " * 6
USAGE = {"input_tokens": 1180, "output_tokens": 96, "cache_read_tokens": 512}

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Model = Callable[[], Awaitable[None]]
Turn = Callable[[Model], Coroutine[Any, Any, None]]


def model(seconds: float) -> Model:
    """A model that takes its time. It does not give up control where it takes none."""

    async def answer() -> None:
        if seconds:
            await asyncio.sleep(seconds)

    return answer


async def bare_turn(answer: Model) -> None:
    """The turn, recorded by nobody."""
    await answer()


def asgi_application(turn: Turn, seconds: float = 0.0) -> Any:
    """FastAPI with one route that performs the turn."""
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app, answer = FastAPI(openapi_url=None), model(seconds)

    @app.post("/ask", response_model=None)
    async def ask() -> PlainTextResponse:
        await turn(answer)
        return PlainTextResponse(ANSWER)

    return app


def wsgi_application(turn: Turn) -> Any:
    """Flask with one route that performs the turn; its model answers at once."""
    from flask import Flask, Response

    app, answer = Flask("benchmark"), model(0.0)

    @app.post("/ask")
    def ask() -> Response:
        performed = turn(answer)
        try:
            performed.send(None)
        except StopIteration:
            return Response(ANSWER, mimetype="text/plain")
        raise RuntimeError("the turn waited for something")

    return app
