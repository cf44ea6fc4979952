"""Streamed bodies (server-sent events, JSON lines): personal data cut into chunks is put together, then taken out.

Strings at the same place of successive events are chunks of one text, or values of their own: they are looked at both
ways, for what stands between two values tells where each of them ends.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from turntrace.pipeline.redact.known import told_by
from turntrace.pipeline.redact.walk import (
    MAX_DEPTH,
    TooDeep,
    Visitor,
    free_key,
    looks_like_json,
    number,
    visited_key,
    walk,
)

Replacement = tuple[int, int, str]  # start, end, what stands there instead
_LINE: Final = re.compile(r"(data: ?|[0-9a-z]:)?(.*?)(\r?)\Z", re.DOTALL)
_BETWEEN: Final = "\n}{\n"  # no personal data goes across it
_SHORTEST: Final = 6  # characters: a shorter chunk says nothing on its own
_LONGEST_KEYED: Final = 128


class Finder(Visitor, Protocol):
    """A visitor that also tells where something is to be replaced."""

    def spans(self, text: str) -> Sequence[Replacement]:
        """The replacements in a text, in order and without overlap."""
        ...


@dataclass(slots=True)
class _Piece:
    """One string of one event: `holder[key]`, named `name`, standing at `start` in the text of its series."""

    holder: Any
    key: Any
    name: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(slots=True)
class _Series:
    """Strings at the same place of successive events, which a client would put together."""

    pieces: list[_Piece] = field(default_factory=list)
    length: int = 0

    def add(self, holder: Any, key: Any, name: str, text: str) -> None:
        self.pieces.append(_Piece(holder, key, name, text, self.length))
        self.length += len(text)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


class Stream:
    """A streamed body taken apart; `rewrite` puts it back together.

    Raises:
        TooDeep: an event of more than 64 levels.
    """

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
                self._of((None, prefix or len(self._lines))).add(entry, 1, "", rest)
        else:
            entry = [prefix, value, suffix, True]
            self._gather(entry, 1, "", (prefix,), 0)
        self._lines.append(entry)

    def _of(self, path: tuple[Any, ...]) -> _Series:
        return self._series.setdefault(path, _Series())

    def _gather(self, holder: Any, key: Any, name: str, path: tuple[Any, ...], depth: int) -> None:
        value = holder[key]
        if isinstance(value, str) and value:
            self._of(path).add(holder, key, name, value)
        elif isinstance(value, (dict, list)) and depth >= MAX_DEPTH:
            raise TooDeep
        elif isinstance(value, dict):
            for inner in value:
                self._gather(value, inner, inner, (*path, inner), depth + 1)
        elif isinstance(value, list):
            for index in range(len(value)):
                self._gather(value, index, name, (*path, index), depth + 1)

    def rewrite(self, finder: Finder) -> str | None:
        """The body with the replacements that `finder` gives; None where there are none."""
        has_changed = False
        for series in self._series.values():
            replacements = _settled([*finder.spans(series.text), *_of_pieces(series.pieces, finder)])
            whole = _whole(series, finder)
            if whole is not None:
                replacements = [(0, series.length, whole)]
            if replacements:
                has_changed = True
                _apply(series, replacements)
        for entry in self._lines:
            if entry[3]:
                new = _rekeyed(entry[1], "", finder)
                has_changed = has_changed or new is not entry[1]
                entry[1] = new
        return self._write() if has_changed else None

    def _write(self) -> str:
        return "\n".join(
            prefix + (json.dumps(value, ensure_ascii=False, separators=(",", ":")) if is_json else value) + suffix
            for prefix, value, suffix, is_json in self._lines
        )


def is_stream(body: str) -> bool:
    """Whether a body looks like events or JSON lines rather than plain text or one JSON document."""
    head = body[:4096].lstrip()
    if head.startswith(("data:", "event:", "id:", "retry:", ":")) or re.match(r"[0-9a-z]:[\[{\"]", head):
        return True
    return head.startswith("{") and "}\n{" in body.replace("\r", "")


def _match(line: str) -> tuple[str | None, ...]:
    found = _LINE.match(line)
    return found.groups() if found else ("", line, "")


def _of_pieces(pieces: Sequence[_Piece], finder: Finder) -> Iterator[Replacement]:
    """What is personal in values on their own: by the name of their field, in JSON of theirs, or by their looks."""
    loose: list[tuple[_Piece, str]] = []
    for piece in pieces:
        entity_type, prefix = told_by(piece.name) if piece.name else (None, "")
        if entity_type or looks_like_json(piece.text):
            new = walk(piece.text, finder, piece.name)
            if new != piece.text:
                yield piece.start, piece.end, new
        elif len(piece.text) >= _SHORTEST:
            loose.append((piece, prefix if len(piece.text) <= _LONGEST_KEYED else ""))
    if loose and (len(pieces) > 1 or loose[0][1]):
        yield from _of_loose(loose, finder)


def _of_loose(loose: Sequence[tuple[_Piece, str]], finder: Finder) -> Iterator[Replacement]:
    text = _BETWEEN.join(prefix + piece.text for piece, prefix in loose)
    spans = finder.spans(text)
    at = 0
    for piece, prefix in loose:
        begin = at + len(prefix)
        end = begin + len(piece.text)
        for first, last, instead in spans:
            if last > begin and first < end:
                yield piece.start + max(first - begin, 0), piece.start + min(last, end) - begin, instead
        at = end + len(_BETWEEN)


def _whole(series: _Series, finder: Finder) -> str | None:
    """JSON that was cut into chunks, such as the arguments of a tool call: walked as a whole, None where it stays."""
    text = series.text
    if len(series.pieces) < 2 or not looks_like_json(text):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # several documents, or one that was cut off
        return None
    new = walk(text, finder)
    return None if new == text else new


def _rekeyed(value: Any, name: str, finder: Finder) -> Any:
    """The value with its keys and numbers visited; the same object where nothing changed."""
    if isinstance(value, dict):
        changed: dict[str, Any] = {}
        for key, item in value.items():
            changed[free_key(changed, visited_key(key, finder))] = _rekeyed(item, key, finder)
        is_same = all(a is b for a, b in zip(changed, value, strict=True))
        return value if is_same and all(changed[key] is item for key, item in value.items()) else changed
    if isinstance(value, list):
        items = [_rekeyed(item, name, finder) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return number(value, finder, name) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _settled(replacements: Iterable[Replacement]) -> list[Replacement]:
    """In order and without overlap: of those that overlap the longest says what stands for all of them."""
    settled: list[tuple[Replacement, int]] = []  # (replacement, length of the one that says)
    for first, last, instead in sorted(replacements, key=lambda item: (item[0], -item[1])):
        size = last - first
        if not settled or first >= settled[-1][0][1]:
            settled.append(((first, last, instead), size))
            continue
        (begin, end, known), longest = settled[-1]
        best = (known, longest) if longest >= size else (instead, size)
        settled[-1] = (begin, max(end, last), best[0]), best[1]
    return [replacement for replacement, _ in settled]


def _apply(series: _Series, replacements: Sequence[Replacement]) -> None:
    """Write each placeholder into the first chunk it touches and cut the rest of its extent out of the others."""
    for piece in series.pieces:
        end = piece.end
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
