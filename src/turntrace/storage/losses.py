"""The loss balance: what became of turns, and the counters of capturing processes. Deltas are appended; readers sum."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from sqlalchemy import Connection, func, select

from turntrace.records.batch import ProcessCounts
from turntrace.storage import bulk, readings, tables

_COUNTERS: Final = ("accepted", "turns", "overhead_us", "bytes_written", "dropped", "faults", "seen_at_us", "is_dead")
_l = tables.loss.c


def append(connection: Connection, counts: Mapping[str, int], *, now_us: int) -> None:
    """Add counts by reason: `accepted` (over OTLP), `stored`, `sampled`, `erased`, `dropped:<reason>`."""
    bulk.insert_rows(connection, tables.loss, [(reason, n, now_us) for reason, n in sorted(counts.items()) if n])


def store_processes(connection: Connection, processes: Iterable[ProcessCounts]) -> None:
    """Store absolute counters: again and again is the same as once."""
    rows = [_process_row(counts) for counts in sorted(processes, key=lambda counts: counts.process_id)]
    if rows:
        statement = bulk.upsert(
            connection.dialect.name, tables.process, lambda new: {name: getattr(new, name) for name in _COUNTERS}
        )
        connection.execute(statement, rows)


def _process_row(counts: ProcessCounts) -> dict[str, Any]:
    return {
        "id": counts.process_id,
        "accepted": counts.accepted,
        "turns": counts.turns,
        "overhead_us": counts.overhead_us,
        "bytes_written": counts.bytes_written,
        "dropped": _json(counts.dropped),
        "faults": _json(counts.faults),
        "seen_at_us": counts.seen_at_us,
        "is_dead": counts.is_dead,
        **readings.NOTHING,
    }


def _json(counts: Mapping[str, int]) -> str | None:
    return orjson.dumps(dict(counts)).decode() if counts else None


def compact(connection: Connection, *, now_us: int, least: int = 100) -> int:
    """Merge the deltas of each reason into one row, where there are `least` or more; answers how many went."""
    ids = list(connection.execute(select(_l.id, _l.reason, _l.n).with_for_update()))
    if len(ids) < least:
        return 0
    sums: dict[str, int] = {}
    for _, reason, n in ids:
        sums[reason] = sums.get(reason, 0) + int(n)
    bulk.delete_keys(connection, tables.loss, "id", [row[0] for row in ids])
    append(connection, sums, now_us=now_us)
    return len(ids)


def totals(connection: Connection) -> dict[str, int]:
    """Sums by reason."""
    rows = connection.execute(select(_l.reason, func.sum(_l.n)).group_by(_l.reason))
    return {reason: int(n) for reason, n in rows}
