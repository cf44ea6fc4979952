"""The first page: time series of load, errors, cost and latency, compared with the period before."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from turntrace.errors import InvalidInput
from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.histograms import Counts
from turntrace.storage.queries import percentile, rollups
from turntrace.storage.queries.condition import EVERYTHING, fits
from turntrace.storage.queries.rollups import DAY_US, HOUR_US, MINUTE_US

# Error kinds are counted over this many of the newest failed turns.
ERROR_SAMPLE: Final = 1000
MOST_BUCKETS: Final = 1500

_r = tables.rollup.c
_t = tables.trace.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums and percentiles of one period or bucket. Costs in nano-dollars, None when nothing had a price."""

    turns: int = 0
    errors: int = 0
    calls: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_total_nano: int | None = None
    duration_p50_us: int | None = None
    duration_p95_us: int | None = None
    ttft_p50_us: int | None = None
    ttft_p95_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One point of the time series, from `start_at_us` on for the overview's `bucket_us`."""

    start_at_us: int
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorKind:
    """How often one kind of error occurred (among the newest failed turns), with a turn to look at."""

    type: str
    count: int
    last_at_us: int
    last_turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpend:
    """Spending and lengths of one feature ("" where turns named none)."""

    feature: str
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything the overview shows. `series` has every bucket of the period, empty ones included."""

    from_us: int
    to_us: int
    bucket_us: int
    totals: Totals
    previous: Totals
    series: tuple[Bucket, ...] = ()
    errors: tuple[ErrorKind, ...] = ()
    features: tuple[FeatureSpend, ...] = ()


@dataclass(frozen=True, slots=True)
class _Span:
    """A period of whole buckets, and the dimensions it is narrowed to."""

    from_us: int
    to_us: int
    bucket_us: int
    where: Mapping[str, str]

    @property
    def grain(self) -> str:
        return "minute" if self.bucket_us < HOUR_US else "hour"

    def before(self) -> "_Span":
        return _Span(2 * self.from_us - self.to_us, self.from_us, self.bucket_us, self.where)


def overview(
    c: Connection, *, from_us: int, to_us: int, filter: TraceFilter = EVERYTHING, bucket_us: int | None = None
) -> Overview:
    """Series, totals, the period before, error kinds and spending by feature.

    Args:
        from_us, to_us: the period, widened to whole buckets.
        filter: `environment` and `feature`.
        bucket_us: width of a point: whole minutes below an hour (kept for 48 hours), whole hours, or days. By default a
            minute up to 2 hours, an hour up to 2 days, 6 hours up to 14 days, else a day. Points below an hour have no
            percentiles.

    Raises:
        InvalidInput: an empty period, or a bucket that is not kept.
    """
    span = _span(from_us, to_us, filter, bucket_us or _default_bucket(to_us - from_us))
    rollups.go_alone(c)
    series = _series_rows(c, span)
    histograms = _histograms(c, span)
    return Overview(
        from_us=span.from_us,
        to_us=span.to_us,
        bucket_us=span.bucket_us,
        totals=_to_totals(_added(series.values()), percentile.over_time(histograms)),
        previous=_previous(c, span.before()),
        series=_series(span, series, histograms),
        errors=_errors(c, span),
        features=_features(c, span),
    )


def _default_bucket(length_us: int) -> int:
    if length_us <= 2 * HOUR_US:
        return MINUTE_US
    if length_us <= 2 * DAY_US:
        return HOUR_US
    return 6 * HOUR_US if length_us <= 14 * DAY_US else DAY_US


def _span(from_us: int, to_us: int, filter: TraceFilter, bucket_us: int) -> _Span:
    if to_us <= from_us:
        raise InvalidInput("the period is empty: `to` must be later than `from`", field="to")
    unit = MINUTE_US if bucket_us < HOUR_US else HOUR_US if bucket_us < DAY_US else DAY_US
    if bucket_us <= 0 or bucket_us % unit:
        raise InvalidInput("a bucket is a whole number of minutes, hours or days", field="bucket_us")
    start = from_us - from_us % bucket_us
    end = to_us + -to_us % bucket_us
    if (end - start) // bucket_us > MOST_BUCKETS:
        raise InvalidInput(f"more than {MOST_BUCKETS} buckets: choose a wider one", field="bucket_us")
    named = (("environment", filter.environment), ("feature", filter.feature))
    return _Span(start, end, bucket_us, {name: value for name, value in named if value is not None})


def _rows(parts: Sequence[rollups.Part], span: _Span) -> ColumnElement[bool]:
    return rollups.of_base(parts, *(fits(_r[name], value) for name, value in span.where.items()))


def _parts(span: _Span) -> list[rollups.Part]:
    """The rows of the whole period, the fewest there are."""
    if span.bucket_us < HOUR_US:
        return rollups.parts("minute", span.from_us, span.to_us)
    return rollups.wide_parts(span.from_us, span.to_us)


def _parts_by_bucket(span: _Span) -> list[rollups.Part]:
    """The rows of the period, none of which belongs to two buckets."""
    is_days = span.bucket_us % DAY_US == 0
    return _parts(span) if is_days else rollups.parts(span.grain, span.from_us, span.to_us)


def _series_rows(c: Connection, span: _Span) -> dict[int, RowMapping]:
    at = rollups.floored(_r.at_us, span.bucket_us, c.dialect.name).label("start_at_us")
    rows = c.execute(rollups.grouped([at], rollups.sums(), _rows(_parts_by_bucket(span), span))).mappings()
    return {int(row["start_at_us"]): row for row in rows}


def _histograms(c: Connection, span: _Span) -> dict[percentile.Key, Counts]:
    """Lengths are kept by hour: a period of minutes takes the hours it touches."""
    is_hours = span.bucket_us % DAY_US != 0
    parts = rollups.parts("hour", span.from_us, span.to_us) if is_hours else _parts(span)
    return percentile.of_turns(c, parts, where=span.where, width_us=max(span.bucket_us, HOUR_US))


def _previous(c: Connection, span: _Span) -> Totals:
    row = c.execute(select(*rollups.sums()).where(_rows(_parts(span), span))).mappings().one()
    lengths = percentile.of_period(c, rollups.wide_parts(span.from_us, span.to_us), where=span.where)
    return _to_totals(row, lengths)


def _series(
    span: _Span, rows: Mapping[int, RowMapping], histograms: Mapping[percentile.Key, Counts]
) -> tuple[Bucket, ...]:
    is_fine = span.bucket_us < HOUR_US
    found = []
    for start in range(span.from_us, span.to_us, span.bucket_us):
        counts = {} if is_fine else {metric: histograms.get((metric, start), {}) for metric in percentile.METRICS}
        totals = _to_totals(rows[start], counts) if start in rows else Totals()
        found.append(Bucket(start_at_us=start, totals=totals))
    return tuple(found)


_COUNTS: Final = ("turns", "errors", "calls", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens")
_SHARES: Final = {"p50": 0.5, "p95": 0.95}


def _added(rows: Iterable[RowMapping]) -> dict[str, int]:
    found = list(rows)
    return {name: sum(int(row[name] or 0) for row in found) for name in (*_COUNTS, "cost_total_nano")}


def _to_totals(row: Mapping[Any, Any], histograms: Mapping[str, Counts]) -> Totals:
    counts = {name: int(row[name] or 0) for name in _COUNTS}
    lengths: dict[str, Any] = {
        f"{metric}_{name}_us": percentile.percentile(histograms.get(metric, {}), share)
        for metric in percentile.METRICS
        for name, share in _SHARES.items()
    }
    return Totals(**counts, cost_total_nano=rollups.cost(row), **lengths)


def _features(c: Connection, span: _Span) -> tuple[FeatureSpend, ...]:
    rows = c.execute(rollups.grouped([_r.feature], rollups.sums(), _rows(_parts(span), span))).mappings()
    wide = rollups.wide_parts(span.from_us, span.to_us)
    lengths = percentile.of_turns(c, wide, where=span.where, by=("feature",))
    found = [
        FeatureSpend(
            feature=row["feature"],
            totals=_to_totals(
                row, {metric: lengths.get((metric, 0, row["feature"]), {}) for metric in percentile.METRICS}
            ),
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda item: (-(item.totals.cost_total_nano or 0), item.feature)))


def _errors(c: Connection, span: _Span) -> tuple[ErrorKind, ...]:
    statement = (
        select(_t.error_type, _t.started_at_us, _t.id)
        .where(_t.status == "error", _t.started_at_us >= span.from_us, _t.started_at_us < span.to_us)
        .where(*(fits(_t[name], value) for name, value in span.where.items()))
        .order_by(_t.started_at_us.desc(), _t.id.desc())
        .limit(ERROR_SAMPLE)
    )
    return tuple(_by_kind(c.execute(statement).all()))


def _by_kind(rows: Sequence[Any]) -> list[ErrorKind]:
    newest: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for row in rows:
        kind = row.error_type or "error"
        newest.setdefault(kind, row)
        counts[kind] = counts.get(kind, 0) + 1
    ranked = sorted(counts, key=lambda kind: (-counts[kind], kind))
    return [
        ErrorKind(type=kind, count=counts[kind], last_at_us=newest[kind].started_at_us, last_turn_id=newest[kind].id)
        for kind in ranked
    ]
