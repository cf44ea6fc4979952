"""Sums over a turn's model calls, and whether the turn failed."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Final

from turntrace.pipeline.draft import Draft, Work
from turntrace.records.usage import Usage

_COUNTS: Final = tuple(item.name for item in fields(Usage) if item.name not in ("details", "is_estimated"))


def summarise(work: Work) -> None:
    """Set usage, cost, models and status of the turn."""
    calls = [draft for draft in work.drafts if draft.is_model_call]
    if calls:
        work.usage = total_usage(draft.usage for draft in calls)
        work.models = tuple(dict.fromkeys(draft.model for draft in calls if draft.model))
        work.unpriced_count = sum(1 for draft in calls if draft.usage is not None and draft.cost is None)
        _add_costs(work, calls)
    work.status = "error" if has_failed(work) else "ok"


def has_failed(work: Work) -> bool:
    """An unhandled error, an answer of 500 or more, or a failed root observation."""
    turn = work.fragment.turn
    if turn.error is not None or (turn.http_status or 0) >= 500:
        return True
    return any(draft.status == "error" and draft.parent_span_id is None for draft in work.drafts)


def _add_costs(work: Work, calls: Iterable[Draft]) -> None:
    for draft in calls:
        cost = draft.cost
        if cost is None:
            continue
        work.cost_total_nano = (work.cost_total_nano or 0) + cost.total_nano
        if cost.input_nano is not None:
            work.cost_input_nano = (work.cost_input_nano or 0) + cost.input_nano
        if cost.output_nano is not None:
            work.cost_output_nano = (work.cost_output_nano or 0) + cost.output_nano


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum, with None for counts that no call states; None when no call states any."""
    stated = [usage for usage in usages if usage is not None]
    if len(stated) < 2:
        return stated[0] if stated else None
    sums: dict[str, int] = {}
    details: dict[str, int] = {}
    for usage in stated:
        for name in _COUNTS:
            count = getattr(usage, name)
            if count is not None:
                sums[name] = sums.get(name, 0) + count
        for name, count in usage.details.items():
            details[name] = details.get(name, 0) + count
    return Usage(**sums, details=details, is_estimated=any(usage.is_estimated for usage in stated))
