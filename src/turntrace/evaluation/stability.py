"""A judge against itself: the same input judged several times, and whether it says the same."""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

from turntrace.evaluation.agreement import RESAMPLES, Interval, Pair, kappa, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """`n` targets, judged `judgements` times in all. `same` is the share of targets with one verdict each time;
    `kappa` that of all pairs of judgements of one target, None where chance alone would explain every agreement."""

    n: int
    judgements: int
    same: Interval
    kappa: Interval | None


def stability(targets: Sequence[Sequence[Hashable]], *, resamples: int = RESAMPLES, seed: int = 0) -> Stability | None:
    """How stable verdicts are: one sequence of labels for each target; None where nothing was judged twice.

    Whole targets are resampled for the interval of kappa: judgements of one target depend on each other.
    """
    known = [labels for labels in targets if len(labels) > 1]
    same = wilson(sum(len(set(labels)) == 1 for labels in known), len(known))
    if same is None:
        return None
    return Stability(
        n=len(known),
        judgements=sum(len(labels) for labels in known),
        same=same,
        kappa=_kappa([_pairs(labels) for labels in known], resamples, seed),
    )


def _pairs(labels: Sequence[Hashable]) -> list[Pair]:
    """Both ways round, since neither of two judgements is the first."""
    return [pair for a, b in combinations(labels, 2) for pair in ((a, b), (b, a))]


def _kappa(targets: Sequence[Sequence[Pair]], resamples: int, seed: int) -> Interval | None:
    value = kappa([pair for pairs in targets for pair in pairs])
    if value is None:
        return None
    chance = random.Random(seed)
    found = []
    for _ in range(resamples):
        drawn = kappa([pair for pairs in chance.choices(targets, k=len(targets)) for pair in pairs])
        found.append(1.0 if drawn is None else drawn)  # all said one and the same: nothing disagreed
    found.sort()
    return Interval(value, found[int(0.025 * len(found))], found[min(len(found) - 1, int(0.975 * len(found)))])
