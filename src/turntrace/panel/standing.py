"""Scores as the Quality page shows them: one standing for each name and giver, with its agreement with people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from turntrace.evaluation.agreement import Agreement, Interval, agreement
from turntrace.evaluation.shape import ScoreShape, shape_of
from turntrace.evaluation.trend import Cell, Reading, binary, reading_of
from turntrace.panel import wording
from turntrace.records.evaluator import Evaluator
from turntrace.storage.queries.quality import Mass, Pair

PEOPLE: Final = {"human": "people", "user": "users", "api": "API"}
LEAST_PAIRS: Final = 20  # fewer say nothing about agreement
DAYS: Final = 90  # in which people judged as well
_RESAMPLES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Giver:
    """Who gives a score of a name: a source, and the evaluator where it is one."""

    name: str
    source: str
    evaluator: str | None = None

    @property
    def who(self) -> str:
        """As it reads."""
        return self.evaluator or PEOPLE.get(self.source, self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a score stands in a period, against the period before, and how far it agrees with people."""

    giver: Giver
    reading: Reading
    cell: Cell
    value: Interval
    before: Interval | None
    cell_before: Cell | None
    data_type: str
    labels: tuple[str, ...]  # of categories: those that were given
    agreement: Agreement | None
    first_at_us: int

    @property
    def badness(self) -> float:
        """For the order of the list: the worst first; numbers without a known range come after shares."""
        if not self.reading.is_share and not 0 <= self.value.value <= 1:
            return -1.0
        return 1 - self.value.value if self.reading.is_low_bad else self.value.value

    def say(self, value: float) -> str:
        """A value as text."""
        return say(self.reading, value)

    @property
    def agrees(self) -> str:
        """What is known of its agreement with people: a score without it says so."""
        if self.giver.source not in ("evaluator", "human"):
            return ""
        found = self.agreement
        if found is None or found.n < LEAST_PAIRS:
            n = found.n if found is not None else 0
            return f"agreement unknown ({n} of {LEAST_PAIRS} labels)"
        if found.kappa is None:
            return f"agrees {found.share:.0%} on {found.n}"
        return f"κ {found.kappa.value:.2f} ({found.kappa.low:.2f} to {found.kappa.high:.2f}) on {found.n}"


def say(reading: Reading, value: float) -> str:
    """A share or a mean as text."""
    return wording.percent(value, 1) if reading.is_share else f"{value:.3g}"


def shapes_of(evaluators: Iterable[Evaluator]) -> Mapping[str, ScoreShape]:
    """The shapes of evaluators' scores, by evaluator name; of a check its usual one."""
    found = ((item.name, shape_of(item.definition)) for item in evaluators)
    return {name: shape for name, shape in found if shape is not None}


def giver_of(mass: Mass) -> Giver:
    """Whose scores these are."""
    return Giver(name=mass.name, source=mass.source, evaluator=mass.evaluator if mass.source == "evaluator" else None)


def readings(masses: Sequence[Mass], shapes: Mapping[str, ScoreShape]) -> dict[Giver, Reading]:
    """How each giver's scores read."""
    labels: dict[Giver, set[str]] = {}
    kinds: dict[Giver, str] = {}
    for mass in masses:
        giver = giver_of(mass)
        kinds[giver] = mass.data_type
        labels.setdefault(giver, set()).update([mass.label] if mass.label else [])
    # People answer the question of the evaluator whose score has the same name.
    named = {shape.name: shape for shape in shapes.values()}
    found = {giver: shapes.get(giver.evaluator or "") or named.get(giver.name) for giver in kinds}
    return {giver: reading_of(kind, found[giver], labels[giver]) for giver, kind in kinds.items()}


def cell_of(mass: Mass, reading: Reading) -> Cell:
    """The sums of a mass; of categories: how many are good."""
    if mass.data_type != "categorical":
        return Cell(n=mass.n, total=mass.total, squares=mass.squares)
    good = mass.n if mass.label in reading.good else 0
    return Cell(n=mass.n, total=good, squares=good)


def standings(
    now: Sequence[Mass], before: Sequence[Mass], pairs: Sequence[Pair], shapes: Mapping[str, ScoreShape]
) -> list[Standing]:
    """Every score of a period, the worst first."""
    known = readings([*now, *before], shapes)
    current, previous = _cells(now, known), _cells(before, known)
    found: list[Standing] = []
    for giver, cell in current.items():
        value = known[giver].interval(cell)
        if value is None:
            continue
        earlier = previous.get(giver)
        found.append(
            Standing(
                giver=giver,
                reading=known[giver],
                cell=cell,
                value=value,
                before=known[giver].interval(earlier) if earlier is not None else None,
                cell_before=earlier,
                data_type=next(mass.data_type for mass in now if giver_of(mass) == giver),
                labels=tuple(sorted({mass.label for mass in now if mass.label and giver_of(mass) == giver})),
                first_at_us=min(mass.first_at_us for mass in now if giver_of(mass) == giver),
                agreement=_agreement(giver, known[giver], pairs, shapes),
            )
        )
    return sorted(found, key=lambda item: (-item.badness, item.giver.name, item.giver.who))


def _cells(masses: Sequence[Mass], known: Mapping[Giver, Reading]) -> dict[Giver, Cell]:
    found: dict[Giver, Cell] = {}
    for mass in masses:
        giver = giver_of(mass)
        cell = cell_of(mass, known[giver])
        found[giver] = found.get(giver, Cell()).plus(cell.n, cell.total, cell.squares)
    return found


def _agreement(
    giver: Giver, reading: Reading, pairs: Sequence[Pair], shapes: Mapping[str, ScoreShape]
) -> Agreement | None:
    """An evaluator against people, or people against one another."""
    if giver.source not in ("evaluator", "human"):
        return None
    own = [pair for pair in pairs if pair.name == giver.name and pair.evaluator == giver.evaluator]
    middle = middle_of(shapes.get(giver.evaluator or ""))
    judged = [(binary(pair.ours, reading, middle), binary(pair.theirs, reading, middle)) for pair in own]
    return agreement(judged, resamples=_RESAMPLES)


def middle_of(shape: ScoreShape | None) -> float:
    """From where on a number is good, where high is good: the middle of its range."""
    low, high = (shape.minimum, shape.maximum) if shape is not None else (None, None)
    return (low + high) / 2 if low is not None and high is not None else 0.5


def grouped(masses: Sequence[Mass], giver: Giver, reading: Reading, *, by_version: bool) -> list[tuple[str, Cell, int]]:
    """A giver's cells by group (or by version of the evaluator), with when each began, the earliest first."""
    found: dict[str, tuple[Cell, int]] = {}
    for mass in masses:
        if giver_of(mass) != giver:
            continue
        key = f"version {mass.version}" if by_version and mass.version else mass.group
        cell, first = found.get(key, (Cell(), mass.first_at_us))
        more = cell_of(mass, reading)
        found[key] = cell.plus(more.n, more.total, more.squares), min(first, mass.first_at_us)
    return sorted(((key, cell, first) for key, (cell, first) in found.items()), key=lambda item: item[2])


def series(masses: Sequence[Mass], giver: Giver, reading: Reading) -> list[tuple[int, Cell]]:
    """A giver's cells by start of interval (µs), in order."""
    found: dict[int, Cell] = {}
    for mass in masses:
        if giver_of(mass) == giver:
            more = cell_of(mass, reading)
            found[mass.at_us] = found.get(mass.at_us, Cell()).plus(more.n, more.total, more.squares)
    return sorted(found.items())
