"""Queues of turns that people review: filled once per turn, claimed by one reviewer at a time, ended once.

A turn that several people are to review has as many items, `<turn id>#<number>`; nobody gets two of them.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection, RowMapping, and_, func, or_, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.evaluation.queue import MOST_REVIEWERS, Queue, QueueItem, read_questions
from turntrace.records.score import Score
from turntrace.storage import bulk, scores, tables, tombstones

LEASE_US: Final = 15 * 60 * 1_000_000  # how long a turn is kept for who has opened it
MOST_AT_ONCE: Final = 5000
_MOST_INSTRUCTIONS: Final = 10_000
_MOST_NAME: Final = 100

_q = tables.annotation_queue.c
_i = tables.queue_item.c
_t = tables.trace.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Items of a queue by what became of them."""

    waiting: int = 0
    in_hand: int = 0
    done: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.in_hand + self.done + self.skipped


def put(connection: Connection, queue: Queue, *, now_us: int) -> Queue:
    """Store a queue; one without an id is new.

    Raises:
        InvalidInput: a field is not allowed, or the name is taken. NotFound: there is none with this id.
    """
    _check(queue)
    taken = connection.execute(select(_q.id).where(_q.name == queue.name)).scalar()
    if taken is not None and taken != queue.id:
        raise InvalidInput("name: another queue has it", field="name")
    values = {
        "name": queue.name,
        "description": queue.instructions or None,
        "definition": _definition(queue),
        "is_archived": queue.is_archived,
        "updated_at_us": now_us,
    }
    if not queue.id:
        queue_id = secrets.token_hex(16)
        row = {"id": queue_id, "created_at_us": now_us, **values}
        connection.execute(tables.annotation_queue.insert().values(row))
        return get(connection, queue_id)
    found = connection.execute(update(tables.annotation_queue).where(_q.id == queue.id).values(values))
    if not found.rowcount:
        raise NotFound("There is no such queue.")
    return get(connection, queue.id)


def _check(queue: Queue) -> None:
    if not 0 < len(queue.name) <= _MOST_NAME:
        raise InvalidInput(f"name: 1 to {_MOST_NAME} characters", field="name")
    if len(queue.instructions) > _MOST_INSTRUCTIONS:
        raise InvalidInput(f"instructions: at most {_MOST_INSTRUCTIONS:,} characters", field="instructions")
    if not 1 <= queue.reviewers <= MOST_REVIEWERS:
        raise InvalidInput(f"reviewers: 1 to {MOST_REVIEWERS}", field="reviewers")
    if not 0 <= queue.daily <= MOST_AT_ONCE:
        raise InvalidInput(f"daily: 0 to {MOST_AT_ONCE:,} turns", field="daily")
    read_questions(question.written() for question in queue.questions)


def _definition(queue: Queue) -> str:
    return orjson.dumps(
        {
            "questions": [question.written() for question in queue.questions],
            "reviewers": queue.reviewers,
            "assignees": queue.assignees,
            "daily": queue.daily,
            "filter": queue.filter,
        }
    ).decode()


def get(connection: Connection, queue_id: str) -> Queue:
    """A queue.

    Raises:
        NotFound: there is none with this id.
    """
    row = connection.execute(select(tables.annotation_queue).where(_q.id == queue_id)).mappings().first()
    if row is None:
        raise NotFound("There is no such queue.")
    return _queue(row)


def list_queues(connection: Connection, *, with_archived: bool = False) -> list[Queue]:
    """All queues by name."""
    statement = select(tables.annotation_queue).order_by(_q.name)
    shown = statement if with_archived else statement.where(_q.is_archived.is_(False))
    return [_queue(row) for row in connection.execute(shown).mappings()]


def _queue(row: RowMapping) -> Queue:
    definition: dict[str, Any] = orjson.loads(row["definition"])
    return Queue(
        id=row["id"],
        name=row["name"],
        instructions=row["description"] or "",
        questions=read_questions(definition["questions"]),
        reviewers=int(definition["reviewers"]),
        assignees=tuple(definition["assignees"]),
        daily=int(definition["daily"]),
        filter=definition["filter"],
        is_archived=bool(row["is_archived"]),
        created_at_us=int(row["created_at_us"]),
    )


def progress(connection: Connection, queue_ids: Iterable[str]) -> dict[str, Progress]:
    """How far these queues are, by id."""
    wanted = list(queue_ids)
    counts: dict[str, dict[str, int]] = {queue_id: {} for queue_id in wanted}
    statement = select(_i.queue_id, _i.status, func.count()).where(_i.queue_id.in_(wanted))
    for queue_id, status, number in connection.execute(statement.group_by(_i.queue_id, _i.status)):
        counts[queue_id][status] = int(number)
    return {
        queue_id: Progress(
            waiting=found.get("pending", 0),
            in_hand=found.get("claimed", 0),
            done=found.get("done", 0),
            skipped=found.get("skipped", 0),
        )
        for queue_id, found in counts.items()
    }


def fill(connection: Connection, queue: Queue, turn_ids: Sequence[str], *, now_us: int) -> int:
    """Put turns into a queue, each once; answers how many were not in it. Turns that are not stored are left out."""
    wanted = list(dict.fromkeys(turn_ids))[:MOST_AT_ONCE]
    tombstones.take_fence(connection)  # a turn that is erased meanwhile must not come back as an item
    rows: list[dict[str, Any]] = []
    for found in connection.execute(select(_t.id, _t.session_id, _t.user_id).where(_t.id.in_(wanted))):
        rows += [_item_row(queue, found, number, now_us) for number in range(queue.reviewers)]
    if not rows:
        return 0
    statement = bulk.insert_missing(connection.dialect.name, tables.queue_item)
    return int(connection.execute(statement, rows).rowcount) // queue.reviewers


