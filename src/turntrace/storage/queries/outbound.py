"""How the destinations of stored turns are doing."""

from dataclasses import dataclass, fields

from sqlalchemy import Connection, func, select

from turntrace.storage import tables

_o, _d = tables.outbound.c, tables.destination.c


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationFact:
    """One destination: turns by what became of them, and its last fault. `waiting_since_us` is of the oldest turn."""

    name: str
    waiting: int = 0
    waiting_since_us: int | None = None
    sent: int = 0
    left_out: int = 0
    refused: int = 0
    overflowed: int = 0
    failures: int = 0
    failing_since_us: int | None = None
    last_sent_at_us: int | None = None
    last_error: str | None = None
    last_error_at_us: int | None = None


_STORED = tuple(item.name for item in fields(DestinationFact) if item.name in tables.destination.c)


def destinations(c: Connection) -> tuple[DestinationFact, ...]:
    """All destinations that anything was ever sent to, or waits for, by name."""
    counted = select(_o.destination, func.count().label("n"), func.min(_o.at_us).label("since")).group_by(
        _o.destination
    )
    waiting = {row.destination: (int(row.n), int(row.since)) for row in c.execute(counted)}
    stored = {row["name"]: dict(row) for row in c.execute(select(tables.destination)).mappings()}
    found = []
    for name in sorted({*waiting, *stored}):
        number, since = waiting.get(name, (0, None))
        known = stored.get(name, {"name": name})
        facts = {field: known[field] for field in _STORED if field in known}
        found.append(DestinationFact(**facts, waiting=number, waiting_since_us=since))
    return tuple(found)
