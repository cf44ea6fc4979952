"""Embedding vectors are numbers by the thousand that nobody reads: their length is kept instead."""

from typing import Any, Final

_MOST_NUMBERS: Final = 32
_MOST_NESTED: Final = 8


def without_vectors(value: Any, depth: int = 0) -> Any:
    """The value with every long list of numbers replaced by `{"dimensions": n}`."""
    if isinstance(value, dict):
        return {name: without_vectors(item, depth + 1) for name, item in value.items()} if _may_go(depth) else value
    if not isinstance(value, list):
        return value
    if len(value) > _MOST_NUMBERS and all(type(item) in (int, float) for item in value):
        return {"dimensions": len(value)}
    return [without_vectors(item, depth + 1) for item in value] if _may_go(depth) else value


def _may_go(depth: int) -> bool:
    return depth < _MOST_NESTED
