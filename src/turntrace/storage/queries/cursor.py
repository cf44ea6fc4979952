"""Opaque cursors of keyset pagination: base64 of the last row's position."""

import base64
import binascii
import json
import re
from typing import Final

from turntrace.errors import InvalidInput

MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 50

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Position = tuple[int, str]


def encode(at_us: int, key: str) -> str:
    """The cursor of the row whose time is `at_us` (microseconds) and whose key is `key`."""
    text = json.dumps([at_us, key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str | None) -> Position | None:
    """The position a cursor stands for; None for None.

    Raises:
        InvalidInput: the text is not a cursor of ours.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at_us, key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeError, ValueError, TypeError, RecursionError):
        raise InvalidInput("cursor: use `next_cursor` of the page before, unchanged", field="cursor") from None
    if type(at_us) is not int or not -(2**63) <= at_us < 2**63 or not _is_key(key):
        raise InvalidInput("cursor: use `next_cursor` of the page before, unchanged", field="cursor")
    return at_us, key


def _is_key(key: object) -> bool:
    """Whether a column may hold this: no database takes half an emoji, and PostgreSQL no U+0000."""
    return isinstance(key, str) and len(key) <= 1000 and "\0" not in key and not _SURROGATE.search(key)
