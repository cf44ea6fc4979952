"""Coercion of attribute values: what should be structured may be native, JSON text, or a list of JSON texts."""

import math
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

import orjson

_JSON_STARTS: Final = frozenset('[{"')


def structured(value: Any) -> Any:
    """The value behind JSON text; text that cannot be parsed stays as it is."""
    if isinstance(value, str):
        if value[:1] not in _JSON_STARTS:
            return value
        try:
            return orjson.loads(value)
        except ValueError:
            return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return [structured(item) for item in value]
    return value


def json_value(value: Any) -> Any:
    """Like `structured`, for dialects that encode numbers and plain words as JSON too."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except ValueError:
        return value


def text(value: Any) -> str | None:
    """A non-empty string, or None; numbers become their decimal form."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def number(value: Any) -> float | None:
    """A finite number, also from text; None where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def microseconds(seconds: Any) -> int | None:
    """A length in microseconds from one in seconds."""
    length = number(seconds)
    return None if length is None or not 0 <= length < 1e9 else round(length * 1_000_000)


def instant_us(value: Any) -> int | None:
    """Microseconds since the Unix epoch from an ISO 8601 text (JSON-quoted or not)."""
    value = structured(value)
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return round(at.timestamp() * 1_000_000)


def texts(value: Any) -> tuple[str, ...]:
    """A tuple of the strings in a list, in JSON text of a list, or of one string."""
    value = structured(value)
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, (list, tuple)):
        return tuple(item for item in value if isinstance(item, str))
    return ()


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, also from JSON text; anything else is empty."""
    value = structured(value)
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list, also from JSON text; anything else is empty."""
    value = structured(value)
    return list(value) if isinstance(value, (list, tuple)) else []


def first(values: Iterable[Any], read: Callable[[Any], Any]) -> Any:
    """The first reading that is not None."""
    return next((found for found in map(read, values) if found is not None), None)


def render(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
