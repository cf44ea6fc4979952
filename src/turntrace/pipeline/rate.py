"""Rates of one model at one moment: counts are split into disjoint buckets, each charged once."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, Final

from turntrace.records.usage import Usage

# Wide enough for any count and rate: products stay exact, and only the last step rounds.
_EXACT: Final = Context(prec=60)
_NANO: Final = Decimal(1_000_000_000)


@dataclass(frozen=True, slots=True)
class Tiers:
    """A rate by size of the request: `steps` are (tokens, rate); a step holds above its tokens, for the whole."""

    base: Decimal
    steps: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The rate of a request with so much input."""
        found = self.base
        for above, rate in self.steps:
            if input_tokens > above:
                found = rate
        return found


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What one rate is charged for. `parts` are the buckets, by index, that are charged at their own rate instead."""

    usage_key: str
    direction: str
    nano_per_unit: Decimal | Tiers
    parts: tuple[int, ...]


class Rates:
    """Buckets in order from the most specific to the most general."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: tuple[_Bucket, ...]) -> None:
        self._buckets = buckets

    def amounts(self, usage: Usage) -> tuple[int, int, int] | None:
        """Nano-dollars for input, for output and for what is charged per call; None where parts exceed their whole."""
        counts = counts_of(usage)
        size = counts.get("input_tokens", 0)
        sums = {"input": Decimal(0), "output": Decimal(0), "": Decimal(0)}
        rest: list[int] = []
        for bucket in self._buckets:
            left = counts.get(bucket.usage_key, 0) - sum([rest[part] for part in bucket.parts])
            if left < 0:
                return None
            rest.append(left)
            if left:
                rate = bucket.nano_per_unit
                each = rate.at(size) if isinstance(rate, Tiers) else rate
                sums[bucket.direction] = _EXACT.add(sums[bucket.direction], _EXACT.multiply(each, left))
        return _round(sums["input"]), _round(sums["output"]), _round(sums[""])


def counts_of(usage: Usage) -> dict[str, int]:
    """Counts by the table's names; every request counts as one."""
    counts = {
        "requests": 1,
        **usage.details,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
    }
    return {name: count for name, count in counts.items() if count}


def rates_of(prices: Mapping[str, Any]) -> Rates:
    """Rates from a mapping of rate names to `Decimal`, our `Tiers` or the table's; unknown names are passed over."""
    units = _units()
    priced = [(units[name], rate) for name, rate in prices.items() if rate is not None and name in units]
    priced.sort(key=lambda item: (-len(item[0].dimensions), item[0].usage_key))
    buckets = []
    for index, (unit, rate) in enumerate(priced):
        parts = tuple(at for at in range(index) if unit.dimensions.items() <= priced[at][0].dimensions.items())
        direction = unit.dimensions.get("direction", "")
        buckets.append(_Bucket(unit.usage_key, direction, _scaled(rate, unit.per), parts))
    return Rates(tuple(buckets))


def _scaled(rate: Any, per: int) -> Decimal | Tiers:
    """Nano-dollars a unit of a rate in dollars for `per` units."""
    factor = _EXACT.divide(_NANO, Decimal(per))
    if isinstance(rate, Decimal):
        return _EXACT.multiply(rate, factor)
    steps = rate.steps if isinstance(rate, Tiers) else [(tier.start, tier.price) for tier in rate.tiers]
    return Tiers(
        base=_EXACT.multiply(rate.base, factor),
        steps=tuple((above, _EXACT.multiply(price, factor)) for above, price in steps),
    )


def _round(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_EVEN))


@lru_cache(maxsize=1)
def _units() -> Mapping[str, Any]:
    """What each rate name is charged for, from the table's own registry, by rate name."""
    # Lazy: see `Pricer.version`.
    from genai_prices.data_units import unit_data
    from genai_prices.units import UnitRegistry

    return {unit.price_key: unit for unit in UnitRegistry(unit_data).units.values()}
