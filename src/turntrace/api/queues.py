"""`/annotation-queues`: what people are asked of which turns; turns go in by id, reviews come out as scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.api.access import require
from turntrace.api.answer import time as instant
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.problem import bad_body
from turntrace.api.schema import Schema, boolean, free, integer, listing, moment, nullable, record, text
from turntrace.errors import InvalidInput
from turntrace.evaluation.queue import MOST_REVIEWERS, Queue, QueueItem, read_questions
from turntrace.jobs.queues import read_filter
from turntrace.storage import queues
from turntrace.storage.queues import MOST_AT_ONCE, Progress

STATUSES: Final = ("pending", "claimed", "done", "skipped")
BODY: Final[Schema] = record(
    {
        "name": text("unique", minLength=1, maxLength=100),
        "instructions": text("what stands beside every turn", maxLength=10_000),
        "questions": listing(
            text(), "`name: good | bad`, `name: yes/no`, `name: 1 to 5`, `name: text` or `name: correction`"
        ),
        "reviewers": integer("people who review each turn", minimum=1, maximum=MOST_REVIEWERS),
        "assignees": listing(text(), "account names; none: every annotator"),
        "daily": integer("turns of each past UTC day that go in by themselves", minimum=0, maximum=MOST_AT_ONCE),
        "filter": free("of which those are chosen, in the language of the lists"),
        "archived": boolean("hidden from reviewers"),
    },
    required=("name", "questions"),
)
_PROGRESS: Final = record(
    {"waiting": integer(), "in_hand": integer(), "done": integer(), "skipped": integer(), "total": integer()}
)
_SHAPE: Final = record(
    {
        "id": text(),
        **{name: BODY["properties"][name] for name in ("name", "instructions", "questions", "reviewers", "assignees")},
        "daily": integer(),
        "filter": nullable(free()),
        "archived": boolean(),
        "created_at": moment(),
        "progress": _PROGRESS,
    }
)
_ITEM: Final = record(
    {
        "id": text(),
        "trace_id": text("`id` of the turn"),
        "status": text(enum=list(STATUSES)),
        "reviewer": nullable(text()),
        "created_at": moment(),
        "finished_at": nullable(moment()),
    }
)
_TURNS: Final = record(
    {"trace_ids": listing(text(), f"ids of turns, at most {MOST_AT_ONCE:,}; unknown ones are passed over")}
)


def _now_us() -> int:
    return time.time_ns() // 1000


def _shape(queue: Queue, progress: Progress) -> dict[str, Any]:
    return {
        "id": queue.id,
        "name": queue.name,
        "instructions": queue.instructions,
        "questions": [question.written() for question in queue.questions],
        "reviewers": queue.reviewers,
        "assignees": list(queue.assignees),
        "daily": queue.daily,
        "filter": queue.filter,
        "archived": queue.is_archived,
        "created_at": instant(queue.created_at_us),
        "progress": {
            "waiting": progress.waiting,
            "in_hand": progress.in_hand,
            "done": progress.done,
            "skipped": progress.skipped,
            "total": progress.total,
        },
    }


def _item_shape(item: QueueItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "trace_id": item.turn_id,
        "status": item.status,
        "reviewer": item.reviewer,
        "created_at": instant(item.created_at_us),
        "finished_at": instant(item.finished_at_us),
    }


async def _list(call: Call) -> Answer:
    def query(c: Connection) -> list[dict[str, Any]]:
        found = queues.list_queues(c, with_archived=True)
        states = queues.progress(c, [queue.id for queue in found])
        return [_shape(queue, states[queue.id]) for queue in found]

    return Answer({"data": await call.read(query), "next_cursor": None})


def _one(c: Connection, queue_id: str) -> dict[str, Any]:
    return _shape(queues.get(c, queue_id), queues.progress(c, [queue_id])[queue_id])


async def _get(call: Call) -> Answer:
    return Answer(await call.read(_one, call.request.path_params["queue_id"]))


async def _create(call: Call) -> Answer:
    body = await _body(call)
    return Answer(await call.run(call.context.database.transact, _store, None, await _redacted(call, body)), 201)


async def _replace(call: Call) -> Answer:
    body = await _body(call)
    queue_id = call.request.path_params["queue_id"]
    return Answer(await call.run(call.context.database.transact, _store, queue_id, await _redacted(call, body)))


async def _body(call: Call) -> Mapping[str, Any]:
    """The definition; one that fills itself tells by its progress how many turns its filter finds."""
    body = await call.body()
    if body.get("filter") and call.principal is not None:
        require(call.principal, ("write",), ("read",))
    return body


async def _redacted(call: Call, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name and instructions may quote somebody: redacted before they are stored."""

    def redacted() -> dict[str, str]:
        texts = {name: body[name] for name in ("name", "instructions") if body.get(name)}
        return {name: call.context.redact_text(text) for name, text in texts.items()}

    return {**body, **await call.run(redacted)}


