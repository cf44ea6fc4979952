"""What a score can be given to: ids resolved by index only."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from turntrace.storage import tables
from turntrace.storage.queries import traces

MOST_REQUESTS: Final = 10  # turns that share a request id and are named in the refusal

_t = tables.trace.c
_o = tables.observation.c
_s = tables.session.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing to score."""

    turn_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    dataset_item_id: str | None = None
    run_item_id: str | None = None


def of_trace(c: Connection, any_id: str) -> tuple[Target, ...]:
    """The turns with this turn id or W3C trace id."""
    return tuple(Target(turn_id=turn_id) for turn_id in traces.turn_ids(c, any_id))


def of_request(c: Connection, request_id: str) -> tuple[Target, ...]:
    """The turns with this request id of the host's own, oldest first; a few at the most."""
    found = select(_t.id).where(_t.request_id == request_id).order_by(_t.started_at_us, _t.id).limit(MOST_REQUESTS)
    return tuple(Target(turn_id=turn_id) for turn_id in c.execute(found).scalars())


def of_observation(c: Connection, observation_id: str) -> tuple[Target, ...]:
    """The observation with this id."""
    turn_id, span_id = observation_id[:32], observation_id[32:]
    found = c.execute(select(_o.turn_id).where(_o.turn_id == turn_id, _o.span_id == span_id)).first()
    return (Target(turn_id=turn_id, span_id=span_id),) if found else ()


def of_session(c: Connection, session_id: str) -> tuple[Target, ...]:
    """The session with this id, with its user where that is one known user."""
    users = list(c.execute(select(_s.user_id).where(_s.session_id == session_id).limit(3)).scalars())
    if not users and c.execute(select(_t.id).where(_t.session_id == session_id).limit(1)).first() is None:
        return ()
    known = [user for user in users if user]
    return (Target(session_id=session_id, user_id=known[0] if len(known) == 1 else None),)


def of_dataset_item(c: Connection, item_id: str) -> tuple[Target, ...]:
    """The dataset item with this id."""
    i = tables.dataset_item.c
    row = c.execute(select(i.user_id).where(i.id == item_id)).first()
    return () if row is None else (Target(dataset_item_id=item_id, user_id=row.user_id),)


def of_run_item(c: Connection, item_id: str) -> tuple[Target, ...]:
    """What a run made of an item, by its id."""
    i = tables.run_item.c
    row = c.execute(select(i.user_id).where(i.id == item_id)).first()
    return () if row is None else (Target(run_item_id=item_id, user_id=row.user_id),)
