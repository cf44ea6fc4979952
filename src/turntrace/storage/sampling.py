"""Turns that sampling left out are held for a time; then those that nobody said anything about go."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, exists, or_, select, update

from turntrace.storage import bulk, losses, strays, switches, tables, tombstones
from turntrace.storage.sessions import SessionTotals

HELD: Final = "held"
WATERMARK: Final = "sampling_watermark_us"  # what was stored before has been judged
LOW: Final = 0.5  # an evaluator's number below it
_t = tables.trace.c
_s = tables.score.c


def settle(connection: Connection, *, stored_before_us: int, limit: int, now_us: int) -> tuple[int, int]:
    """Judge held turns that were stored before an instant; answers how many were kept and how many went.

    Whoever stores turns is kept out: a late fragment finds its turn whole, or knows that it is gone.
    """
    tombstones.take_fence(connection, exclusive=True)
    since_us = int(switches.get(connection, WATERMARK) or 0)
    where = (_t.updated_at_us >= since_us, _t.updated_at_us < stored_before_us, _t.keep_reason == HELD)
    kept = list(connection.execute(select(_t.id).where(*where, _is_wanted()).limit(limit)).scalars())
    if kept:
        connection.execute(update(tables.trace).where(_t.id.in_(kept)).values(keep_reason="score"))
    rows = connection.execute(select(tables.trace).where(*where, ~_is_wanted()).limit(limit)).mappings().all()
    _let_go(connection, rows, now_us)
    if len(rows) < limit and len(kept) < limit:
        switches.put(connection, WATERMARK, str(stored_before_us), now_us=now_us)
    return len(kept), len(rows)


def _is_wanted() -> ColumnElement[bool]:
    """Somebody judged it, or an evaluator judged it low, or it is somebody's work."""
    is_low = or_(_s.flag.is_(False), _s.number < LOW)
    score = exists().where(_s.turn_id == _t.id, or_(_s.source != "evaluator", is_low))
    used = (exists().where(table.c.turn_id == _t.id) for table in (tables.comment, tables.queue_item))
    source = tables.dataset_item.c
    return or_(score, *used, exists().where(source.turn_id == _t.id))


def _let_go(connection: Connection, rows: Sequence[Any], now_us: int) -> None:
    if not rows:
        return
    ids = [row["id"] for row in rows]
    sessions = SessionTotals()
    for row in rows:
        sessions.add_row(row, -1)
    bulk.delete_keys(connection, tables.trace, "id", ids)
    bulk.delete_keys(connection, tables.observation, "turn_id", ids)
    strays.drop_contents(connection, ids)
    statement = bulk.insert_missing(connection.dialect.name, tables.sampled)
    connection.execute(statement, [{"turn_id": row["id"], "at_us": row["started_at_us"]} for row in rows])
    sessions.store(connection)
    losses.append(connection, {"stored": -len(rows), "sampled": len(rows)}, now_us=now_us)
