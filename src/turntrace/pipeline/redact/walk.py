"""Walks any JSON-like value and hands every text in it to a visitor; the structure stays what it was."""

import json
import re
import string
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Protocol

from turntrace.pipeline.mediatype import stated_type
from turntrace.pipeline.redact.known import told_by
from turntrace.pipeline.redact.media import SHORTEST_RUN, binary, refer

MAX_DEPTH: Final = 64
_SHORTEST: Final = 3  # characters: less identifies nobody
_SHORTEST_JSON: Final = 8
_LONGEST_KEYED: Final = 128
_LEAST_NUMBER: Final = 10_000_000  # shorter numbers identify nobody on their own
_JSON_STARTS: Final = frozenset('{["' + string.whitespace)
_NOTHING: Final = (None, "")
# Words of the protocols, met in every message: looking at them again and again finds nothing.
_ROLES: Final = frozenset(
    {"user", "assistant", "system", "developer", "tool", "function", "text", "model", "human", "ai"}
)
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$@.-][A-Za-z_$.-]{0,63}\Z")


class Kept(str):
    """A text that a rule of the operator keeps as it is."""

    __slots__ = ()


class TooDeep(ValueError):
    """The structure is nested too deeply to be walked."""


class Visitor(Protocol):
    """What is done with each text; every method gives the text that takes its place."""

    def text(self, text: str, prefix: str = "") -> str:
        """A text; `prefix` ("phone: ") tells where it stood and is not part of it."""
        ...

    def known(self, text: str, entity_type: str) -> str:
        """A text that is personal as a whole, because of the key it stood under."""
        ...


def walk(value: Any, visitor: Visitor, key: str = "", depth: int = 0) -> Any:
    """`value` with every text replaced by what `visitor` gives. Returns `value` itself where nothing changed.

    Raises:
        TooDeep: more than 64 levels.
    """
    if isinstance(value, str):
        return _text(value, visitor, key, depth, None)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return number(value, visitor, key)
    if depth >= MAX_DEPTH:
        raise TooDeep
    if isinstance(value, Mapping):
        return _mapping(value, visitor, depth + 1)
    if isinstance(value, (list, tuple)):
        return _sequence(value, visitor, key, depth + 1)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return binary(value)
    return _text(str(value), visitor, key, depth, None)


def _mapping(value: Mapping[Any, Any], visitor: Visitor, depth: int) -> Any:
    changed: dict[Any, Any] | None = None
    for key, item in value.items():
        name = key if isinstance(key, str) else ""
        new_key = visited_key(name, visitor) if name else key
        if isinstance(item, str):
            new = _text(item, visitor, name, depth, stated_type(value) if len(item) >= SHORTEST_RUN else None)
        else:
            new = walk(item, visitor, name, depth)
        if changed is None and (new is not item or new_key is not key):
            changed = {}
            for done, kept in value.items():
                if done is key:
                    break
                changed[done] = kept
        if changed is not None:
            changed[free_key(changed, new_key)] = new
    return value if changed is None else changed


def visited_key(key: str, visitor: Visitor) -> str:
    """A key, visited where it is more than a name."""
    return key if _PLAIN_KEY.match(key) else visitor.text(key)


def free_key(taken: Mapping[Any, Any], key: Any) -> Any:
    """`key`, or the first `key (2)` that is free: two withheld keys must not swallow each other's values."""
    name, count = key, 1
    while name in taken:
        count += 1
        name = f"{key} ({count})"
    return name


def _sequence(value: list[Any] | tuple[Any, ...], visitor: Visitor, key: str, depth: int) -> Any:
    new = [walk(item, visitor, key, depth) for item in value]
    if all(one is other for one, other in zip(new, value, strict=True)):
        return value
    return tuple(new) if isinstance(value, tuple) else new


def number(value: int | float, visitor: Visitor, key: str) -> Any:
    """A number may be a card or a telephone; it becomes a text only if its key says so or all of it is personal."""
    entity_type, prefix = told_by(key) if key else _NOTHING
    if not (entity_type or prefix) or (isinstance(value, float) and not isfinite(value)):
        return value  # without a telling key a number is a time, a size or an id
    if entity_type:
        digits = _digits(value)
        new = visitor.known(digits, entity_type)
    elif value == int(value) and not -_LEAST_NUMBER < value < _LEAST_NUMBER:
        digits = _digits(value)
        new = visitor.text(digits, prefix)
    else:
        return value
    return value if new == digits else new


def _digits(value: int | float) -> str:
    """How a person would write it: columns of data frames with a gap hold telephones as fractions."""
    if abs(value) >= 10**30:
        return "9" * 31  # the interpreter refuses to write very long numbers
    return str(int(value)) if value == int(value) else str(value)


def _text(text: str, visitor: Visitor, key: str, depth: int, media_type: str | None) -> str:
    if type(text) is Kept:
        return text
    entity_type, prefix = told_by(key) if key else _NOTHING
    if entity_type:
        return visitor.known(text, entity_type) if text.strip() else text
    size = len(text)
    if size < _SHORTEST or text in _ROLES:
        return text
    if size >= SHORTEST_RUN or ";base64," in text:
        text = refer(text, media_type)
    if depth < MAX_DEPTH and looks_like_json(text):
        return _json(text, visitor, key, depth + 1)
    return visitor.text(text, prefix) if prefix and size <= _LONGEST_KEYED else visitor.text(text)


def looks_like_json(text: str) -> bool:
    """Whether a text may be JSON of its own, by its two ends."""
    if len(text) < _SHORTEST_JSON or text[0] not in _JSON_STARTS:
        return False
    first, last = text[0], text[-1]
    if first.isspace() or last.isspace():
        text = text.strip()
        first, last = text[:1], text[-1:]
    return (first == "{" and last == "}") or (first == "[" and last == "]") or (first == '"' and last == '"')


def _json(text: str, visitor: Visitor, key: str, depth: int) -> str:
    """A text that is itself JSON: parsed, walked and written again, so that escapes hide nothing and it stays valid."""
    has_duplicate = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicate  # of a key given twice the first value would escape the walk
        built = dict(pairs)
        has_duplicate = has_duplicate or len(built) < len(pairs)
        return built

    try:
        value = json.loads(text, object_pairs_hook=collect)
        new = walk(value, visitor, key, depth)
    except (ValueError, RecursionError):  # TooDeep is a ValueError: what cannot be walked is scanned as it stands
        return visitor.text(text)
    if new is value and not has_duplicate:
        return text
    return json.dumps(new, ensure_ascii=False)
