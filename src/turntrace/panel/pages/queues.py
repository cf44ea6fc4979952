"""Queues of turns that people review: the list, a queue with its progress and agreement, its form, and filling it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.evaluation.agreement import Agreement, agreement
from turntrace.evaluation.queue import READY, Queue, QueueItem, read_questions, written
from turntrace.panel.gate.role import Role
from turntrace.panel.narrowing import Narrowing, narrowing
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import queues
from turntrace.storage.queries.traces import list_ids
from turntrace.storage.queues import Progress

MOST_MATCHES: Final = 20_000  # of so many of the newest turns some are chosen
SHOWN_ITEMS: Final = 50
DONE: Final = {
    "saved": "The queue is saved.",
    "filled": "The turns are in the queue.",
    "nothing": "All of these turns were in the queue already.",
    "empty": "No turn is left for you in this queue.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One queue of the list."""

    queue: Queue
    progress: Progress
    may_review: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Accord:
    """How far reviewers of the same turns agree on one question; None: nobody reviewed a turn that another did."""

    name: str
    counts: Mapping[str, int]
    found: Agreement | None


def show(request: Request) -> Response:
    """`GET /queues`."""
    visit = _annotator(request)
    with visit.context.database.read() as connection:
        found = queues.list_queues(connection)
        states = queues.progress(connection, [queue.id for queue in found])
    lines = [
        Line(queue=queue, progress=states[queue.id], may_review=may_review(visit, queue))
        for queue in found
        if may_review(visit, queue)
    ]
    visit.message = DONE.get(request.query_params.get("done", ""))
    return visit.render("queues.html", section="queues", title="Review", lines=lines, may_change=_may_change(visit))


def one(request: Request) -> Response:
    """`GET /queues/{queue_id}`: progress, agreement, and the latest reviews."""
    visit = _annotator(request)
    with visit.context.database.read() as connection:
        queue = reviewable(visit, connection, request.path_params["queue_id"])
        state = queues.progress(connection, [queue.id])[queue.id]
        said = queues.answers(connection, queue)
        items: list[QueueItem] = queues.list_items(connection, queue.id, limit=SHOWN_ITEMS)
    visit.message = DONE.get(request.query_params.get("done", ""))
    return visit.render(
        "queue.html",
        section="queues",
        title=queue.name,
        queue=queue,
        progress=state,
        accords=[_accord(name, given) for name, given in said.items() if given],
        items=items,
        may_change=_may_change(visit),
    )


def _accord(name: str, given: list[tuple[str, str]]) -> Accord:
    counts: dict[str, int] = {}
    by_turn: dict[str, list[str]] = {}
    for turn_id, value in given:
        counts[value] = counts.get(value, 0) + 1
        by_turn.setdefault(turn_id, []).append(value)
    pairs = [(values[0], other) for values in by_turn.values() for other in values[1:]]
    return Accord(name=name, counts=counts, found=agreement(pairs, resamples=200))


def form(request: Request) -> Response:
    """`GET /queues/edit`: a new queue, or the one that `id` names."""
    visit = _operator(request)
    queue_id = request.query_params.get("id", "")
    values: Mapping[str, str] = {"questions": READY, "reviewers": "1", "daily": "0"}
    if queue_id:
        with visit.context.database.read() as connection:
            values = _values(queues.get(connection, queue_id))
    return _form(visit, values)


def save(request: Request) -> Response:
    """`POST /queues/save`: the fields of the form."""
    visit = _operator(request)
    try:
        made = visit.context.database.transact(_store, visit, _queue(visit))
    except InvalidInput as error:
        return _form(visit, visit.form, error=str(error), code=400)
    if made.is_archived:
        return visit.back_to("queues", done="saved")
    return visit.back_to(f"queues/{made.id}", done="saved")


def _form(visit: Visit, values: Mapping[str, str], *, error: str | None = None, code: int = 200) -> Response:
    return visit.render(
        "queue_form.html", code=code, section="queues", title="Queue", values=values, error=error, ready=READY
    )


def _values(queue: Queue) -> dict[str, str]:
    filters = "&".join(f"{name}={value}" for name, value in (queue.filter or {}).items())
    return {
        "id": queue.id,
        "name": queue.name,
        "instructions": queue.instructions,
        "questions": written(queue.questions),
        "reviewers": str(queue.reviewers),
        "assignees": ", ".join(queue.assignees),
        "daily": str(queue.daily),
        "filter": filters,
        "is_archived": "1" if queue.is_archived else "",
    }


