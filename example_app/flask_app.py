"""The same bot on Flask. Run: `gunicorn -w 4 --threads 8 --preload example_app.flask_app:app`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from example_app.bot import Bot, Question
from turntrace import Turntrace, TurntraceWSGIMiddleware

tt = Turntrace(prices_file=str(Path(__file__).with_name("prices.json")))
bot = Bot(tt)
app = Flask(__name__)
app.wsgi_app = TurntraceWSGIMiddleware(app.wsgi_app, turntrace=tt, panel_path="/llm-admin")  # type: ignore[method-assign]


def _question() -> Question:
    body: dict[str, Any] = request.get_json(force=True)
    return Question(
        str(body["question"]),
        request.headers.get("X-User-Id", "anonymous"),
        request.headers.get("X-Session-Id", "none"),
        str(body.get("feature", "support-chat")),
    )


@app.post("/ask")
def ask() -> dict[str, Any]:
    """A short answer in one piece."""
    return bot.ask(_question())


@app.post("/research")
def research() -> dict[str, Any]:
    """An answer by the agent, which uses a tool."""
    return bot.research(_question())


@app.post("/chat")
def chat() -> Response:
    """An answer as server-sent events."""
    return Response(_events(_question()), mimetype="text/event-stream")


def _events(question: Question) -> Iterator[str]:
    for piece in bot.chat(question):
        yield f"data: {json.dumps({'text': piece})}\n\n"
    yield "data: [DONE]\n\n"


@app.post("/feedback")
def feedback() -> dict[str, str]:
    """Thumbs up or down on the answer with this trace id."""
    said: dict[str, Any] = request.get_json(force=True)
    tt.score("thumbs", bool(said["thumbs_up"]), comment=said.get("comment"), trace_id=str(said["trace_id"]))
    return {"status": "thanks"}


@app.get("/health")
def health() -> dict[str, str]:
    """Liveness; leaves no trace."""
    return {"status": "ok"}
