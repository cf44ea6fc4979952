"""A window of full capture: for some minutes more is kept of a user's, session's or route's turns."""

from dataclasses import dataclass

WINDOW_KINDS = ("user", "session", "route")
WINDOW_MODES = ("redacted", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Turns that start from `from_us` up to `until_us`; `value` is a keyed digest of the id, or a route pattern."""

    id: str
    kind: str
    value: str
    mode: str
    from_us: int
    until_us: int
    author: str = ""
    reason: str = ""
