"""The bot on FastAPI. Run: `uvicorn example_app.fastapi_app:app`, with the offline model server beside it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from example_app.bot import Bot, Question
from turntrace import Turntrace, TurntraceMiddleware

tt = Turntrace(prices_file=str(Path(__file__).with_name("prices.json")))
bot = Bot(tt)
app = FastAPI(title="Support bot")
app.add_middleware(TurntraceMiddleware, turntrace=tt)
app.mount("/llm-admin", tt.panel())


class Asked(BaseModel):
    """The body of a question."""

    question: str
    feature: str = "support-chat"


UserId = Annotated[str, Header(alias="X-User-Id")]
SessionId = Annotated[str, Header(alias="X-Session-Id")]


@app.post("/ask")
def ask(asked: Asked, user: UserId = "anonymous", session: SessionId = "none") -> dict[str, Any]:
    """A short answer in one piece."""
    return bot.ask(Question(asked.question, user, session, asked.feature))


@app.post("/research")
def research(asked: Asked, user: UserId = "anonymous", session: SessionId = "none") -> dict[str, Any]:
    """An answer by the agent, which uses a tool."""
    return bot.research(Question(asked.question, user, session, asked.feature))


@app.post("/chat")
def chat(asked: Asked, user: UserId = "anonymous", session: SessionId = "none") -> StreamingResponse:
    """An answer as server-sent events."""
    question = Question(asked.question, user, session, asked.feature)
    return StreamingResponse(events(question), media_type="text/event-stream")


def events(question: Question) -> Iterator[str]:
    """The pieces of an answer as server-sent events, closed by `[DONE]`."""
    for piece in bot.chat(question):
        yield f"data: {json.dumps({'text': piece})}\n\n"
    yield "data: [DONE]\n\n"


class Feedback(BaseModel):
    """Thumbs of a user on an answer."""

    trace_id: str
    thumbs_up: bool
    comment: str | None = None


@app.post("/feedback")
def feedback(said: Feedback) -> dict[str, str]:
    """Thumbs up or down on the answer with this trace id."""
    tt.score("thumbs", said.thumbs_up, comment=said.comment, trace_id=said.trace_id)
    return {"status": "thanks"}


@app.get("/health")
def health() -> JSONResponse:
    """Liveness; leaves no trace."""
    return JSONResponse({"status": "ok"})
