"""Reviewing one turn after the other: the conversation on one side, the questions of the queue on the other."""

from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput, NotFound
from turntrace.evaluation.queue import Queue, QueueItem
from turntrace.panel.pages.queues import reviewable
from turntrace.panel.pages.sessions import answer_of
from turntrace.panel.trail import looked, noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import queues
from turntrace.storage.queries.traces import find_traces, of_session

EARLIER_TURNS: Final = 5
MAX_TEXT: Final = 10_000
Path = Mapping[str, str]  # `queue_id` and `item_id` of the address
_ENDED: Final = ("done", "skipped")


def take(request: Request) -> Response:
    """`POST /queues/{queue_id}/next`: claim the next turn and go to it."""
    visit = _annotator(request)
    queue_id = request.path_params["queue_id"]
    item = visit.context.database.transact(_claim, visit, queue_id)
    if item is None:
        return visit.back_to(f"queues/{queue_id}", done="empty")
    return visit.back_to(f"queues/{queue_id}/items/{item.id}")


def _claim(connection: Connection, visit: Visit, queue_id: str) -> QueueItem | None:
    queue = reviewable(visit, connection, queue_id)
    return queues.claim(connection, queue, visit.viewer.name, now_us=visit.now_us)


def show(request: Request) -> Response:
    """`GET /queues/{queue_id}/items/{item_id}`: the turn and its questions."""
    return _page(_annotator(request), request.path_params)


def save(request: Request) -> Response:
    """`POST /queues/{queue_id}/items/{item_id}/save`: fields `answer-<number of the question>`, `comment`."""
    visit = _annotator(request)
    try:
        visit.context.database.transact(_finish, visit, request.path_params)
    except InvalidInput as error:
        return _page(visit, request.path_params, error=str(error), code=400)
    return take(request)


def skip(request: Request) -> Response:
    """`POST /queues/{queue_id}/items/{item_id}/skip`: nothing to say of this turn."""
    visit = _annotator(request)
    try:
        visit.context.database.transact(_skip, visit, request.path_params)
    except InvalidInput as error:
        return _page(visit, request.path_params, error=str(error), code=400)
    return take(request)


def _page(visit: Visit, path: Path, *, error: str | None = None, code: int = 200) -> Response:
    with visit.context.database.read() as connection:
        queue, item = _item(connection, visit, path)
        turns = find_traces(connection, item.turn_id)
        state = queues.progress(connection, [queue.id])[queue.id]
        if not turns:
            raise NotFound("The turn of this review is gone.")
        earlier = _earlier(connection, turns[0])
    mine = _given(queue, item, turns[0], visit)
    place = f"queues/{path['queue_id']}/items/{path['item_id']}"
    if visit.request.method == "POST":
        looked(visit, "page.view", f"/{place}")
    return visit.render(
        "review.html",
        code=code,
        section="queues",
        title=queue.name,
        queue=queue,
        item=item,
        progress=state,
        turn=turns[0],
        answer=answer_of(turns[0]),
        earlier=[(turn, answer_of(turn)) for turn in earlier],
        given={**mine, **visit.form},
        is_mine=item.reviewer == visit.viewer.name,
        error=error,
        place=place,
    )


def _item(connection: Connection, visit: Visit, path: Path) -> tuple[Queue, QueueItem]:
    queue = reviewable(visit, connection, path["queue_id"])
    item = queues.item(connection, path["item_id"])
    if item.queue_id != queue.id:
        raise NotFound("This review is of another queue.")
    return queue, item


def _earlier(connection: Connection, turn: Trace) -> tuple[Trace, ...]:
    """What was said before in the same conversation."""
    if not turn.session_id:
        return ()
    found = of_session(connection, turn.session_id, turn.user_id, with_unknown=False, limit=200)
    before = [other for other in found if other.started_at_us < turn.started_at_us]
    return tuple(before[-EARLIER_TURNS:])


def _given(queue: Queue, item: QueueItem, turn: Trace, visit: Visit) -> dict[str, str]:
    """What this person has answered before, to look at it or to change it."""
    if item.status not in _ENDED or item.reviewer != visit.viewer.name:
        return {}
    stored = {score.id: score for score in turn.scores}
    found: dict[str, str] = {}
    for number, question in enumerate(queue.questions):
        score = stored.get(queues.score_id(item.id, question.name))
        if score is not None:
            found[f"answer-{number}"] = _shown(score.value)
            found["comment"] = score.comment or found.get("comment", "")
    return found


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _finish(connection: Connection, visit: Visit, path: Path) -> None:
    queue, item = _item(connection, visit, path)
    found = list(_scores(queue, item, visit.form, visit))
    if not found:
        raise InvalidInput("Answer at least one question, or skip the turn.")
    queues.finish(connection, item.id, visit.viewer.name, found, now_us=visit.now_us)
    noted(connection, visit, "queue.review", item.turn_id, queue=queue.id, scores=len(found))


def _scores(queue: Queue, item: QueueItem, given: Mapping[str, str], visit: Visit) -> Iterator[Score]:
    comment = _redacted(visit, given.get("comment", "").strip()[:MAX_TEXT]) or None
    for number, question in enumerate(queue.questions):
        answer = given.get(f"answer-{number}", "").strip()[:MAX_TEXT]
        if not answer:
            continue
        is_free = question.data_type in ("text", "correction")
        yield Score(
            id=queues.score_id(item.id, question.name),
            name=question.name,
            value=_redacted(visit, answer) if is_free else question.value(answer),
            data_type=question.data_type,
            source="human",
            turn_id=item.turn_id,
            comment=comment,
            author=visit.viewer.name,
            metadata={"queue": queue.name},
        )
        comment = None  # said once


def _redacted(visit: Visit, text: str) -> str:
    redact = visit.context.redact_text
    return redact(text) if redact is not None and text else text


def _skip(connection: Connection, visit: Visit, path: Path) -> None:
    _, item = _item(connection, visit, path)
    queues.skip(connection, item.id, visit.viewer.name, now_us=visit.now_us)
    noted(connection, visit, "queue.skip", item.turn_id)


def _annotator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.may_score:
        raise HTTPException(403)
    return visit
