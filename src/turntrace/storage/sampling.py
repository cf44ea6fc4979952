"""Turns that sampling left out are held for a time; then those that nobody said anything about go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, case, exists, func, or_, select, update

from turntrace.settings import Settings
from turntrace.storage import bulk, losses, strays, switches, tables, tombstones
from turntrace.storage.sessions import SessionTotals

HELD: Final = "held"
WATERMARK: Final = "sampling_watermark_us"  # what was stored before has been judged
LOW: Final = 0.5  # an evaluator's number below it
_t = tables.trace.c
_s = tables.score.c


@dataclass(frozen=True, slots=True)
class Always:
    """From which length, cost and tokens on a turn is kept whatever the rate."""

    slow_us: int
    costly_nano: int
    tokens: int

    @classmethod
    def of(cls, settings: Settings) -> "Always":
        """As these settings say it."""
        return cls(settings.keep_slow_ms * 1000, int(settings.keep_cost_usd * 1_000_000_000), settings.keep_tokens)


def settle(
    connection: Connection, *, always: Always, stored_before_us: int, limit: int, now_us: int
) -> tuple[int, int]:
    """Judge held turns that were stored before an instant; answers how many were kept and how many went.

    Whoever stores turns is kept out: a late fragment finds its turn whole, or knows that it is gone.
    """
    tombstones.take_fence(connection, exclusive=True)
    since_us = int(switches.get(connection, WATERMARK) or 0)
    where = (_t.updated_at_us >= since_us, _t.updated_at_us < stored_before_us, _t.keep_reason == HELD)
    reasons = _late_reasons(always)
    is_kept = or_(_is_wanted(), *(shows for shows, _ in reasons))
    kept = list(connection.execute(select(_t.id).where(*where, is_kept).limit(limit)).scalars())
    if kept:
        reason = case(*reasons, else_="score")
        connection.execute(update(tables.trace).where(_t.id.in_(kept)).values(keep_reason=reason))
    rows = connection.execute(select(tables.trace).where(*where, ~is_kept).limit(limit)).mappings().all()
    _let_go(connection, rows, now_us)
    if len(rows) < limit and len(kept) < limit:
        switches.put(connection, WATERMARK, str(stored_before_us), now_us=now_us)
    return len(kept), len(rows)


def _late_reasons(always: Always) -> list[tuple[ColumnElement[bool], str]]:
    """What is kept always, as `pipeline.sample` says it: late fragments may have brought it."""
    tokens = func.coalesce(_t.input_tokens, 0) + func.coalesce(_t.output_tokens, 0)
    return [
        (or_(_t.status == "error", _t.error_count > 0), "error"),
        (_t.outcome == "interrupted", "interrupted"),
        (func.coalesce(_t.duration_us, -1) >= always.slow_us, "slow"),
        (func.coalesce(_t.cost_total_nano, -1) >= always.costly_nano, "costly"),
        (tokens >= always.tokens, "tokens"),
        (func.coalesce(_t.flags, "").like('%"keep"%'), "flagged"),
    ]


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
