"""Windows of full capture: in the table of settings, so that every worker sees them soon, and gone when they end."""

import json
from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import InvalidInput, NotFound
from turntrace.records.window import Window
from turntrace.storage import audit, switches

NAME: Final = "capture_windows"
MOST_MINUTES: Final = 240
MOST_WINDOWS: Final = 20


def list_windows(connection: Connection, *, now_us: int) -> tuple[Window, ...]:
    """The windows that are open, the one that ends first first."""
    found = json.loads(switches.get(connection, NAME) or "[]")
    windows = (Window(**values) for values in found)
    return tuple(sorted((window for window in windows if window.until_us > now_us), key=lambda item: item.until_us))


def open_window(connection: Connection, window: Window, *, now_us: int) -> None:
    """Open a window.

    Raises:
        InvalidInput: it is longer than allowed, or there are too many.
    """
    minutes = (window.until_us - window.from_us) / 60_000_000
    if not 0 < minutes <= MOST_MINUTES:
        raise InvalidInput(f"minutes: 1 to {MOST_MINUTES}", field="minutes")
    audit.wait_for_others(connection)  # or a window closed at the same time would be written back
    known = list_windows(connection, now_us=now_us)
    if len(known) >= MOST_WINDOWS:
        raise InvalidInput(f"there are {MOST_WINDOWS} windows open: close one first", field="minutes")
    _put(connection, (*known, window), now_us, window.author)


def close_window(connection: Connection, window_id: str, *, author: str, now_us: int) -> Window:
    """Close a window before its time.

    Raises:
        NotFound: it is not open.
    """
    audit.wait_for_others(connection)
    known = list_windows(connection, now_us=now_us)
    found = next((window for window in known if window.id == window_id), None)
    if found is None:
        raise NotFound("This window is not open any more.")
    _put(connection, tuple(window for window in known if window is not found), now_us, author)
    return found


def _put(connection: Connection, windows: tuple[Window, ...], now_us: int, author: str) -> None:
    text = json.dumps([asdict(window) for window in windows])
    switches.put(connection, NAME, text, now_us=now_us, author=author)
