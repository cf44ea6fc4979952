"""Values as every database takes them: texts cut to their column, no NUL, no lone surrogates, numbers in range.

The pipeline bounds what it knows; this is for what got past it, and is only used after a database refused a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Boolean, SmallInteger, String, Table

from turntrace.storage import bulk

_MOST: Final = 2**63 - 1
_MOST_SMALL: Final = 2**15 - 1


def rows(table: Table, found: Sequence[bulk.Values]) -> list[bulk.Values]:
    """Rows in the order of `bulk.column_names`, made acceptable."""
    kinds = [table.c[name].type for name in bulk.column_names(table)]
    return [tuple(_clean(kind, value) for kind, value in zip(kinds, row, strict=True)) for row in found]


def row(table: Table, found: Mapping[str, Any]) -> dict[str, Any]:
    """One row by column names, made acceptable."""
    return {name: _clean(table.c[name].type, value) for name, value in found.items()}


def text(value: str) -> str:
    """A text without NUL and lone surrogates."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _clean(kind: Any, value: Any) -> Any:
    if isinstance(value, str):
        length = kind.length if isinstance(kind, String) else None
        return text(value) if length is None else text(value)[:length]
    if isinstance(value, bool) or isinstance(kind, Boolean):
        return value
    if isinstance(value, (int, float)):
        most = _MOST_SMALL if isinstance(kind, SmallInteger) else _MOST
        return max(-most, min(most, int(value)))
    return value