def _item_row(queue: Queue, turn: Any, number: int, now_us: int) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(16),
        "queue_id": queue.id,
        "target_id": f"{turn.id}#{number}",
        "status": "pending",
        "turn_id": turn.id,
        "session_id": turn.session_id,
        "user_id": turn.user_id,
        "created_at_us": now_us,
    }


def claim(connection: Connection, queue: Queue, reviewer: str, *, now_us: int) -> QueueItem | None:
    """The next turn for this reviewer, theirs until the lease ends; first the one they have open. None: no more."""
    # One at a time: of two looks at once by one reviewer, the second is to see what the first has opened.
    connection.execute(select(_q.id).where(_q.id == queue.id).with_for_update())
    own = select(tables.queue_item).where(_i.queue_id == queue.id, _i.status == "claimed", _i.reviewer == reviewer)
    row = connection.execute(own.order_by(_i.created_at_us, _i.id).limit(1).with_for_update()).mappings().first()
    if row is None:
        row = connection.execute(_next(queue, reviewer, now_us)).mappings().first()
    if row is None:
        return None
    values = {"status": "claimed", "reviewer": reviewer, "lease_until_us": now_us + LEASE_US}
    connection.execute(update(tables.queue_item).where(_i.id == row["id"]).values(values))
    return item(connection, row["id"])


def _next(queue: Queue, reviewer: str, now_us: int) -> Any:
    other = tables.queue_item.alias("other")
    is_free = or_(_i.status == "pending", and_(_i.status == "claimed", _i.lease_until_us < now_us))
    mine = select(other.c.turn_id).where(
        other.c.queue_id == queue.id, other.c.reviewer == reviewer, other.c.status.in_(("done", "skipped"))
    )
    found = select(tables.queue_item).where(_i.queue_id == queue.id, is_free)
    if queue.reviewers > 1:
        found = found.where(_i.turn_id.not_in(mine))
    return found.order_by(_i.created_at_us, _i.id).limit(1).with_for_update(skip_locked=True)


def item(connection: Connection, item_id: str) -> QueueItem:
    """An item.

    Raises:
        NotFound: there is none with this id.
    """
    row = connection.execute(select(tables.queue_item).where(_i.id == item_id)).mappings().first()
    if row is None:
        raise NotFound("This review is gone: its turn was erased, or there never was one.")
    names = ("id", "queue_id", "turn_id", "status", "reviewer", "lease_until_us", "created_at_us", "finished_at_us")
    return QueueItem(**{name: row[name] for name in names})


def finish(connection: Connection, item_id: str, reviewer: str, found: Iterable[Score], *, now_us: int) -> None:
    """End a review with its scores; a review of theirs that is ended is replaced.

    Raises:
        NotFound: the item or its turn is gone.
        InvalidInput: somebody else has taken it over, or a score is not allowed.
    """
    _end(connection, item_id, reviewer, "done", now_us)
    for score in found:
        scores.upsert(connection, score, now_us=now_us)


def skip(connection: Connection, item_id: str, reviewer: str, *, now_us: int) -> None:
    """Leave a turn unreviewed.

    Raises:
        NotFound: the item is gone. InvalidInput: somebody else has taken it over.
    """
    _end(connection, item_id, reviewer, "skipped", now_us)


def _end(connection: Connection, item_id: str, reviewer: str, status: str, now_us: int) -> None:
    is_theirs = and_(_i.id == item_id, _i.reviewer == reviewer, _i.status != "pending")
    values = {"status": status, "lease_until_us": None, "finished_at_us": now_us}
    if not connection.execute(update(tables.queue_item).where(is_theirs).values(values)).rowcount:
        item(connection, item_id)
        raise InvalidInput("This turn was open for too long, and somebody else reviews it now.")


def score_id(item_id: str, name: str) -> str:
    """The id of the score that answers one question of a review: the same when it is answered again."""
    return hashlib.sha256(f"{item_id}\n{name}".encode()).hexdigest()[:32]


def list_items(connection: Connection, queue_id: str, *, status: str = "done", limit: int = 50) -> list[QueueItem]:
    """Items that ended in this way, the latest first."""
    statement = select(_i.id).where(_i.queue_id == queue_id, _i.status == status)
    ids = connection.execute(statement.order_by(_i.finished_at_us.desc(), _i.id).limit(limit)).scalars()
    return [item(connection, item_id) for item_id in ids]


def answers(connection: Connection, queue: Queue, *, limit: int = 2000) -> Mapping[str, list[tuple[str, str]]]:
    """What reviewers said, by question: (turn id, value as text), oldest first; written answers are left out."""
    asked = [question for question in queue.questions if question.choices]
    done = select(_i.id, _i.turn_id).where(_i.queue_id == queue.id, _i.status == "done")
    items = connection.execute(done.order_by(_i.finished_at_us.desc()).limit(limit)).all()
    named = {score_id(row.id, question.name): (row.turn_id, question) for row in items for question in asked}
    found: dict[str, list[tuple[str, str]]] = {question.name: [] for question in asked}
    keys = list(named)
    for start in range(0, len(keys), bulk.KEYS_AT_ONCE):
        s = tables.score.c
        part = select(s.id, s.number, s.flag, s.text).where(s.id.in_(keys[start : start + bulk.KEYS_AT_ONCE]))
        for row in connection.execute(part):
            turn_id, question = named[row.id]
            found[question.name].append((turn_id, _said(question.data_type, row)))
    return found


def _said(data_type: str, row: Any) -> str:
    if data_type == "boolean":
        return "yes" if row.flag else "no"
    return f"{row.number:g}" if data_type == "numeric" else row.text
