"""Scores: written once per id, and again under the same id replaces."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, or_, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.records.score import DATA_TYPES, SCORE_SOURCES, Score
from turntrace.storage import bulk, scoreconfigs, seal, tables, tombstones
from turntrace.storage.narrow import json_object

_s = tables.score.c
_t = tables.trace.c
_MOST_NAME: Final = 100
_MOST_ID: Final = 64
FREE_TEXT: Final = frozenset({"text", "correction"})  # values that are sealed where content is


@dataclass(frozen=True, slots=True)
class Upserted:
    """A stored score, and whether its id was new."""

    score: Score
    is_new: bool


def upsert(connection: Connection, score: Score, *, now_us: int) -> Upserted:
    """Store a score, or replace the one with its id. Subject and environment are taken from its turn.

    Raises:
        InvalidInput: a field is not allowed. NotFound: there is no such turn or observation.
    """
    check(score)
    scoreconfigs.check(connection, score)
    tombstones.take_fence(connection)  # or the turn could be erased between the look at it and the commit
    known = connection.execute(select(_s.created_at_us).where(_s.id == score.id)).scalar()
    created = now_us if known is None else int(known)
    stored = replace(_targeted(connection, score), created_at_us=created, updated_at_us=now_us)
    _put(connection, stored, is_new=known is None)
    return Upserted(stored, known is None)


def put_judged(connection: Connection, given: Sequence[Score], *, now_us: int) -> frozenset[str]:
    """Store scores of evaluators, or replace those with their ids, a handful of statements for all of them.

    The caller holds the fence.

    Returns:
        The ids of those whose target is there; the others are not stored.

    Raises:
        InvalidInput: a field is not allowed.
    """
    if not given:
        return frozenset()
    for score in given:
        check(score)
    turns = _turns_of(connection, given)
    steps = _steps_of(connection, given)
    found = [
        replace(_of_turn(score, turns), created_at_us=now_us, updated_at_us=now_us)
        for score in given
        if (score.turn_id is None or score.turn_id in turns)
        and (score.span_id is None or (score.turn_id, score.span_id) in steps)
    ]
    _upsert(connection, [_values(connection, score) for score in found])
    return frozenset(score.id for score in found)


def _turns_of(connection: Connection, given: Sequence[Score]) -> dict[str, Any]:
    wanted = sorted({score.turn_id for score in given if score.turn_id is not None})
    columns = (_t.id, _t.trace_id, _t.user_id, _t.environment)
    return {row.id: row for row in connection.execute(select(*columns).where(_t.id.in_(wanted)))} if wanted else {}


def _steps_of(connection: Connection, given: Sequence[Score]) -> set[tuple[str, str]]:
    o = tables.observation.c
    wanted = {(score.turn_id, score.span_id) for score in given if score.span_id is not None}
    if not wanted:
        return set()
    turn_ids, span_ids = sorted({turn or "" for turn, _ in wanted}), sorted({span for _, span in wanted})
    found = select(o.turn_id, o.span_id).where(o.turn_id.in_(turn_ids), o.span_id.in_(span_ids))
    return {(row.turn_id, row.span_id) for row in connection.execute(found)}


def _of_turn(score: Score, turns: Mapping[str, Any]) -> Score:
    """With the ids, subject and environment of its turn."""
    row = turns.get(score.turn_id or "")
    if row is None:
        return score
    user_id = row.user_id or score.user_id
    return replace(score, trace_id=row.trace_id, user_id=user_id, environment=row.environment)


def store(connection: Connection, scores: Iterable[Score], *, now_us: int) -> None:
    """Store scores that came through the spool: their turn may come later, or never."""
    for score in scores:
        known = connection.execute(select(_s.created_at_us).where(_s.id == score.id)).scalar()
        created = score.created_at_us or now_us if known is None else int(known)
        found = replace(_joined(connection, score), created_at_us=created, updated_at_us=now_us)
        _put(connection, found, is_new=known is None)


def adopt(connection: Connection, trace_ids: Iterable[str], *, now_us: int) -> None:
    """Join scores that came before the turns they name by a W3C id; only those have no environment."""
    is_waiting = (_s.trace_id.in_(bulk.rounded(set(trace_ids))), or_(_s.turn_id.is_(None), _s.environment.is_(None)))
    columns = (_s.id, _s.turn_id, _s.trace_id, _s.user_id, _s.environment)
    found = connection.execute(select(*columns).where(*is_waiting)).all()
    for row in found:
        bare = Score(
            id=row.id,
            name="",
            value=0.0,
            data_type="numeric",
            source="api",
            turn_id=row.turn_id,
            trace_id=row.trace_id,
            user_id=row.user_id,
            environment=row.environment,
        )
        joined = _joined(connection, bare)
        values = {"turn_id": joined.turn_id, "user_id": joined.user_id, "environment": joined.environment}
        connection.execute(update(tables.score).where(_s.id == row.id).values(**values, updated_at_us=now_us))


def check(score: Score) -> None:
    """Nothing for a score that may be stored.

    Raises:
        InvalidInput: otherwise; it names the field and what is allowed.
    """
    if not 0 < len(score.name) <= _MOST_NAME:
        raise InvalidInput(f"name: 1 to {_MOST_NAME} characters", field="name")
    if not 0 < len(score.id) <= _MOST_ID or not score.id.isascii():
        raise InvalidInput(f"id: 1 to {_MOST_ID} ASCII characters", field="id")
    if score.data_type not in DATA_TYPES:
        raise InvalidInput(f"data_type: one of {', '.join(DATA_TYPES)}", field="data_type")
    if score.source not in SCORE_SOURCES:
        raise InvalidInput(f"source: one of {', '.join(SCORE_SOURCES)}", field="source")
    if not (score.turn_id or score.session_id or score.dataset_item_id or score.run_item_id):
        raise InvalidInput("name a trace, an observation, a session or an item to score", field="trace_id")
    _check_value(score)


def _check_value(score: Score) -> None:
    value: Any = score.value
    if score.data_type == "boolean":
        fits, wanted = isinstance(value, bool), "true or false"
    elif score.data_type == "numeric":
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)
        wanted = "a finite number"
    else:
        fits, wanted = isinstance(value, str), "a text"
    if not fits:
        raise InvalidInput(f"value: a {score.data_type} score takes {wanted}", field="value")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _targeted(connection: Connection, score: Score) -> Score:
    if score.turn_id is None:
        return score
    o = tables.observation.c
    if connection.execute(select(_t.id).where(_t.id == score.turn_id)).first() is None:
        raise NotFound("no such trace")
    if score.span_id is not None:
        key = (o.turn_id == score.turn_id, o.span_id == score.span_id)
        if connection.execute(select(o.span_id).where(*key)).first() is None:
            raise NotFound("no such observation")
    return _joined(connection, score)


def _joined(connection: Connection, score: Score) -> Score:
    """With the ids, subject and environment of its turn, where that is stored. A W3C id that several turns share names
    none of them."""
    if score.turn_id is None and score.trace_id is None:
        return score
    is_target = _t.id == score.turn_id if score.turn_id is not None else _t.trace_id == score.trace_id
    columns = (_t.id, _t.trace_id, _t.user_id, _t.environment)
    rows = connection.execute(select(*columns).where(is_target).limit(2)).all()
    if len(rows) != 1:
        return score
    row = rows[0]
    return replace(
        score,
        turn_id=row.id,
        trace_id=row.trace_id,
        user_id=row.user_id or score.user_id,
        environment=row.environment,
    )


def _put(connection: Connection, score: Score, *, is_new: bool) -> None:
    values = _values(connection, score)
    if is_new:
        _upsert(connection, [values])
    else:
        connection.execute(update(tables.score).where(_s.id == score.id).values(values))


def _values(connection: Connection, score: Score) -> dict[str, Any]:
    values = _row(score)
    if score.data_type in FREE_TEXT:
        values["text"] = seal.sealed_text(connection.dialect, values["text"])
    return values


def _upsert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Two senders of one id at once: the later one replaces. When it was first given stays."""
    if not rows:
        return
    statement = bulk.upsert(
        connection.dialect.name,
        tables.score,
        lambda new: {name: getattr(new, name) for name in rows[0] if name not in ("id", "created_at_us")},
    )
    connection.execute(statement, rows)


def _row(score: Score) -> dict[str, Any]:
    value = score.value
    return {
        **{
            name: getattr(score, name)
            for name in [
                "id",
                "name",
                "data_type",
                "source",
                "turn_id",
                "trace_id",
                "span_id",
                "session_id",
                "dataset_item_id",
                "run_item_id",
                "user_id",
                "comment",
                "author",
                "evaluator",
                "evaluator_version",
                "environment",
                "created_at_us",
                "updated_at_us",
            ]
        },
        "number": float(value) if score.data_type == "numeric" else None,
        "flag": bool(value) if score.data_type == "boolean" else None,
        "text": str(value) if score.data_type not in ("numeric", "boolean") else None,
        "details": json_object(score.metadata),
    }
