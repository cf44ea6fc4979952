"""Geometry of a trace's waterfall: rows in tree order, bars in thousandths of the width, the critical path."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from turntrace.records.observation import Observation
from turntrace.records.trace import Trace

WIDTH: Final = 1000
MIN_BAR: Final = 3
MAX_DEPTH: Final = 12  # deeper rows are drawn at this depth
MOST_AFTER: Final = 1  # what follows the turn's end is drawn for as long as the turn took, times this
_STEPS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterfallRow:
    """One observation: `x` and `width` are thousandths of the drawing's width, `ttft_x` where its first token came."""

    observation: Observation
    depth: int
    x: float
    width: float
    ttft_x: float | None = None
    is_cut: bool = False  # it goes on beyond the edge
    is_critical: bool = False
    has_children: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """The whole drawing. `ticks` are (thousandths, microseconds); `turn_ttft_x` is the turn's own first byte."""

    rows: tuple[WaterfallRow, ...]
    span_us: int
    ticks: tuple[tuple[float, int], ...]
    turn_ttft_x: float | None = None
    turn_width: float = WIDTH


def waterfall(trace: Trace, *, now_us: int | None = None) -> Waterfall:
    """Lay out a trace and its observations.

    The turn has at least half of the width, however long after it something ended: what reaches beyond the edge is cut
    there.

    Args:
        now_us: up to when a turn that is still running is drawn.
    """
    start, end = _extent(trace, now_us)
    span = max(1, end - start)
    scale = WIDTH / span
    children = _children(trace.observations)
    over = None if trace.duration_us is None else trace.started_at_us + trace.duration_us
    critical = critical_path(trace.observations, until_us=over)
    rows = tuple(
        _row(item, depth, start, end, scale, item.span_id in critical, item.span_id in children)
        for item, depth in _walk(children)
    )
    ttft_x = None if trace.ttft_us is None else min(WIDTH, (trace.started_at_us + trace.ttft_us - start) * scale)
    turn_width = WIDTH if trace.duration_us is None else min(WIDTH, trace.duration_us * scale)
    return Waterfall(rows=rows, span_us=span, ticks=_ticks(span), turn_ttft_x=ttft_x, turn_width=turn_width)


def _extent(trace: Trace, now_us: int | None) -> tuple[int, int]:
    start = min([trace.started_at_us, *(item.started_at_us for item in trace.observations if item.started_at_us)])
    last = max([trace.started_at_us, *(_end(item) for item in trace.observations)])
    if trace.duration_us is not None:
        over = trace.started_at_us + trace.duration_us
        return start, max(over, min(last, over + MOST_AFTER * max(1, over - start)))
    last = max(last, trace.started_at_us + (trace.last_byte_us or 0))
    if trace.outcome == "in_progress" and now_us is not None:
        last = max(last, now_us)
    return start, last


def _children(observations: Iterable[Observation]) -> dict[str | None, list[Observation]]:
    """Children by parent's span id, by start; an unknown parent counts as none."""
    known = {item.span_id for item in observations}
    found: dict[str | None, list[Observation]] = {}
    for item in sorted(observations, key=lambda item: (item.started_at_us, item.span_id)):
        parent = item.parent_span_id if item.parent_span_id in known and item.parent_span_id != item.span_id else None
        found.setdefault(parent, []).append(item)
    return found


def _walk(children: dict[str | None, list[Observation]]) -> list[tuple[Observation, int]]:
    """Depth first. Observations that point at each other in a ring have no root: they follow at the end."""
    ordered: list[tuple[Observation, int]] = []
    seen: set[str] = set()
    _descend(children.get(None, []), children, seen, ordered)
    for siblings in list(children.values()):
        _descend([item for item in siblings if item.span_id not in seen], children, seen, ordered)
    return ordered


def _descend(
    roots: Sequence[Observation],
    children: dict[str | None, list[Observation]],
    seen: set[str],
    ordered: list[tuple[Observation, int]],
) -> None:
    stack = [(item, 0) for item in reversed(roots)]
    while stack:
        item, depth = stack.pop()
        if item.span_id in seen:
            continue
        seen.add(item.span_id)
        ordered.append((item, min(depth, MAX_DEPTH)))
        stack.extend((child, depth + 1) for child in reversed(children.get(item.span_id, [])))


def _row(
    item: Observation, depth: int, start: int, end: int, scale: float, is_critical: bool, has_children: bool
) -> WaterfallRow:
    length = end - item.started_at_us if item.duration_us is None else item.duration_us
    x = max(0, min(WIDTH - MIN_BAR, (item.started_at_us - start) * scale))
    width = max(MIN_BAR, min(length * scale, WIDTH - x))
    ttft_x = None if item.ttft_us is None else min(WIDTH, x + item.ttft_us * scale)
    return WaterfallRow(
        observation=item,
        depth=depth,
        x=round(x, 2),
        width=round(width, 2),
        ttft_x=None if ttft_x is None else round(ttft_x, 2),
        is_cut=item.started_at_us + length > end,
        is_critical=is_critical,
        has_children=has_children,
    )


def critical_path(observations: Iterable[Observation], *, until_us: int | None = None) -> frozenset[str]:
    """Span ids of the chain that determined the length: from the last end back through what it had to wait for.

    Args:
        until_us: the turn's end: it waited for nothing that began after it.
    """
    awaited = observations if until_us is None else [item for item in observations if item.started_at_us <= until_us]
    children = _children(awaited)
    found: set[str] = set()
    pending: list[list[Observation]] = [children.get(None, [])]
    while pending:
        for item in _chain(pending.pop()):
            if item.span_id not in found:
                found.add(item.span_id)
                pending.append(children.get(item.span_id, []))
    return frozenset(found)


def _chain(siblings: Sequence[Observation]) -> list[Observation]:
    """Of siblings, those that followed each other up to the last end without waiting for another."""
    chain: list[Observation] = []
    limit: int | None = None
    for item in sorted(siblings, key=_end, reverse=True):
        if limit is None or _end(item) <= limit:
            chain.append(item)
            limit = item.started_at_us
    return chain


def _end(item: Observation) -> int:
    return item.started_at_us + (item.duration_us or 0)


def _ticks(span_us: int) -> tuple[tuple[float, int], ...]:
    """Up to five round times across the width."""
    step = next(step * 10**power for power in range(13) for step in _STEPS if span_us / (step * 10**power) <= 4)
    return tuple((round(at * WIDTH / span_us, 2), at) for at in range(0, span_us + 1, step) if at <= span_us * 0.97)
