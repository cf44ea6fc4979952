"""What may not come back: tombstones of erased turns and subjects, read under the fence.

A writer takes the fence row FOR SHARE before it reads tombstones, the eraser takes it FOR UPDATE before it commits
one: nothing slips between. On SQLite, `BEGIN IMMEDIATE` is the fence.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, or_, select

from turntrace.records.trace import Trace
from turntrace.storage import bulk, tables

FENCE: Final = "erasure"
TURN: Final = "turn"
SUBJECT: Final = "subject"
_t = tables.tombstone.c


def subject_digest(digest_key: str, user_id: str) -> str:
    """What a tombstone holds of a user id: HMAC-SHA256 under the key of this database, 64 hex digits."""
    text = user_id.encode("utf-8", "replace")
    return hmac.new(bytes.fromhex(digest_key), text, hashlib.sha256).hexdigest()


def take_fence(connection: Connection, *, exclusive: bool = False) -> str:
    """Hold the fence until the transaction ends, shared (writers) or exclusive (the eraser); answers the digest key."""
    fence = tables.fence.c
    statement = select(fence.digest_key).where(fence.name == FENCE).with_for_update(read=not exclusive)
    digest_key: str = connection.execute(statement).scalar_one()
    return digest_key


@dataclass(frozen=True, slots=True)
class Refused:
    """Turns of a batch that may not be stored: by id, and whether they were counted as erased before."""

    known: frozenset[str] = frozenset()  # a tombstone names the turn itself
    new: frozenset[str] = frozenset()  # a tombstone names its subject

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self.known or turn_id in self.new

    def __bool__(self) -> bool:
        return bool(self.known or self.new)


def find_refused(connection: Connection, traces: Iterable[Trace], digest_key: str) -> Refused:
    """The turns among `traces` that tombstones refuse. The fence must be held."""
    if connection.execute(select(_t.kind).limit(1)).first() is None:
        return Refused()
    found = list(traces)
    subjects: dict[str, list[Trace]] = {}
    for trace in found:
        for user_id in _subjects(trace):
            subjects.setdefault(subject_digest(digest_key, user_id), []).append(trace)
    rows = _rows(connection, {trace.id for trace in found}, set(subjects))
    known = frozenset(row.key for row in rows if row.kind == TURN)
    new = {
        trace.id
        for row in rows
        if row.kind == SUBJECT
        for trace in subjects[row.key]
        if row.until_us is None or trace.started_at_us <= row.until_us
    }
    return Refused(known, frozenset(new - known))


def _subjects(trace: Trace) -> set[str]:
    found = {observation.user_id for observation in trace.observations}
    return {user_id for user_id in (trace.user_id, *found) if user_id}


def _rows(connection: Connection, turn_ids: set[str], digests: set[str]) -> list["Row"]:
    turns = and_(_t.kind == TURN, _t.key.in_(turn_ids))
    subjects = and_(_t.kind == SUBJECT, _t.key.in_(digests))
    statement = select(_t.kind, _t.key, _t.until_us).where(or_(turns, subjects))
    return [Row(*row) for row in connection.execute(statement)]


@dataclass(frozen=True, slots=True)
class Row:
    """One tombstone: its kind, its key, and until when it refuses (µs; None: for ever)."""

    kind: str
    key: str
    until_us: int | None


def add(connection: Connection, tombstones: Iterable[Row], *, now_us: int, erasure_id: str | None = None) -> None:
    """Add tombstones; those that are there already stay. The eraser holds the fence exclusively."""
    rows = [
        {
            "kind": row.kind,
            "key": row.key,
            "until_us": row.until_us,
            "erasure_id": erasure_id,
            "created_at_us": now_us,
        }
        for row in tombstones
    ]
    if rows:
        connection.execute(bulk.insert_missing(connection.dialect.name, tables.tombstone), rows)
