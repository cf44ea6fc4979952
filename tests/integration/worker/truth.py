"""What a worker has stored, as sums that do not depend on how it got there, and the loss balance."""

from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from turntrace.records.loss import Loss
from turntrace.storage import tables
from turntrace.storage.database import Database
from turntrace.storage.histograms import add_packed
from turntrace.storage.queries import loss
from turntrace.worker.status import in_spool, live_counts

_UNSUMMED = {"id", "is_compacted"}
_ROLLUP_KEYS = 12  # columns of the roll-ups before the sums


def truth(database: Database) -> dict[str, Any]:
    """Turns, their parts, sums and counts. Two ways to the same data give the same answer."""
    with database.read() as c:
        return {
            "turns": _rows(c, tables.trace, "id", "outcome", "status", "is_final", "observation_count", "input_tokens"),
            "observations": _rows(c, tables.observation, "turn_id", "span_id", "name", "is_open"),
            "content": sorted(c.execute(select(tables.content.c.turn_id)).scalars()),
            "rollup": _summed(c, tables.rollup, _ROLLUP_KEYS),
            "histogram": _merged(c),
            "session": _rows(c, tables.session, *tables.session.c.keys()),
            "score": _rows(c, tables.score, "id", "turn_id", "flag", "number"),
            "loss": reasons(database),
        }


def _rows(c: Any, table: Any, *names: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in c.execute(select(*(table.c[name] for name in names))))


def _summed(c: Any, table: Any, keys: int) -> dict[tuple[Any, ...], tuple[int, ...]]:
    names = table.c.keys()
    grouped = [table.c[name] for name in names[:keys] if name not in _UNSUMMED]
    sums = [func.sum(table.c[name]) for name in names[keys:]]
    found = c.execute(select(*grouped, *sums).group_by(*grouped)).all()
    rows = {tuple(row[: len(grouped)]): tuple(int(n) for n in row[len(grouped) :]) for row in found}
    return {key: row for key, row in rows.items() if any(row)}


def _merged(c: Any) -> dict[tuple[Any, ...], dict[int, int]]:
    """Histograms by all that tells them apart; their counts are packed texts, which no SQL can sum."""
    unkeyed = {"counts", *_UNSUMMED}
    names = [column.name for column in tables.histogram.c if column.name not in unkeyed]
    found: dict[tuple[Any, ...], dict[int, int]] = {}
    for *key, counts in c.execute(select(*(tables.histogram.c[name] for name in (*names, "counts")))):
        add_packed(found.setdefault(tuple(key), {}), counts)
    return found


def reasons(database: Database) -> dict[str, int]:
    """The loss log, summed by reason."""
    with database.read() as c:
        found = c.execute(select(tables.loss.c.reason, func.sum(tables.loss.c.n)).group_by(tables.loss.c.reason))
        return {reason: int(n) for reason, n in found if n}


def outcomes(database: Database) -> dict[int, str]:
    """Outcome by number of the turn."""
    with database.read() as c:
        found = c.execute(select(tables.trace.c.id, tables.trace.c.outcome))
        return {int(row.id, 16): row.outcome for row in found}


def total(database: Database, column: str) -> int:
    """The sum of one column of the hourly base roll-up."""
    r = tables.rollup.c
    with database.read() as c:
        found = c.execute(select(func.sum(r[column])).where(r.grain == "hour", r.dimension == "")).scalar()
    return int(found or 0)


def balance(database: Database, root: Path) -> Loss:
    """The loss balance as the panel shows it: database, living processes and spool."""
    live = live_counts(root)
    waiting = in_spool(root, live)
    with database.read() as c:
        return loss.balance(c, live, waiting)
