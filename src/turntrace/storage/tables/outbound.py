"""Stored turns on their way to other OTLP endpoints, and how each of those endpoints is doing."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables.column import Count, Instant, Serial, TurnId, column, fixed, index, optional, table

# One stored turn that a destination has yet to get: what is left of these rows is where it stands. Written with the
# turn, removed with the note that it was sent. A turn that changes is there again.
outbound: Final = table(
    "outbound",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("destination", fixed(40)),
    column("turn_id", TurnId),
    column("at_us", Instant),
    index("outbound_destination", "destination", "id"),
    index("outbound_turn", "turn_id"),
)

# What became of the turns for one destination, and its last fault (a status or the name of an error).
destination: Final = table(
    "destination",
    column("name", fixed(40), primary_key=True),
    column("sent", Count),
    column("left_out", Count),  # by environment or route, or gone since
    column("refused", Count),  # the destination does not want them, ever
    column("overflowed", Count),  # too many waited
    column("failures", Count),  # requests that failed and are tried again
    optional("failing_since_us", Instant),
    optional("last_sent_at_us", Instant),
    optional("last_error", String(255)),
    optional("last_error_at_us", Instant),
)