def _store(c: Connection, queue_id: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        queue = _queue(body)
        if queue_id is not None:
            queue = replace(queue, id=queues.get(c, queue_id).id)
        made = queues.put(c, queue, now_us=_now_us())
    except InvalidInput as error:
        raise bad_body(f"$.{error.field}" if error.field else "$", f"{error}.") from None
    return _one(c, made.id)


def _queue(body: Mapping[str, Any]) -> Queue:
    given = body.get("filter")
    if given:
        read_filter(given)
    return Queue(
        id="",
        name=body["name"].strip(),
        instructions=body.get("instructions", ""),
        questions=read_questions(body["questions"]),
        reviewers=body.get("reviewers", 1),
        assignees=tuple(body.get("assignees", ())),
        daily=body.get("daily", 0),
        filter={name: str(value) for name, value in given.items()} if given else None,
        is_archived=body.get("archived", False),
    )


async def _items(call: Call) -> Answer:
    def query(c: Connection) -> list[dict[str, Any]]:
        queue = queues.get(c, call.request.path_params["queue_id"])
        found = (queues.list_items(c, queue.id, status=status, limit=500) for status in STATUSES)
        return [_item_shape(item) for items in found for item in items]

    return Answer({"data": await call.read(query), "next_cursor": None})


async def _fill(call: Call) -> Answer:
    body = await call.body()
    if len(body["trace_ids"]) > MOST_AT_ONCE:
        raise bad_body("$.trace_ids", f"At most {MOST_AT_ONCE:,} turns at once.")

    def work(c: Connection) -> int:
        queue = queues.get(c, call.request.path_params["queue_id"])
        return queues.fill(c, queue, body["trace_ids"], now_us=_now_us())

    return Answer({"added": await call.run(call.context.database.transact, work)}, 201)


def _endpoint(method: str, path: str, name: str, summary: str, handle: Any, **more: Any) -> Endpoint:
    if "{queue_id}" in path:
        more["path_parameters"] = {"queue_id": "`id` of the queue"}
    if method != "GET":
        more["scopes"] = ("write",)
    return Endpoint(method=method, path=path, name=name, summary=summary, handle=handle, **more)


def _page_of(item: Schema) -> Schema:
    return record({"data": listing(item), "next_cursor": nullable(text())})


_ALL: Final = "/annotation-queues"
_ONE: Final = "/annotation-queues/{queue_id}"
_ANSWER: Final = {200: ("the queue", _SHAPE)}
ENDPOINTS: Final[Sequence[Endpoint]] = (
    _endpoint("GET", _ALL, "listAnnotationQueues", "Queues", _list, answers={200: ("all", _page_of(_SHAPE))}),
    _endpoint("POST", _ALL, "createAnnotationQueue", "Add a queue", _create, body=BODY, answers={201: ("it", _SHAPE)}),
    _endpoint("GET", _ONE, "getAnnotationQueue", "One queue", _get, answers=_ANSWER),
    _endpoint("PUT", _ONE, "replaceAnnotationQueue", "Its definition, whole", _replace, body=BODY, answers=_ANSWER),
    _endpoint(
        "GET",
        f"{_ONE}/items",
        "listAnnotationQueueItems",
        "Its reviews, at most 500 of each status",
        _items,
        answers={200: ("reviews", _page_of(_ITEM))},
    ),
    _endpoint(
        "POST",
        f"{_ONE}/items",
        "fillAnnotationQueue",
        "Put turns in; those that are in stay as they are",
        _fill,
        body=_TURNS,
        answers={201: ("how many are new", record({"added": integer()}))},
    ),
)
