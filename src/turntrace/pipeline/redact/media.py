"""Images, audio and other bytes written as text: replaced by a reference before anything is scanned."""

import re
from typing import Final

_DATA_URL: Final = re.compile(
    r"data:([\w.+-]{1,40}/[\w.+-]{1,80})?(?:;[\w-]{1,40}=[^;,\s\"']{0,80}){0,4};base64,"
    r"((?:[A-Za-z0-9+/=_\-%]+(?:\r?\n(?=[A-Za-z0-9+/]{40}))?)*)",
    re.IGNORECASE,
)
_RUN: Final = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{400,}={0,2}")
SHORTEST_RUN: Final = 400


def refer(text: str, media_type: str | None = None) -> str:
    """`text` with base64 replaced by references such as `[image/png 34 KB]`.

    Args:
        text: any text; data URLs of any length and bare base64 of 400 characters or more are found in it.
        media_type: of a bare base64 run, where the structure around the text names it.
    """
    if len(text) < SHORTEST_RUN and ";base64," not in text[:400] and ";BASE64," not in text[:400]:
        return text
    if ";base64," in text or ";BASE64," in text:
        text = _DATA_URL.sub(lambda match: _reference(match[1] or "text/plain", len(match[2])), text)
    if len(text) >= SHORTEST_RUN:
        text = _RUN.sub(lambda match: _run(match[0], media_type), text)
    return text


def binary(value: bytes | bytearray | memoryview) -> str:
    """The reference that stands for raw bytes."""
    return f"[binary {_size(len(value))}]"


def _run(run: str, media_type: str | None) -> str:
    """A long run is base64 only when it mixes cases and digits as encoded bytes do; anything else is left as text."""
    has_all = any(c.isdigit() for c in run) and any(c.islower() for c in run) and any(c.isupper() for c in run)
    return _reference(media_type or "base64", len(run)) if has_all else run


def _reference(kind: str, encoded: int) -> str:
    return f"[{kind.lower()} {_size(encoded * 3 // 4)}]"


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.0f} KB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MB"
