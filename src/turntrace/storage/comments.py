"""Remarks of people on a turn or on one of its steps."""

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select

from turntrace.errors import InvalidInput, NotFound
from turntrace.storage import tables, tombstones

MOST_TEXT: Final = 10_000
MOST_QUOTE: Final = 1_000
SHOWN: Final = 200

_c = tables.comment.c
_t = tables.trace.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """A remark; `span_id` is None for one on the whole turn."""

    id: str
    turn_id: str
    span_id: str | None
    text: str
    author: str
    created_at_us: int
    quote: str | None = None


def add(
    connection: Connection,
    turn_id: str,
    span_id: str | None,
    text: str,
    *,
    author: str,
    now_us: int,
    quote: str | None = None,
) -> Comment:
    """Store a remark; its text must be redacted before.

    Args:
        quote: the passage of the turn that it is about; redacted before, like the text.

    Raises:
        InvalidInput: no text, or too much. NotFound: there is no such turn.
    """
    if not 0 < len(text) <= MOST_TEXT:
        raise InvalidInput(f"comment: 1 to {MOST_TEXT:,} characters", field="text")
    if quote is not None and not 0 < len(quote) <= MOST_QUOTE:
        raise InvalidInput(f"quote: 1 to {MOST_QUOTE:,} characters", field="quote")
    tombstones.take_fence(connection)  # or the turn could be erased between the look at it and the commit
    turn = connection.execute(select(_t.session_id, _t.user_id).where(_t.id == turn_id)).first()
    if turn is None:
        raise NotFound("no such trace")
    made = Comment(
        id=secrets.token_hex(16),
        turn_id=turn_id,
        span_id=span_id,
        text=text,
        author=author,
        created_at_us=now_us,
        quote=quote,
    )
    connection.execute(
        tables.comment.insert().values(
            id=made.id,
            turn_id=turn_id,
            span_id=span_id,
            session_id=turn.session_id,
            user_id=turn.user_id,
            text=text,
            quote=quote,
            author=author,
            created_at_us=now_us,
            updated_at_us=now_us,
        )
    )
    return made


def remove(connection: Connection, comment_id: str, *, author: str | None) -> str:
    """Delete a remark; answers the turn it was on.

    Args:
        author: only one of this person's; None: anybody's.

    Raises:
        NotFound: there is none that they may delete.
    """
    turn_id = connection.execute(select(_c.turn_id).where(_c.id == comment_id)).scalar()
    gone = delete(tables.comment).where(_c.id == comment_id)
    if not connection.execute(gone if author is None else gone.where(_c.author == author)).rowcount:
        raise NotFound("There is no such comment of yours.")
    return str(turn_id)


def of_turn(connection: Connection, turn_id: str) -> list[Comment]:
    """The remarks on a turn and its steps, oldest first."""
    columns = (_c.id, _c.turn_id, _c.span_id, _c.text, _c.quote, _c.author, _c.created_at_us)
    statement = select(*columns).where(_c.turn_id == turn_id).order_by(_c.created_at_us, _c.id).limit(SHOWN)
    return [Comment(**row) for row in connection.execute(statement).mappings()]
