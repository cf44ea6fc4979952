"""Stored turns on their way to other OTLP endpoints, and how each of those endpoints is doing."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables.column import (
    Count,
    Instant,
    Row,
    Serial,
    TurnId,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class OutboundRow(Row, table=True):
    """One stored turn that a destination has yet to get: what is left of these rows is where it stands.

    Written with the turn, removed with the note that it was sent. A turn that changes is there again.
    """

    __table_args__ = options(
        index("outbound_destination", "destination", "id"),
        index("outbound_turn", "turn_id"),
    )

    id: int = column(Serial, primary_key=True, autoincrement=True)
    destination: str = column(fixed(40))
    turn_id: str = column(TurnId)
    at_us: int = column(Instant)


class DestinationRow(Row, table=True):
    """What became of the turns for one destination, and its last fault (a status or the name of an error)."""

    name: str = column(fixed(40), primary_key=True)
    sent: int = column(Count)
    left_out: int = column(Count)  # by environment or route, or gone since
    refused: int = column(Count)  # the destination does not want them, ever
    overflowed: int = column(Count)  # too many waited
    failures: int = column(Count)  # requests that failed and are tried again
    failing_since_us: int | None = optional(Instant)
    last_sent_at_us: int | None = optional(Instant)
    last_error: str | None = optional(String(255))
    last_error_at_us: int | None = optional(Instant)


outbound: Final = table(OutboundRow)
destination: Final = table(DestinationRow)
