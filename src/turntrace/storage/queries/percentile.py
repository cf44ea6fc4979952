"""Percentiles from histogram rows (1 % log buckets), which add up over any period and group."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from turntrace.storage import tables
from turntrace.storage.histograms import Counts, add_packed, merged, middle_us
from turntrace.storage.queries.condition import fits
from turntrace.storage.queries.rollups import Part, covered

METRICS: Final = ("duration", "ttft")
_h = tables.histogram.c

Key = tuple[Any, ...]


def of_turns(
    c: Connection,
    parts: Sequence[Part],
    *,
    where: Mapping[str, str],
    width_us: int | None = None,
    by: Sequence[str] = (),
) -> dict[Key, Counts]:
    """Histograms of turns by (metric, start of the bucket of time, values of `by`).

    Args:
        where: `feature` and `environment` they are narrowed to.
        width_us: length of a bucket of time; None for one over all parts, whose start is 0.
        by: `feature`, `environment`.
    """
    head: list[ColumnElement[bool]] = [
        _h.metric.in_(METRICS),
        *(fits(_h[name], value) for name, value in where.items()),
    ]
    columns = (_h.counts, _h.at_us, _h.metric, *(_h[name] for name in by))
    found: dict[Key, Counts] = {}
    for text, at_us, metric, *values in c.execute(select(*columns).where(covered(tables.histogram, head, parts))):
        start = at_us - at_us % width_us if width_us else 0
        add_packed(found.setdefault((metric, start, *values), {}), text)
    return found


def of_period(c: Connection, parts: Sequence[Part], *, where: Mapping[str, str]) -> dict[str, Counts]:
    """One histogram of turns a metric."""
    return {metric: counts for (metric, _), counts in of_turns(c, parts, where=where).items()}


def over_time(histograms: Mapping[Key, Counts]) -> dict[str, Counts]:
    """The sums of histograms, by metric."""
    return {metric: merged(counts for key, counts in histograms.items() if key[0] == metric) for metric in METRICS}


def percentile(counts: Counts, share: float) -> int | None:
    """The length (µs, ± 1 %) below or at which `share` (0..1) of the values lie; None without values."""
    total = sum(counts.values())
    if total <= 0:
        return None
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= share * total:
            return round(middle_us(bucket))
    return round(middle_us(max(counts)))
