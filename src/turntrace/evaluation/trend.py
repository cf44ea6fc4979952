"""Scores summed up into what a page shows: shares or means with their confidence intervals, and what changed when.

Booleans and categories are shares, with Wilson intervals; numbers are means, with normal ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from turntrace.evaluation.agreement import Interval, differs, mean_interval, wilson
from turntrace.evaluation.shape import ScoreShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Sums of one cell: how many, sum, sum of squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, n: int, total: float, squares: float) -> "Cell":
        """With more in it."""
        return Cell(n=self.n + n, total=self.total + total, squares=self.squares + squares)

    @property
    def sums(self) -> tuple[float, float, int]:
        """As `agreement.differs` takes them."""
        return self.total, self.squares, self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How scores of one name read: as a share or as a mean, and which end of it is the good one."""

    is_share: bool
    is_low_bad: bool
    good: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def interval(self, cell: Cell) -> Interval | None:
        """Value and 95 % bounds of a cell."""
        if self.is_share:
            return wilson(cell.total, cell.n)
        found = mean_interval(cell.total, cell.squares, cell.n)
        if found is None:
            return None
        low = found.low if self.minimum is None else max(self.minimum, found.low)
        high = found.high if self.maximum is None else min(self.maximum, found.high)
        return Interval(found.value, low, high)  # no mean lies outside the range of its scores

    def is_worse(self, value: float, than: float) -> bool:
        """Whether a value is worse than another."""
        return value < than if self.is_low_bad else value > than


def reading_of(data_type: str, shape: ScoreShape | None, labels: Iterable[str] = ()) -> Reading:
    """How a score reads. Of categories without stated good ones, the first in the alphabet is counted."""
    if data_type == "categorical":
        good = shape.good if shape is not None and shape.good else tuple(sorted(set(labels)))[:1]
        return Reading(is_share=True, is_low_bad=True, good=good)
    is_low_bad = shape is None or shape.better == "high"
    low, high = (shape.minimum, shape.maximum) if shape is not None else (None, None)
    return Reading(is_share=data_type == "boolean", is_low_bad=is_low_bad, minimum=low, maximum=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A change that chance does not explain, from one release (or day) to the next."""

    before: str
    after: str
    was: Interval
    now: Interval
    is_worse: bool


def steps(cells: Sequence[tuple[str, Cell]], reading: Reading) -> list[Step]:
    """Where a value changed from one of these to the next, in their order; too few scores say nothing."""
    found: list[Step] = []
    for (before, a), (after, b) in pairwise(cells):
        was, now = reading.interval(a), reading.interval(b)
        if was is None or now is None or not differs(a.sums, b.sums):
            continue
        found.append(
            Step(before=before, after=after, was=was, now=now, is_worse=reading.is_worse(now.value, was.value))
        )
    return found


def change_point(cells: Sequence[tuple[str, Cell]], reading: Reading) -> Step | None:
    """The one place that splits a series best in two that differ, if chance does not explain it.

    The split is the one with the largest difference of means in units of its standard error; with several looked at,
    it has to be further out (Bonferroni).
    """
    best: tuple[float, int] | None = None
    for place in range(1, len(cells)):
        a, b = _sum(cells[:place]), _sum(cells[place:])
        z = _distance(a, b)
        if z is not None and (best is None or z > best[0]):
            best = z, place
    # 1.96 for one look; about 3 for up to thirty.
    if best is None or best[0] < (1.96 if len(cells) <= 2 else 3.0):
        return None
    place = best[1]
    was, now = reading.interval(_sum(cells[:place])), reading.interval(_sum(cells[place:]))
    if was is None or now is None:
        return None
    return Step(
        before=cells[place - 1][0],
        after=cells[place][0],
        was=was,
        now=now,
        is_worse=reading.is_worse(now.value, was.value),
    )


def _sum(cells: Sequence[tuple[str, Cell]]) -> Cell:
    found = Cell()
    for _, cell in cells:
        found = found.plus(cell.n, cell.total, cell.squares)
    return found


def _distance(a: Cell, b: Cell) -> float | None:
    if a.n < 10 or b.n < 10:
        return None
    error = sum(
        max(max(0.0, cell.squares / cell.n - (cell.total / cell.n) ** 2), 0.25 / cell.n) / cell.n for cell in (a, b)
    )
    return float(abs(a.total / a.n - b.total / b.n) / error**0.5)


def binary(value: float | bool | str, reading: Reading, midpoint: float) -> bool:
    """A verdict as good or not, to compare two who judged."""
    if isinstance(value, bool):
        return value == reading.is_low_bad
    if isinstance(value, str):
        return value in reading.good
    return (value >= midpoint) == reading.is_low_bad
