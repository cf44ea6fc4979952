"""Adding a score to a turn or to one of its steps."""

from time import time_ns
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.score import Score
from turntrace.storage import scores

_TRUE: Final = frozenset({"true", "yes", "y", "1", "on", "good"})
_FALSE: Final = frozenset({"false", "no", "n", "0", "off", "bad"})
_FREE_TEXT: Final = frozenset({"text", "correction"})
MAX_TEXT: Final = 2_000
_TURN_ID: Final = 32


def add(request: Request) -> Response:
    """`POST /scores`: fields `target` (turn or observation id), `name`, `data_type`, `value`, `comment`, `next`."""
    visit = visit_of(request)
    if not visit.may_score:
        raise HTTPException(403)
    score = _score(visit)
    visit.context.database.transact(_store, visit, score)
    return visit.back("traces")


def _store(connection: Connection, visit: Visit, score: Score) -> None:
    scores.upsert(connection, score, now_us=time_ns() // 1000)
    noted(connection, visit, "score.add", score.turn_id, id=score.id)


def _score(visit: Visit) -> Score:
    form = visit.form
    kind = form.get("data_type", "numeric")
    target = form.get("target", "")
    value = value_of(kind, form.get("value", "").strip()[:MAX_TEXT])
    comment = form.get("comment", "").strip()[:MAX_TEXT]
    if isinstance(value, str) and kind in _FREE_TEXT:
        value = _redacted(visit, value)
    return Score(
        id=uuid4().hex,
        name=form.get("name", "").strip(),
        value=value,
        data_type=kind,
        source="human",
        turn_id=target[:_TURN_ID],
        span_id=target[_TURN_ID:] or None,
        comment=_redacted(visit, comment) or None,
        author=visit.viewer.name,
    )


def _redacted(visit: Visit, text: str) -> str:
    redact = visit.context.redact_text
    return redact(text) if redact is not None and text else text


def value_of(kind: str, text: str) -> Any:
    """The value a person typed, as the kind of score takes it.

    Raises:
        InvalidInput: not a number, not yes or no, nothing.
    """
    if not text:
        raise InvalidInput("value: say something", field="value")
    if kind == "boolean":
        if text.lower() not in _TRUE | _FALSE:
            raise InvalidInput("value: a boolean score takes yes or no", field="value")
        return text.lower() in _TRUE
    if kind == "numeric":
        try:
            return float(text)
        except ValueError:
            raise InvalidInput("value: a numeric score takes a number", field="value") from None
    return text
