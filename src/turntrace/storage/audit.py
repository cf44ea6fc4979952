"""The audit log: who did what, append-only, each row chained to the one before by its hash. It holds no content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, insert, or_, select

from turntrace.storage import tables

FIRST_HASH: Final = "0" * 64
FENCE: Final = "audit"  # not that of erasure, which the worker holds
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the log."""

    id: int
    at_us: int
    actor: str
    role: str | None
    action: str
    target: str | None
    details: Mapping[str, Any]


def append(
    connection: Connection,
    *,
    actor: str,
    action: str,
    now_us: int,
    role: str | None = None,
    target: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add a row. Writers wait for one another: the chain has one end."""
    previous = _end_of_chain(connection)
    text = json.dumps(details, sort_keys=True, default=str) if details else None
    fields = {
        "at_us": now_us,
        "actor": actor[:100],
        "role": role,
        "action": action[:100],
        "target": target[:255] if target else None,
        "details": text,
    }
    made = insert(tables.audit).values(**fields, previous_hash=previous, hash=_hash(previous, fields))
    connection.execute(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Filters of the log; None does not filter. `action` is a whole action or the part before its dot.

    `targets`: any of these (an id and its keyed digests). Times: `from_us` ≤ at < `to_us`.
    """

    actor: str | None = None
    action: str | None = None
    targets: tuple[str, ...] | None = None
    from_us: int | None = None
    to_us: int | None = None


def list_entries(
    connection: Connection, wanted: Wanted = Wanted(), *, limit: int = 100, before_id: int | None = None
) -> tuple[Entry, ...]:
    """The latest rows first; `before_id` pages on."""
    audit = tables.audit
    found = select(audit).where(*_conditions(wanted)).order_by(audit.c.id.desc()).limit(limit)
    if before_id is not None:
        found = found.where(audit.c.id < before_id)
    return tuple(_entry(row) for row in connection.execute(found))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    c = tables.audit.c
    found: list[ColumnElement[bool]] = []
    if wanted.actor is not None:
        found.append(c.actor == wanted.actor)
    if wanted.action is not None:
        found.append(or_(c.action == wanted.action, c.action.startswith(f"{wanted.action}.", autoescape=True)))
    if wanted.targets is not None:
        found.append(c.target.in_(wanted.targets))
    if wanted.from_us is not None:
        found.append(c.at_us >= wanted.from_us)
    if wanted.to_us is not None:
        found.append(c.at_us < wanted.to_us)
    return found


def broken_at(connection: Connection) -> int | None:
    """The id of the first row whose chain does not hold, or None."""
    audit = tables.audit
    previous, last = FIRST_HASH, 0
    while True:
        rows = connection.execute(select(audit).where(audit.c.id > last).order_by(audit.c.id).limit(_PAGE)).all()
        for row in rows:
            fields = {name: getattr(row, name) for name in ("at_us", "actor", "role", "action", "target", "details")}
            if row.previous_hash != previous or row.hash != _hash(previous, fields):
                return int(row.id)
            previous, last = row.hash, row.id
        if len(rows) < _PAGE:
            return None


def wait_for_others(connection: Connection) -> None:
    """Nobody else writes to the log until the transaction ends: what is noted in it may be read, changed, written."""
    fence = tables.fence.c.name
    connection.execute(select(fence).where(fence == FENCE).with_for_update())


def _end_of_chain(connection: Connection) -> str:
    """The hash of the last row. Its fence is locked first, so that two writers cannot chain to the same row."""
    wait_for_others(connection)
    audit = tables.audit
    row = connection.execute(select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    return str(row.hash) if row is not None else FIRST_HASH


def _hash(previous: str, fields: Mapping[str, Any]) -> str:
    text = json.dumps([previous, *(fields[name] for name in sorted(fields))])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _entry(row: Any) -> Entry:
    details = json.loads(row.details) if row.details else {}
    return Entry(
        id=row.id,
        at_us=row.at_us,
        actor=row.actor,
        role=row.role,
        action=row.action,
        target=row.target,
        details=details,
    )
