"""Evaluators as they are, and how their runs went."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, func, select

from turntrace.errors import NotFound
from turntrace.records.evaluator import Evaluator
from turntrace.storage import tables

_e = tables.evaluator.c
_v = tables.evaluator_version.c
_n = tables.evaluation.c
_b = tables.backfill.c
_EVALUATOR: Final = (
    *(_e.id, _e.name, _e.kind, _e.is_enabled, _e.version, _e.watermark_us, _e.failure_count),
    *(_e.blocked_until_us, _e.blocked_reason, _e.created_at_us, _e.updated_at_us),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One judgement asked for: where it stands and what came of it. `error` is a short word."""

    id: int
    target: str
    target_id: str
    version: int
    status: str
    attempt: int
    due_at_us: int
    error: str | None
    score_id: str | None
    judge_turn_id: str | None
    cost_nano: int | None
    turn_id: str | None
    span_id: str | None
    session_id: str | None
    created_at_us: int
    finished_at_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """History given to an evaluator, and how far it has come."""

    id: str
    evaluator_id: str
    evaluator_version: int
    status: str
    from_us: int
    to_us: int
    cursor: str | None
    planned: int
    created_at_us: int
    finished_at_us: int | None
    counts: Mapping[str, int]  # its judgements by status


def list_evaluators(c: Connection) -> list[Evaluator]:
    """All evaluators with their current versions, by name."""
    return [_evaluator(row) for row in c.execute(_current().order_by(_e.name)).mappings()]


def get(c: Connection, evaluator_id: str, *, version: int | None = None) -> Evaluator:
    """One evaluator with its current version, or another one.

    Raises:
        NotFound: no such evaluator or version.
    """
    statement = select(*_EVALUATOR, _v.definition, _v.sealed, _v.version.label("its_version"))
    wanted = _e.version if version is None else version
    joined = statement.join_from(tables.evaluator, tables.evaluator_version, _v.evaluator_id == _e.id)
    row = c.execute(joined.where(_e.id == evaluator_id, _v.version == wanted)).mappings().first()
    if row is None:
        raise NotFound("no such evaluator")
    return _evaluator(row, version=row["its_version"])


def _current() -> Any:
    statement = select(*_EVALUATOR, _v.definition, _v.sealed)
    is_current = (_v.evaluator_id == _e.id) & (_v.version == _e.version)
    return statement.join_from(tables.evaluator, tables.evaluator_version, is_current)


def _evaluator(row: RowMapping, *, version: int | None = None) -> Evaluator:
    return Evaluator(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        is_enabled=bool(row["is_enabled"]),
        version=version or row["version"],
        definition=json.loads(row["definition"]),
        sealed=row["sealed"],
        watermark_us=row["watermark_us"],
        failure_count=row["failure_count"],
        blocked_until_us=row["blocked_until_us"],
        blocked_reason=row["blocked_reason"],
        created_at_us=row["created_at_us"],
        updated_at_us=row["updated_at_us"],
    )


def counts(c: Connection, *, since_us: int) -> dict[str, dict[str, int]]:
    """Judgements asked for since an instant, by evaluator and status."""
    statement = select(_n.evaluator_id, _n.status, func.count()).where(_n.created_at_us >= since_us)
    found: dict[str, dict[str, int]] = {}
    for evaluator_id, status, n in c.execute(statement.group_by(_n.evaluator_id, _n.status)):
        found.setdefault(evaluator_id, {})[status] = int(n)
    return found


def spent(c: Connection, *, since_us: int) -> dict[str, int]:
    """What judgements asked for since an instant cost, nano-dollars by evaluator."""
    statement = select(_n.evaluator_id, func.sum(_n.cost_total_nano)).where(_n.created_at_us >= since_us)
    return {key: int(total) for key, total in c.execute(statement.group_by(_n.evaluator_id)) if total is not None}


def runs(c: Connection, evaluator_id: str, *, status: str | None = None, limit: int = 50) -> list[Run]:
    """The latest judgements of an evaluator, newest first."""
    statement = select(tables.evaluation).where(_n.evaluator_id == evaluator_id)
    if status is not None:
        statement = statement.where(_n.status == status)
    ordered = statement.order_by(_n.created_at_us.desc(), _n.id.desc()).limit(limit)
    return [_run(row) for row in c.execute(ordered).mappings()]


def _run(row: RowMapping) -> Run:
    same = ("id", "target", "target_id", "status", "attempt", "due_at_us", "score_id", "judge_turn_id", "turn_id")
    return Run(
        **{name: row[name] for name in (*same, "span_id", "session_id", "created_at_us", "finished_at_us")},
        version=row["evaluator_version"],
        error=row["error_type"],
        cost_nano=row["cost_total_nano"],
    )


def backfills(c: Connection, evaluator_id: str | None = None, *, limit: int = 10) -> list[Backfill]:
    """The latest backfills (of one evaluator), newest first, with where their judgements stand."""
    statement = select(tables.backfill).order_by(_b.created_at_us.desc(), _b.id).limit(limit)
    if evaluator_id is not None:
        statement = statement.where(_b.evaluator_id == evaluator_id)
    rows = c.execute(statement).mappings().all()
    stands = _stands(c, [row["id"] for row in rows])
    names = ("id", "evaluator_id", "evaluator_version", "status", "from_us", "to_us", "cursor", "planned")
    return [
        Backfill(
            **{name: row[name] for name in (*names, "created_at_us", "finished_at_us")},
            counts=stands.get(row["id"], {}),
        )
        for row in rows
    ]


def _stands(c: Connection, ids: list[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    statement = select(_n.backfill_id, _n.status, func.count()).where(_n.backfill_id.in_(ids))
    for backfill_id, status, n in c.execute(statement.group_by(_n.backfill_id, _n.status)) if ids else ():
        found.setdefault(backfill_id, {})[status] = int(n)
    return found


def mean_cost(c: Connection, evaluator_id: str) -> int | None:
    """What the last judgements cost on average, nano-dollars; None where nothing had a price."""
    latest = select(_n.cost_total_nano).where(_n.evaluator_id == evaluator_id, _n.cost_total_nano.is_not(None))
    costs = [int(cost) for cost in c.execute(latest.order_by(_n.id.desc()).limit(50)).scalars()]
    return round(sum(costs) / len(costs)) if costs else None
