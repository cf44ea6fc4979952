"""Recorded arguments of a decorated function: `{"args": […], "kwargs": {…}}`."""

from typing import Any


def unwrap(value: Any) -> Any:
    """The only argument, or the named ones alone; anything else is returned as it is."""
    if not isinstance(value, dict) or set(value) != {"args", "kwargs"}:
        return value
    args, kwargs = value["args"], value["kwargs"]
    if isinstance(args, (list, tuple)) and len(args) == 1 and not kwargs:
        return args[0]
    return kwargs if not args and kwargs else value


def query_in(value: Any) -> str | None:
    """The question of a retrieval: the value itself, its telling argument, or the only text in it."""
    value = unwrap(value)
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = value.get("kwargs") or value if "kwargs" in value else value
        for name in ("query", "q", "question", "input", "text"):
            if isinstance(value.get(name), str):
                return str(value[name])
        found = [item for item in value.values() if isinstance(item, str)]
        return found[0] if len(found) == 1 else None
    return None
