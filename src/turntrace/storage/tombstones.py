"""What may not come back: tombstones of erased turns, sessions and subjects, read under the fence.

A writer takes the fence row FOR SHARE before it reads tombstones, the eraser takes it FOR UPDATE before it commits
one: nothing slips between. On SQLite, `BEGIN IMMEDIATE` is the fence.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, case, null, or_, select, update

from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import bulk, tables

FENCE: Final = "erasure"
TURN: Final = "turn"  # key: the turn's id
TRACE: Final = "trace"  # key: W3C id of an erased turn; refuses scores that know no other
SUBJECT: Final = "subject"  # key: digest of the user id
SESSION: Final = "session"  # key: digest of session and user id; refuses turns
CONVERSATION: Final = "conversation"  # key: digest of the session id; refuses scores of the session as a whole
_LASTING: Final = frozenset({TURN, TRACE})  # these refuse for ever
_t = tables.tombstone.c


def subject_digest(digest_key: str, user_id: str) -> str:
    """What a tombstone holds of a user id: HMAC-SHA256 under the key of this database, 64 hex digits."""
    return _digest(digest_key, user_id)


def session_digest(digest_key: str, session_id: str, user_id: str) -> str:
    """What a tombstone holds of a session of one user ("": of nobody known)."""
    return _digest(digest_key, f"session\0{user_id}\0{session_id}")


def conversation_digest(digest_key: str, session_id: str) -> str:
    """What a tombstone holds of a session, whoever had it."""
    return _digest(digest_key, f"conversation\0{session_id}")


def _digest(digest_key: str, text: str) -> str:
    return hmac.new(bytes.fromhex(digest_key), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def take_fence(connection: Connection, *, exclusive: bool = False) -> str:
    """Hold the fence until the transaction ends, shared (writers) or exclusive (the eraser); answers the digest key.

    Whoever derives rows from a stored turn takes it before looking whether the turn is there.
    """
    fence = tables.fence.c
    statement = select(fence.digest_key).where(fence.name == FENCE).with_for_update(read=not exclusive)
    digest_key: str = connection.execute(statement).scalar_one()
    return digest_key


@dataclass(frozen=True, slots=True)
class Refused:
    """Turns of a batch that may not be stored: by id, and whether they were counted as erased before."""

    known: frozenset[str] = frozenset()  # a tombstone names the turn itself
    new: frozenset[str] = frozenset()  # a tombstone names its subject or session

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self.known or turn_id in self.new

    def __bool__(self) -> bool:
        return bool(self.known or self.new)


@dataclass(frozen=True, slots=True)
class Row:
    """One tombstone: its kind, its key, and until when it refuses (µs; None: for ever)."""

    kind: str
    key: str
    until_us: int | None

    def refuses(self, at_us: int) -> bool:
        """Whether what began then may not come in."""
        return self.until_us is None or at_us <= self.until_us


def is_any(connection: Connection) -> bool:
    """Whether anything was ever erased: most databases are spared the rest."""
    return connection.execute(select(_t.kind).limit(1)).first() is not None


def find_refused(connection: Connection, traces: Iterable[Trace], digest_key: str) -> Refused:
    """The turns among `traces` that tombstones refuse. The fence must be held."""
    if not is_any(connection):
        return Refused()
    found = list(traces)
    owners: dict[tuple[str, str], list[Trace]] = {}
    for trace in found:
        for owner in _owners(trace, digest_key):
            owners.setdefault(owner, []).append(trace)
    rows = _rows(connection, {(TURN, trace.id) for trace in found} | owners.keys())
    known = frozenset(row.key for row in rows if row.kind == TURN)
    new = {
        trace.id for row in rows for trace in owners.get((row.kind, row.key), ()) if row.refuses(trace.started_at_us)
    }
    return Refused(known, frozenset(new - known))


def _owners(trace: Trace, digest_key: str) -> set[tuple[str, str]]:
    users = {trace.user_id, *(observation.user_id for observation in trace.observations)}
    found = {(SUBJECT, subject_digest(digest_key, user_id)) for user_id in users if user_id}
    if trace.session_id:
        found.add((SESSION, session_digest(digest_key, trace.session_id, trace.user_id or "")))
    return found


def find_turns(connection: Connection, turn_ids: Iterable[str]) -> set[str]:
    """Those of these turns that were erased."""
    return {row.key for row in _rows(connection, {(TURN, turn_id) for turn_id in turn_ids})}


def turns_of(connection: Connection, erasure_id: str) -> list[str]:
    """Ids of the turns that an erasure has erased."""
    mine = select(_t.key).where(_t.erasure_id == erasure_id, _t.kind == TURN)
    return list(connection.execute(mine).scalars())


def find_conversations(connection: Connection, session_ids: Iterable[str]) -> set[str]:
    """Those of these sessions that were erased."""
    wanted = set(session_ids)
    if not wanted or not is_any(connection):
        return set()
    digest_key = connection.execute(select(tables.fence.c.digest_key).where(tables.fence.c.name == FENCE)).scalar_one()
    digests = {conversation_digest(digest_key, session_id): session_id for session_id in wanted}
    return {digests[row.key] for row in _rows(connection, {(CONVERSATION, digest) for digest in digests})}


def allowed_scores(connection: Connection, scores: Sequence[Score], digest_key: str) -> list[Score]:
    """The scores that no tombstone refuses. The fence must be held."""
    if not scores or not is_any(connection):
        return list(scores)
    keys = {score.id: _keys_of(score, digest_key) for score in scores}
    found = {(row.kind, row.key): row for row in _rows(connection, set().union(*keys.values()))}
    return [
        score
        for score in scores
        if not any(found[key].refuses(score.created_at_us) for key in keys[score.id] if key in found)
    ]


def _keys_of(score: Score, digest_key: str) -> set[tuple[str, str]]:
    found = set()
    if score.user_id:
        found.add((SUBJECT, subject_digest(digest_key, score.user_id)))
    if score.turn_id:
        found.add((TURN, score.turn_id))
    elif score.trace_id:
        found.add((TRACE, score.trace_id))
    if score.session_id:
        found.add((CONVERSATION, conversation_digest(digest_key, score.session_id)))
    return found


def _rows(connection: Connection, keys: Iterable[tuple[str, str]]) -> list[Row]:
    by_kind: dict[str, list[str]] = {}
    for kind, key in keys:
        by_kind.setdefault(kind, []).append(key)
    if not by_kind:
        return []
    wanted = or_(*(and_(_t.kind == kind, _t.key.in_(found)) for kind, found in by_kind.items()))
    return [Row(*row) for row in connection.execute(select(_t.kind, _t.key, _t.until_us).where(wanted))]


def add(connection: Connection, tombstones: Iterable[Row], *, now_us: int, erasure_id: str | None = None) -> None:
    """Add tombstones; one that is there already refuses for longer. The eraser holds the fence exclusively."""
    # In one order everywhere, as all keys that several transactions may write.
    found = sorted(tombstones, key=lambda row: (row.kind, row.key))
    # Most name turns, for ever: those that are there already cannot refuse for longer.
    lasting = [(row.kind, row.key, None, erasure_id, now_us) for row in found if row.kind in _LASTING]
    bulk.insert_missing_rows(connection, tables.tombstone, lasting)
    rows = [
        {
            "kind": row.kind,
            "key": row.key,
            "until_us": row.until_us,
            "erasure_id": erasure_id,
            "created_at_us": now_us,
        }
        for row in found
        if row.kind not in _LASTING
    ]
    if rows:
        connection.execute(bulk.upsert(connection.dialect.name, tables.tombstone, _longer), rows)


def lift(connection: Connection, user_ids: Iterable[str], *, now_us: int) -> int:
    """Let suppressed people in again, with what they begin from now on; answers how many ids were suppressed."""
    digest_key = take_fence(connection, exclusive=True)
    digests = [subject_digest(digest_key, user_id) for user_id in user_ids]
    is_suppressed = and_(_t.kind == SUBJECT, _t.key.in_(digests), _t.until_us.is_(None))
    return int(connection.execute(update(tables.tombstone).where(is_suppressed).values(until_us=now_us)).rowcount)


def _longer(new: Any) -> dict[str, Any]:
    is_for_ever = or_(_t.until_us.is_(None), new.until_us.is_(None))
    return {"until_us": case((is_for_ever, null()), (new.until_us > _t.until_us, new.until_us), else_=_t.until_us)}
