"""How far two who judged the same things agree: share, Cohen's kappa with a bootstrap interval, confusion, bias.

Labels are hashable and in pairs (one judge, the other). Nothing here knows which of the two is right.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

Pair = tuple[Hashable, Hashable]
RESAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds between which 95 % of its resamples lie."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What there is to say about `n` pairs; `kappa` is None where chance alone would explain every agreement."""

    n: int
    share: float
    kappa: Interval | None
    confusion: tuple[tuple[Hashable, Hashable, int], ...]


def agreement(pairs: Sequence[Pair], *, resamples: int = RESAMPLES, seed: int = 0) -> Agreement | None:
    """Agreement of pairs of labels; None where there are none."""
    if not pairs:
        return None
    counts = Counter(pairs)
    confusion = tuple((a, b, n) for (a, b), n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))))
    same = sum(a == b for a, b in pairs)
    interval = kappa_interval(pairs, resamples=resamples, seed=seed)
    return Agreement(n=len(pairs), share=same / len(pairs), kappa=interval, confusion=confusion)


def kappa(pairs: Sequence[Pair]) -> float | None:
    """Cohen's kappa (1960): agreement beyond chance, 1 full, 0 none; None where both always say one and the same."""
    n = len(pairs)
    if not n:
        return None
    observed = sum(a == b for a, b in pairs) / n
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(left[label] * right[label] for label in left) / (n * n)
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def kappa_interval(pairs: Sequence[Pair], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Kappa with its 95 % percentile bootstrap interval; the same pairs and seed give the same interval."""
    value = kappa(pairs)
    if value is None:
        return None
    chance = random.Random(seed)
    found = sorted(_resampled(lambda: chance.choices(pairs, k=len(pairs)), resamples))
    return Interval(value, found[int(0.025 * len(found))], found[min(len(found) - 1, int(0.975 * len(found)))])


def _resampled(draw: Callable[[], Sequence[Pair]], resamples: int) -> list[float]:
    values = (kappa(draw()) for _ in range(resamples))
    return [0.0 if value is None else value for value in values]


def wilson(successes: float, n: int) -> Interval | None:
    """A share with its 95 % Wilson score interval; None of nothing."""
    if n <= 0:
        return None
    z = 1.959964
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * ((share * (1 - share) + z * z / (4 * n)) / n) ** 0.5 / (1 + z * z / n)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def mean_interval(total: float, squares: float, n: int) -> Interval | None:
    """A mean with its 95 % normal interval, from sum and sum of squares; None of nothing."""
    if n <= 0:
        return None
    mean = total / n
    variance = max(0.0, squares / n - mean * mean) * (n / (n - 1) if n > 1 else 1)
    half = 1.959964 * (variance / n) ** 0.5
    return Interval(mean, mean - half, mean + half)


def differs(a: tuple[float, float, int], b: tuple[float, float, int]) -> bool:
    """Whether two means (sum, sum of squares, n) are further apart than chance makes them at 95 %, by Welch's z."""
    means, errors = [], 0.0
    for total, squares, n in (a, b):
        if n < 5:  # too few to say anything
            return False
        mean = total / n
        means.append(mean)
        errors += max(max(0.0, squares / n - mean * mean), 0.25 / n) / n  # never certain of a constant
    return abs(means[0] - means[1]) > 1.959964 * math.sqrt(errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBias:
    """How a judge's value goes with the length of what it judged: Spearman's rank correlation, -1..1, with the bounds
    of its 95 % interval (Fisher's z with the variance of Bonett and Wright, 2000)."""

    n: int
    rho: float
    low: float
    high: float


def length_bias(values: Sequence[float], lengths: Sequence[int]) -> LengthBias | None:
    """Whether longer texts get higher values; None of fewer than five, or where one of them never varies."""
    # Of four, one order in twelve is as clear as can be, by chance alone.
    if len(values) < 5 or len(set(values)) < 2 or len(set(lengths)) < 2:
        return None
    x, y = _ranks(values), _ranks(lengths)
    mean = (len(x) + 1) / 2
    over = sum((a - mean) * (b - mean) for a, b in zip(x, y, strict=True))
    under = (sum((a - mean) ** 2 for a in x) * sum((b - mean) ** 2 for b in y)) ** 0.5
    rho = over / under
    z, half = (
        math.atanh(max(-0.999999, min(0.999999, rho))),
        1.959964 * ((1 + rho * rho / 2) / max(1, len(x) - 3)) ** 0.5,
    )
    return LengthBias(n=len(x), rho=rho, low=math.tanh(z - half), high=math.tanh(z + half))


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 on; equals share the mean of theirs."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for index in order[start : end + 1]:
            ranks[index] = (start + end) / 2 + 1
        start = end + 1
    return ranks
