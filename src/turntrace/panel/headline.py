"""A score in one sentence: its value in a period, against the period before, and where the turns behind it are."""

from dataclasses import dataclass, replace
from typing import Final

from turntrace.evaluation.agreement import differs
from turntrace.panel.address import Address, Params
from turntrace.panel.narrowing import Narrowing
from turntrace.panel.standing import Standing
from turntrace.panel.wording import moment
from turntrace.records.filter import TraceFilter

DEFAULT_RANGE: Final = "7d"
KEPT: Final = ("range", "from", "to", "environment", "feature", "release")  # parameters that narrow the page
_HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A score against the period before, as a sentence says it. `is_told`: the difference is beyond chance."""

    name: str
    period: str
    value: str
    low: str
    high: str
    change: str
    is_told: bool
    is_worse: bool
    href: str
    href_before: str


def headline(address: Address, narrowed: Narrowing, chosen: Standing, now_us: int) -> Headline:
    """The chosen score in one sentence, against the period before, with the turns behind it."""
    change = "the first period with scores"
    if chosen.before is not None and chosen.cell_before is not None:
        shown, was = chosen.say(chosen.value.value), chosen.say(chosen.before.value)
        way = "as" if shown == was else "up from" if chosen.value.value > chosen.before.value else "down from"
        change = f"{way} {was} ({chosen.say(chosen.before.low)} to {chosen.say(chosen.before.high)})"
    is_told = chosen.cell_before is not None and differs(chosen.cell.sums, chosen.cell_before.sums)
    is_worse = chosen.before is not None and chosen.reading.is_worse(chosen.value.value, chosen.before.value)
    wanted = bad_filter(chosen)
    period = tuple(pair for pair in narrowed.params if pair[0] in KEPT) or (("range", DEFAULT_RANGE),)
    return Headline(
        name=chosen.giver.name,
        period=_spoken(narrowed, now_us),
        value=chosen.say(chosen.value.value),
        low=chosen.say(chosen.value.low),
        high=chosen.say(chosen.value.high),
        change=change,
        is_told=is_told,
        is_worse=is_worse,
        href=address.with_query("traces", period, score=wanted),
        href_before=address.with_query("traces", _before(narrowed, now_us), score=wanted),
    )


def _spoken(narrowed: Narrowing, now_us: int) -> str:
    """The length of the period, as people say it."""
    if narrowed.filter.from_us is None:
        return "so far"
    hours = round(((narrowed.filter.to_us or now_us) - narrowed.filter.from_us) / _HOUR_US)
    if hours < 1:
        return "in this period"
    if hours < 48:
        return "in the last hour" if hours == 1 else f"in {hours} hours"
    days = round(hours / 24)
    return "in the last week" if days == 7 and narrowed.filter.to_us is None else f"in {days} days"


def _before(narrowed: Narrowing, now_us: int) -> Params:
    earlier = period_before(narrowed.filter, now_us)
    kept = tuple(pair for pair in narrowed.params if pair[0] in KEPT and pair[0] not in ("range", "from", "to"))
    edges = (("from", earlier.from_us), ("to", earlier.to_us))
    return (*kept, *((name, moment(at).isoformat(timespec="seconds")) for name, at in edges if at is not None))


def bad_filter(chosen: Standing) -> str:
    """The filter of the trace list that finds the turns behind a score's bad share, or all that have it."""
    name, reading = chosen.giver.name, chosen.reading
    if chosen.data_type == "boolean":
        return f"{name}={'false' if reading.is_low_bad else 'true'}"
    if chosen.data_type == "numeric":
        return f"{name}{'<' if reading.is_low_bad else '>'}{chosen.value.value:g}"
    bad = [label for label in chosen.labels if label not in reading.good]
    return f"{name}={bad[0]}" if len(bad) == 1 else name


def period_before(wanted: TraceFilter, now_us: int) -> TraceFilter:
    """As long a period that ends where this one begins."""
    end = wanted.to_us or now_us
    start = wanted.from_us if wanted.from_us is not None else end
    return replace(wanted, from_us=start - (end - start), to_us=start)
