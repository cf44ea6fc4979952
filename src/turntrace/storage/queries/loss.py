"""The loss balance as the database knows it: without what still waits in the spool."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, Select, func, select

from turntrace.records.batch import ProcessCounts
from turntrace.records.loss import Loss
from turntrace.storage import tables

_DROPPED: Final = "dropped:"
_l = tables.loss.c
_p = tables.process.c


def balance(c: Connection, live: Mapping[str, tuple[int, Mapping[str, int]]] | None = None, in_spool: int = 0) -> Loss:
    """The loss balance.

    Args:
        live: accepted and dropped turns of living processes by id, as they count them now: these win over what the
            worker stored of them last.
        in_spool: turns that wait in the spool, which the database cannot know.
    """
    living = dict(live or {})
    by_reason = {row.reason: int(row.n) for row in c.execute(_sums())}
    dropped: Counter[str] = Counter()
    for reason, n in by_reason.items():
        if reason.startswith(_DROPPED):
            dropped[reason.removeprefix(_DROPPED)] += n
    accepted = by_reason.get("accepted", 0)  # over OTLP: no process counts those
    for row in c.execute(select(_p.id, _p.accepted, _p.dropped)):
        counted = living.pop(row.id, (row.accepted, _counts(row.dropped)))
        accepted += counted[0]
        dropped.update(counted[1])
    for counted in living.values():  # begun since the worker last looked
        accepted += counted[0]
        dropped.update(counted[1])
    return Loss(
        accepted=accepted,
        stored=by_reason.get("stored", 0),
        sampled=by_reason.get("sampled", 0),
        erased=by_reason.get("erased", 0),
        dropped={reason: n for reason, n in sorted(dropped.items()) if n},
        in_spool=in_spool,
    )


def processes(c: Connection, *, limit: int = 200) -> tuple[ProcessCounts, ...]:
    """Counters of the capturing processes, the latest seen first."""
    rows = c.execute(select(tables.process).order_by(_p.seen_at_us.desc(), _p.id).limit(limit)).mappings()
    plain = ["accepted", "turns", "overhead_us", "bytes_written", "seen_at_us"]
    return tuple(
        ProcessCounts(
            process_id=row["id"],
            dropped=_counts(row["dropped"]),
            faults=_counts(row["faults"]),
            is_dead=bool(row["is_dead"]),
            **{name: int(row[name]) for name in plain},
        )
        for row in rows
    )


def _sums() -> Select[tuple[str, int]]:
    return select(_l.reason, func.sum(_l.n).label("n")).group_by(_l.reason)


def _counts(text: str | None) -> dict[str, int]:
    return {name: int(n) for name, n in json.loads(text).items()} if text else {}
