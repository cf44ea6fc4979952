"""Model calls around another one, whose usage is said twice: among the rows of a turn, when late ones have joined it.

Within a fragment `pipeline.count` sees to it; fragments that come one after the other meet only here.
"""

from collections.abc import Mapping
from typing import Any, Final

from turntrace.storage.restate import COSTS, COUNTS, MODEL_CALLS

Row = Mapping[str, Any]

_TRANSPARENT: Final = frozenset({"span", "chain"})
# What makes a chain of the row of a call.
AS_CHAIN: Final[Row] = {
    "type": "chain",
    **dict.fromkeys((*COUNTS, *COSTS)),
    **dict.fromkeys(("usage_details", "is_usage_estimated", "cost_source", "price_version", "price_tier")),
}


def find(rows: Mapping[str, Row]) -> set[str]:
    """Span ids of the calls that have a call of their type below them, and only spans and chains between.

    One that alone states usage stays a call: there would be none.

    Args:
        rows: of a turn's observations, by span id.
    """
    inner: dict[str, list[Row]] = {}
    nearest: dict[str, str | None] = {}
    for row in rows.values():
        above = _above(row, rows, nearest) if row["type"] in MODEL_CALLS else None
        if above is not None and _is_around(rows[above], row):
            inner.setdefault(above, []).append(row)
    return {span_id for span_id, calls in inner.items() if _is_said(calls) or not _is_said([rows[span_id]])}


def _above(row: Row, rows: Mapping[str, Row], nearest: dict[str, str | None]) -> str | None:
    """The nearest ancestor that is neither span nor chain; each run of those is walked once."""
    path: list[str] = []
    at: str = row["parent_span_id"] or ""
    while at in rows and at not in nearest and rows[at]["type"] in _TRANSPARENT:
        nearest[at] = None  # late fragments may close a circle
        path.append(at)
        at = rows[at]["parent_span_id"] or ""
    found = nearest.get(at, at if at in rows else None)
    nearest.update(dict.fromkeys(path, found))
    return found


def _is_around(outer: Row, call: Row) -> bool:
    return outer is not call and outer["type"] == call["type"] and outer["started_at_us"] <= call["started_at_us"]


def _is_said(calls: list[Row]) -> bool:
    return any(row["is_usage_estimated"] is not None or row["cost_total_nano"] is not None for row in calls)
