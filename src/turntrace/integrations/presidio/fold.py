"""Undoes tricks of spelling before anything is searched, keeping track of where each character came from."""

import re
import unicodedata
from typing import Final

from turntrace.pipeline.redact import Entity

# Characters that show nothing: soft hyphen, zero-width, direction marks, variation selectors, tags.
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_DASHES: Final = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
_ODD: Final = re.compile(f"[{_INVISIBLE}{_DASHES}]|(?![0-9])\\d")
_IS_INVISIBLE: Final = re.compile(f"[{_INVISIBLE}]")
_IS_DASH: Final = re.compile(f"[{_DASHES}]")
_RUNS: Final = re.compile(r"([.\-_*=#~+/\\:])\1{8,}")
_PERCENT: Final = re.compile(r"%[2-7][0-9A-Fa-f]")
_ESCAPE: Final = re.compile(r"%([2-7][0-9A-Fa-f])|\+")
_FORM: Final = re.compile(r"=[^\s=&+]{1,200}\+")
_RUN_CHARACTERS: Final = ".-_*=#~+/\\:"


class Folded:
    """A text made plain: full-width and other digits as ASCII, nothing invisible, long runs of dots blanked.

    `text` is what is searched; `restore` brings findings back to the offsets of the original.
    """

    __slots__ = ("_length", "_origin", "text")

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._origin: list[int] | None = None
        if not text.isascii() and (not unicodedata.is_normalized("NFKC", text) or _ODD.search(text)):
            text, self._origin = _fold(text)
        self.text = squash(text)

    def restore(self, entity: Entity) -> Entity:
        """The entity at its place in the original text, invisible characters inside it included."""
        if self._origin is None:
            return entity
        last = self._origin[entity.end - 1] if entity.end else 0
        following = self._origin[entity.end] if entity.end < len(self._origin) else self._length
        return Entity(self._origin[entity.start], max(last + 1, following), entity.type, entity.score, entity.source)


class Unescaped:
    """A text with the escapes of addresses and forms undone (`%40`, `+` for a blank); `restore` as in `Folded`."""

    __slots__ = ("_length", "_origin", "text")

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._origin: list[int] = []
        parts: list[str] = []
        end = 0
        for match in _ESCAPE.finditer(text):
            parts.append(text[end : match.start()])
            self._origin += range(end, match.start())
            parts.append(" " if match[1] is None else chr(int(match[1], 16)))
            self._origin.append(match.start())
            end = match.end()
        parts.append(text[end:])
        self._origin += range(end, len(text))
        self.text = "".join(parts)

    def restore(self, entity: Entity) -> Entity:
        """The entity at its place in the text with the escapes."""
        end = self._origin[entity.end] if entity.end < len(self._origin) else self._length
        return Entity(self._origin[entity.start], end, entity.type, entity.score, entity.source)


def is_escaped(text: str) -> bool:
    """Whether a text has escapes of addresses or forms in it."""
    if "%" in text and _PERCENT.search(text):
        return True
    return "+" in text and "=" in text and _FORM.search(text) is not None


def squash(text: str) -> str:
    """Runs of nine or more equal marks reduced to three and blanks, the length kept.

    Patterns that look for dotted names take quadratic time on such runs, and no finding lies within one.
    """
    if not any(mark * 9 in text for mark in _RUN_CHARACTERS):
        return text
    return _RUNS.sub(lambda match: match[1] * 3 + " " * (len(match[0]) - 3), text)


def _fold(text: str) -> tuple[str, list[int]]:
    parts: list[str] = []
    origin: list[int] = []
    for index, character in enumerate(text):
        plain = character if character < "\x80" else _plain(character)
        if parts and (composed := _composed(parts[-1], plain)):
            parts[-1] = composed  # stands where its letter stood
            continue
        parts.append(plain)
        if len(plain) == 1:
            origin.append(index)
        else:
            origin.extend([index] * len(plain))
    return "".join(parts), origin


def _composed(before: str, mark: str) -> str | None:
    """A letter and the mark that follows it as one character; None where they are none."""
    if not before or len(mark) != 1 or not unicodedata.combining(mark):
        return None
    found = unicodedata.normalize("NFC", before + mark)
    return found if len(found) == len(before) else None


def _plain(character: str) -> str:
    if _IS_INVISIBLE.match(character):
        return ""
    if _IS_DASH.match(character):
        return "-"
    digit = unicodedata.decimal(character, None)
    return str(digit) if digit is not None else unicodedata.normalize("NFKC", character)
