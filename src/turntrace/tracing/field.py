"""Checks of what the host hands us: unknown names and wrong types are refused with what would be allowed."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from turntrace.records.observation import LEVELS, OBSERVATION_TYPES

MAX_TAGS: Final = 100
_MAX_NAME: Final = 1_000  # characters of a name, id or tag
USAGE_KEYS: Final = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "cache_audio_read_tokens"),
    *("input_image_tokens", "output_image_tokens", "cache_image_read_tokens", "audio_seconds", "input_characters"),
)
_USAGE_KEYS: Final = frozenset(USAGE_KEYS)
_BIGINT: Final = 1 << 63
_COST_KEYS: Final = ("input", "output", "total")
Check = Callable[[str, Any], Any]
_anything: Final = None  # in place of a check


def _text(name: str, value: Any) -> str:
    if type(value) is str:
        return value if len(value) <= _MAX_NAME else value[:_MAX_NAME]
    if isinstance(value, (str, int, UUID)) and not isinstance(value, bool):
        return str(value)[:_MAX_NAME]
    raise TypeError(f"{name}: expected a string, got {type(value).__name__}")


def _choice(allowed: tuple[str, ...]) -> Check:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    return check


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict, got {type(value).__name__}")
    return {key if isinstance(key, str) else str(key): item for key, item in value.items()}


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name}: expected a list of strings, got {type(value).__name__}")
    return [_text(name, item) for item in value]


def _list(name: str, value: Any) -> list[Any]:
    if type(value) is list:
        return value
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a list, got {type(value).__name__}")
    return list(value)


def _usage(name: str, value: Any) -> dict[str, int | bool]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict with keys of {', '.join(USAGE_KEYS)}, got {type(value).__name__}")
    usage: dict[str, int | bool] = {}
    for key, count in value.items():
        if type(count) is int and key in _USAGE_KEYS and 0 <= count < _BIGINT:
            usage[key] = count
        elif key == "is_estimated":
            usage[key] = bool(count)
        elif key not in _USAGE_KEYS:
            raise ValueError(f"{name}: unknown key {key!r}; expected {', '.join(USAGE_KEYS)}")
        elif count is not None:
            usage[key] = _count(f"{name}[{key!r}]", count)
    return usage


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if not 0 <= value < _BIGINT:
        raise ValueError(f"{name}: expected a number from 0 on, got {value!r}")
    return int(value)


def _cost(name: str, value: Any) -> str | dict[str, str]:
    """US dollars as exact decimal strings; one number is the total."""
    if not isinstance(value, Mapping):
        return _money(name, value)
    unknown = [key for key in value if key not in _COST_KEYS]
    if unknown:
        raise ValueError(f"{name}: unknown key {unknown[0]!r}; expected {', '.join(_COST_KEYS)}")
    return {key: _money(f"{name}[{key!r}]", item) for key, item in value.items() if item is not None}


def _money(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise TypeError(f"{name}: expected US dollars as a number or string, got {type(value).__name__}")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{name}: expected US dollars, got {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{name}: expected US dollars from 0 on, got {value!r}")
    return str(value)


def _prompt(name: str, value: Any) -> dict[str, Any]:
    """A prompt version (of `tt.prompts`), a dict with its name, or the name."""
    if isinstance(value, str):
        return {"name": value}
    keys = ("name", "version", "label", "variables")
    given = value if isinstance(value, Mapping) else {key: getattr(value, key, None) for key in keys}
    if not isinstance(given.get("name"), str):
        raise TypeError(f"{name}: expected a prompt version, or a dict with {', '.join(keys)}")
    return {key: given[key] for key in keys if given.get(key) is not None}


def _length_us(name: str, value: Any) -> int:
    return _count(name, value)


_TURN: Final[dict[str, Check | None]] = {
    **dict.fromkeys(("name", "session_id", "user_id", "feature", "experiment", "request_id"), _text),
    **dict.fromkeys(("input", "output"), _anything),
    **dict.fromkeys(("metadata", "feature_flags"), _mapping),
    "tags": _texts,
    "content": _choice(("metadata", "redacted")),
}
TYPES: Final = frozenset(OBSERVATION_TYPES)
_check_type: Final = _choice(OBSERVATION_TYPES)
OBSERVATION: Final[dict[str, Check | None]] = {
    "type": _check_type,
    "level": _choice(LEVELS),
    **dict.fromkeys(("input", "output"), _anything),
    **dict.fromkeys(("model", "model_requested", "provider", "response_id", "service_tier"), _text),
    **dict.fromkeys(("finish_reason", "tool_name", "tool_call_id", "agent_name", "name"), _text),
    **dict.fromkeys(("query", "status_message"), _anything),
    **dict.fromkeys(("metadata", "parameters", "retrieval"), _mapping),
    **dict.fromkeys(("tags", "finish_reasons"), _texts),
    **dict.fromkeys(("tool_calls", "tool_definitions", "documents", "input_documents"), _list),
    "usage": _usage,
    "cost": _cost,
    "prompt": _prompt,
    "completion_started_us": _length_us,
}
# Checked values of these are small and our own: they need no encoding of their own at capture.
SMALL: Final = frozenset(
    {
        *("type", "level", "model", "model_requested", "provider", "response_id", "service_tier", "finish_reason"),
        *("tool_name", "tool_call_id", "agent_name", "tags", "finish_reasons", "usage", "cost"),
        *("completion_started_us", "name"),
    }
)


def check_type(value: Any) -> str:
    """The type of an observation, checked."""
    return value if type(value) is str and value in TYPES else _check_type("type", value)


def check_turn(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a trace, checked; those that are None are left out."""
    return _checked(_TURN, _no_turn_field, fields)


def check_observation(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an observation, checked; those that are None are left out."""
    return _checked(OBSERVATION, _no_field, fields)


def _checked(checks: Mapping[str, Check | None], unknown: Check, fields: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        check = checks.get(name, unknown)
        if value is not None or check is unknown:
            checked[name] = value if check is None else check(name, value)
    return checked


def _no_turn_field(name: str, value: Any) -> Any:
    raise TypeError(f"update_trace: unknown field {name!r}; expected {', '.join(_TURN)}")


def _no_field(name: str, value: Any) -> Any:
    raise TypeError(f"update: unknown field {name!r}; expected {', '.join(OBSERVATION)}")
