"""Reads the client's objects, dictionaries of the wire and what looks like them by the same names."""

from typing import Any


def get(value: Any, *names: str) -> Any:
    """The value at a path of attributes or keys; None where a step is missing."""
    for name in names:
        if value is None:
            return None
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


def extra(value: Any, name: str) -> Any:
    """A field that the client's models do not declare; asking them for it as an attribute is slow."""
    if isinstance(value, dict):
        return value.get(name)
    found = getattr(value, "model_extra", None)
    return found.get(name) if isinstance(found, dict) else None


def text(value: Any) -> str | None:
    """A non-empty string, or None."""
    return value if isinstance(value, str) and value else None


def listed(value: Any) -> list[Any]:
    """The items of a list or tuple, else none."""
    return list(value) if isinstance(value, (list, tuple)) else []


def plain(value: Any) -> Any:
    """A model of the client's as dictionaries and lists, without what was not sent; anything else as it is."""
    dump = getattr(value, "model_dump", None)
    return dump(exclude_unset=True, warnings=False) if callable(dump) else value