def _queue(visit: Visit) -> Queue:
    given = visit.form
    return Queue(
        id=given.get("id", ""),
        name=_redacted(visit, given.get("name", "").strip()),
        instructions=_redacted(visit, given.get("instructions", "").strip()),
        questions=read_questions(given.get("questions", "").splitlines()),
        reviewers=_number(given, "reviewers"),
        assignees=tuple(name.strip() for name in given.get("assignees", "").split(",") if name.strip()),
        daily=_number(given, "daily"),
        filter=_filter(given.get("filter", ""), visit.now_us),
        is_archived=bool(given.get("is_archived")),
    )


def _redacted(visit: Visit, text: str) -> str:
    redact = visit.context.redact_text
    return redact(text) if redact is not None and text else text


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "").strip() or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise InvalidInput(f"{name}: a whole number", field=name)
    return int(text)


def _filter(text: str, now_us: int) -> dict[str, str]:
    """Filters as they stand in the address of the trace list, such as `status=error&feature=support`."""
    pairs = [part.partition("=") for part in text.strip().lstrip("?").split("&") if part.strip()]
    given = {name.strip(): value.strip() for name, _, value in pairs}
    found = narrowing(given, now_us=now_us)
    known = {name: value for name, value in found.params if name not in ("range", "from", "to")}
    if len(known) != len(given):
        unknown = ", ".join(sorted(set(given) - set(known)))[:100]
        raise InvalidInput(f"filter: the trace list does not know {unknown}", field="filter")
    return known


def _store(connection: Connection, visit: Visit, queue: Queue) -> Queue:
    made = queues.put(connection, queue, now_us=visit.now_us)
    details = {"reviewers": made.reviewers, "daily": made.daily, "is_archived": made.is_archived}
    noted(connection, visit, "queue.save", made.id, **details)
    return made


def filling(request: Request) -> Response:
    """`GET /queues/fill`: the turns that the filters in the address match, or the one of `turn`, into a queue."""
    visit = _operator(request)
    narrowed = narrowing(request.query_params, now_us=visit.now_us)
    with visit.context.database.read() as connection:
        found = queues.list_queues(connection)
        matches = len(_matching(connection, visit, narrowed, request.query_params))
    return visit.render(
        "queue_fill.html",
        section="queues",
        title="Put turns into a queue",
        queues=found,
        matches=matches,
        most=MOST_MATCHES,
        params=narrowed.params,
        narrowing=narrowed,
        turn=request.query_params.get("turn", ""),
    )


def fill(request: Request) -> Response:
    """`POST /queues/fill`: field `queue`, `number` (0: all), the filters or `turn`."""
    visit = _operator(request)
    narrowed = narrowing(visit.form, now_us=visit.now_us)
    number = _number(visit.form, "number") or MOST_MATCHES
    with visit.context.database.read() as connection:
        turn_ids = _matching(connection, visit, narrowed, visit.form)
    chosen = turn_ids if number >= len(turn_ids) else random.sample(turn_ids, number)
    queue_id = visit.form.get("queue", "")
    added = visit.context.database.transact(_fill, visit, queue_id, chosen)
    return visit.back_to(f"queues/{queue_id}", done="filled" if added else "nothing")


def _matching(connection: Connection, visit: Visit, narrowed: Narrowing, given: Mapping[str, str]) -> list[str]:
    if turn := given.get("turn"):
        return [turn]
    return list_ids(connection, narrowed.filter, limit=MOST_MATCHES)


def _fill(connection: Connection, visit: Visit, queue_id: str, turn_ids: list[str]) -> int:
    queue = queues.get(connection, queue_id)
    added = 0
    for start in range(0, len(turn_ids), queues.MOST_AT_ONCE):
        added += queues.fill(connection, queue, turn_ids[start : start + queues.MOST_AT_ONCE], now_us=visit.now_us)
    noted(connection, visit, "queue.fill", queue.id, turns=added)
    return added


def may_review(visit: Visit, queue: Queue) -> bool:
    """Whether this person sees a queue: its reviewers, and who may change it."""
    return not queue.is_archived and (queue.is_for(visit.viewer.name) or _may_change(visit))


def reviewable(visit: Visit, connection: Connection, queue_id: str) -> Queue:
    """A queue that this person may see.

    Raises:
        NotFound: there is none. HTTPException: it is for others.
    """
    queue = queues.get(connection, queue_id)
    if not may_review(visit, queue):
        raise HTTPException(403)
    return queue


def _may_change(visit: Visit) -> bool:
    return visit.viewer.may(Role.OPERATOR)


def _annotator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.may_score:
        raise HTTPException(403)
    return visit


def _operator(request: Request) -> Visit:
    visit = visit_of(request)
    if not _may_change(visit):
        raise HTTPException(403)
    return visit
