"""Sessions: the list with totals, and one conversation with its traces in order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, RowMapping, and_, or_, select

from turntrace.errors import InvalidInput
from turntrace.records.filter import Page, TraceFilter
from turntrace.records.session import Session
from turntrace.records.trace import Trace
from turntrace.storage import tables
from turntrace.storage.queries import scores, traces
from turntrace.storage.queries.condition import EVERYTHING, Condition, fits, narrowed
from turntrace.storage.queries.cursor import decode, encode

# A replay of more turns than these shows the latest.
MOST_TRACES: Final = 500

_s = tables.session.c
_SUMS: Final = ("trace_count", "error_count", "input_tokens", "output_tokens", "duration_us")
_SEPARATOR: Final = "\n"  # between session and user id in a cursor; the ids are keys of one line


class SeveralUsers(InvalidInput):
    """Several users have a session of this id: name one of `user_ids` (those of the first rows)."""

    def __init__(self, user_ids: tuple[str, ...]) -> None:
        self.user_ids = user_ids
        super().__init__("several users have a session of this id: name one by user_id", field="user_id")


def list_sessions(
    c: Connection, filter: TraceFilter = EVERYTHING, *, limit: int = 50, cursor: str | None = None
) -> Page[Session]:
    """A page of sessions, the latest active first; no traces in them.

    Filters: `from_us` and `to_us` (last activity), `session_id`, `user_id`, `environment`, `q` (start of a session id).
    """
    conditions = [*_conditions(filter), *_before(cursor)]
    ordered = narrowed(select(tables.session), conditions).order_by(
        _s.last_at_us.desc(), _s.session_id.desc(), _s.user_id.desc()
    )
    rows = c.execute(ordered.limit(limit + 1)).mappings().all()
    items = tuple(_to_session([row]) for row in rows[:limit])
    return Page(items=items, next_cursor=_next(rows[limit - 1]) if len(rows) > limit else None)


def get_session(c: Connection, session_id: str, user_id: str | None = None) -> Session | None:
    """One conversation: totals, its latest traces in order with content and observations, its scores; or None.

    Sessions belong to a user where one is known. Without `user_id` the turns of an unknown user and of the one known
    user are answered together; with "" those of an unknown user only.

    Raises:
        SeveralUsers: several users have a session of this id; name one by `user_id`.
    """
    rows = _rows(c, session_id, user_id)
    named = user_id or _only_user(c, session_id, rows, user_id)
    found = traces.of_session(c, session_id, named, with_unknown=not user_id, limit=MOST_TRACES)
    if rows:
        session = _to_session(rows)
    elif found:
        session = _begun(found)  # its first turn has not ended yet: nothing is counted
    else:
        return None
    return replace(session, traces=found, scores=scores.of_session(c, session_id))


def _rows(c: Connection, session_id: str, user_id: str | None) -> Sequence[RowMapping]:
    statement = select(tables.session).where(_s.session_id == session_id)
    if user_id is not None:
        statement = statement.where(_s.user_id == user_id)
    return c.execute(statement.order_by(_s.user_id).limit(12)).mappings().all()


def _only_user(c: Connection, session_id: str, rows: Sequence[RowMapping], user_id: str | None) -> str | None:
    """The one known user of the session, or None."""
    if user_id == "":
        return None
    known = [row["user_id"] for row in rows if row["user_id"]] if rows else traces.users_of(c, session_id)
    if len(known) > 1:
        raise SeveralUsers(tuple(known))
    return known[0] if known else None


def _begun(found: Sequence[Trace]) -> Session:
    return Session(
        session_id=found[0].session_id or "",
        user_id=next((trace.user_id for trace in found if trace.user_id), None),
        environment=found[-1].environment,
        first_at_us=found[0].started_at_us,
        last_at_us=found[-1].started_at_us,
    )


def _to_session(rows: Sequence[RowMapping]) -> Session:
    is_priced = any(row["priced_count"] for row in rows)
    newest = max(rows, key=lambda row: int(row["last_at_us"]))
    return Session(
        session_id=newest["session_id"],
        user_id=next((row["user_id"] for row in rows if row["user_id"]), None),
        environment=newest["environment"],
        first_at_us=min(row["first_at_us"] for row in rows),
        last_at_us=newest["last_at_us"],
        cost_total_nano=sum(row["cost_total_nano"] for row in rows) if is_priced else None,
        **{name: sum(row[name] for row in rows) for name in _SUMS},
    )


def _conditions(filter: TraceFilter) -> list[Condition]:
    found: list[Condition] = []
    if filter.from_us is not None:
        found.append(_s.last_at_us >= filter.from_us)
    if filter.to_us is not None:
        found.append(_s.last_at_us < filter.to_us)
    for name in ("session_id", "user_id", "environment"):
        if getattr(filter, name) is not None:
            found.append(fits(_s[name], getattr(filter, name)))
    if filter.q is not None:
        found.append(_s.session_id.startswith(filter.q, autoescape=True))
    return found


def _next(row: RowMapping) -> str:
    return encode(row["last_at_us"], f"{row['session_id']}{_SEPARATOR}{row['user_id']}")


def _before(cursor: str | None) -> list[Condition]:
    position = decode(cursor)
    if position is None:
        return []
    at_us, key = position
    session_id, _, user_id = key.rpartition(_SEPARATOR)
    same = and_(_s.session_id == session_id, _s.user_id < user_id)
    return [_s.last_at_us <= at_us, or_(_s.last_at_us < at_us, _s.session_id < session_id, same)]
