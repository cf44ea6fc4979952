"""Streamed bodies (server-sent events, JSON lines): personal data cut into chunks is put together, then taken out."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Replacement = tuple[int, int, str]  # start, end, what stands there instead
Find = Callable[[str], Sequence[Replacement]]  # the replacements of one text
_LINE: Final = re.compile(r"(data: ?|[0-9a-z]:)?(.*?)(\r?)\Z", re.DOTALL)


@dataclass(slots=True)
class _Piece:
    """One string of one event: `holder[key]`, standing at `start` in the text of its series."""

    holder: Any
    key: Any
    text: str
    start: int


@dataclass(slots=True)
class _Series:
    """Strings at the same place of successive events, which a client would put together."""

    pieces: list[_Piece] = field(default_factory=list)
    length: int = 0

    def add(self, holder: Any, key: Any, text: str) -> None:
        self.pieces.append(_Piece(holder, key, text, self.length))
        self.length += len(text)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


class Stream:
    """A streamed body taken apart: `texts()` gives what a reader would see, `rewrite` puts it back together."""

    def __init__(self, body: str) -> None:
        self._lines: list[list[Any]] = []  # [prefix, value, suffix, is_json]
        self._series: dict[tuple[Any, ...], _Series] = {}
        for line in body.split("\n"):
            self._read(line)

    def _read(self, line: str) -> None:
        prefix, rest, suffix = (group or "" for group in _match(line))
        try:
            value = json.loads(rest) if rest[:1] in '{["' and rest else None
        except (ValueError, RecursionError):
            value = None
        if value is None:
            entry = [prefix, rest, suffix, False]
            if rest:  # chunks of text follow each other; any other line stands alone
                self._of((None, prefix or len(self._lines))).add(entry, 1, rest)
        else:
            entry = [prefix, value, suffix, True]
            self._gather(entry, 1, (prefix,), 0)
        self._lines.append(entry)

    def _of(self, path: tuple[Any, ...]) -> _Series:
        return self._series.setdefault(path, _Series())

    def _gather(self, holder: Any, key: Any, path: tuple[Any, ...], depth: int) -> None:
        value = holder[key]
        if isinstance(value, str) and value:
            self._of(path).add(holder, key, value)
        elif isinstance(value, dict) and depth < 32:
            for name in value:
                self._gather(value, name, (*path, name), depth + 1)
        elif isinstance(value, list) and depth < 32:
            for index in range(len(value)):
                self._gather(value, index, (*path, index), depth + 1)

    def texts(self) -> list[str]:
        """The texts to be analysed, each put together from its chunks."""
        return [series.text for series in self._series.values()]

    def rewrite(self, find: Find) -> str | None:
        """The body with the replacements that `find` gives for each text; None where there are none."""
        has_changed = False
        for series in self._series.values():
            replacements = find(series.text)
            if replacements:
                has_changed = True
                _apply(series, replacements)
        return self._write() if has_changed else None

    def _write(self) -> str:
        return "\n".join(
            prefix + (json.dumps(value, ensure_ascii=False, separators=(",", ":")) if is_json else value) + suffix
            for prefix, value, suffix, is_json in self._lines
        )


def is_stream(body: str) -> bool:
    """Whether a body looks like events or JSON lines rather than plain text or one JSON document."""
    head = body[:4096].lstrip()
    if head.startswith(("data:", "event:", "id:", ":")) or re.match(r"[0-9a-z]:[\[{\"]", head):
        return True
    return head.startswith("{") and "}\n{" in body.replace("\r", "")


def _match(line: str) -> tuple[str | None, ...]:
    found = _LINE.match(line)
    return found.groups() if found else ("", line, "")


def _apply(series: _Series, replacements: Sequence[Replacement]) -> None:
    """Write each placeholder into the first chunk it touches and cut the rest of its extent out of the others."""
    for piece in series.pieces:
        end = piece.start + len(piece.text)
        parts: list[str] = []
        at = piece.start
        for first, last, instead in replacements:
            if last <= piece.start or first >= end:
                continue
            parts.append(piece.text[at - piece.start : max(first, at) - piece.start])
            if first >= piece.start:
                parts.append(instead)
            at = min(last, end)
        parts.append(piece.text[at - piece.start :])
        piece.holder[piece.key] = "".join(parts)
