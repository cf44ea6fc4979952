"""How far a judge is to be trusted: against people, against itself, from version to version and month to month, and
whether it goes by length."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from turntrace.evaluation.agreement import Agreement, Interval, LengthBias, agreement, length_bias
from turntrace.evaluation.shape import ScoreShape
from turntrace.evaluation.stability import Stability, stability
from turntrace.evaluation.trend import Cell, Reading, binary
from turntrace.panel.standing import DAYS, LEAST_PAIRS, Standing, middle_of
from turntrace.panel.wording import moment
from turntrace.records.evaluator import Evaluator
from turntrace.records.filter import TraceFilter
from turntrace.storage import repeats
from turntrace.storage.queries import quality as queries
from turntrace.storage.queries.quality import Pair, Sized
from turntrace.storage.repeats import Repeated

_DAY_US: Final = 86_400_000_000
_RESAMPLES: Final = 200
_PARTS: Final = ("shortest third", "middle third", "longest third")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One comparison of a table: who or when it is about, and how far the two agree."""

    label: str
    found: Agreement

    @property
    def is_enough(self) -> bool:
        """Whether there are enough pairs to say anything."""
        return self.found.n >= LEAST_PAIRS


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A third of the verdicts, by the length of the answer (tokens)."""

    label: str
    least: int
    most: int
    value: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """All that is known; what nobody has found out yet is None or empty. `evaluator_id` is None of a deleted one."""

    evaluator_id: str | None
    people: Agreement | None
    by_version: tuple[Line, ...]  # against people
    versions: tuple[Line, ...]  # against one another
    months: tuple[Line, ...]  # against people, by when these said it
    itself: Stability | None
    drift: Stability | None  # against its own verdicts of an earlier day
    length: LengthBias | None
    parts: tuple[Part, ...]

    @property
    def needed(self) -> int:
        """Labels of people that are missing before agreement can be told."""
        return max(0, LEAST_PAIRS - (self.people.n if self.people is not None else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the database has of one evaluator's verdicts."""

    pairs: Sequence[Pair]
    versions: Sequence[Pair]
    repeated: Sequence[Repeated]
    sized: Sequence[Sized]


def gather(
    c: Connection,
    chosen: Standing,
    evaluator: Evaluator | None,
    wanted: TraceFilter,
    pairs: Sequence[Pair],
    now_us: int,
) -> Material:
    """Read it.

    Args:
        pairs: verdicts beside those of people, of any evaluator.
    """
    giver, since_us = chosen.giver, now_us - DAYS * _DAY_US
    name = giver.evaluator or ""
    return Material(
        pairs=[pair for pair in pairs if pair.name == giver.name and pair.evaluator == name],
        versions=queries.between_versions(c, from_us=since_us, name=giver.name, evaluator=name),
        repeated=repeats.repeated(c, evaluator.id, since_us=since_us) if evaluator is not None else [],
        sized=queries.sized(c, wanted, name=giver.name, evaluator=name),
    )


def trust_of(chosen: Standing, evaluator: Evaluator | None, shape: ScoreShape | None, found: Material) -> Trust:
    """Sum it up."""
    reading, middle = chosen.reading, middle_of(shape)
    told = [(pair, (binary(pair.ours, reading, middle), binary(pair.theirs, reading, middle))) for pair in found.pairs]
    versions = [
        (pair, (binary(pair.ours, reading, middle), binary(pair.theirs, reading, middle))) for pair in found.versions
    ]
    version = evaluator.version if evaluator is not None else None
    own = [item for item in found.repeated if item.version == version]
    return Trust(
        evaluator_id=evaluator.id if evaluator is not None else None,
        people=chosen.agreement,
        by_version=_lines([(f"version {pair.version}", labels) for pair, labels in told]),
        versions=_lines([(f"version {pair.version} and {pair.other_version}", labels) for pair, labels in versions]),
        months=_lines([(f"{moment(pair.at_us):%B %Y}", labels) for pair, labels in reversed(told)]),
        itself=stability([_labels(item, reading, middle) for item in own], resamples=_RESAMPLES),
        drift=stability([_labels(_later(item), reading, middle) for item in own], resamples=_RESAMPLES),
        length=length_bias(
            [_number(item.value, reading) for item in found.sized], [item.tokens for item in found.sized]
        ),
        parts=_parts(found.sized, reading),
    )


def _lines(told: Sequence[tuple[str, tuple[bool, bool]]]) -> tuple[Line, ...]:
    """One line a label, in the order in which they come."""
    grouped: dict[str, list[tuple[bool, bool]]] = {}
    for label, labels in told:
        grouped.setdefault(label, []).append(labels)
    made = ((label, agreement(labels, resamples=_RESAMPLES)) for label, labels in grouped.items())
    return tuple(Line(label=label, found=found) for label, found in made if found is not None)


def _labels(item: Repeated, reading: Reading, middle: float) -> list[bool | str]:
    """Verdicts of one target as labels: good or not; categories as they are."""
    return [value if isinstance(value, str) else binary(value, reading, middle) for value in item.values]


def _later(item: Repeated) -> Repeated:
    """With what was said a day after the score or later; what was said at once tells nothing about drift."""
    return replace(item, again=tuple(said for said in item.again if said[0] - item.first_at_us >= _DAY_US))


def _number(value: float | bool | str, reading: Reading) -> float:
    return float(value in reading.good) if isinstance(value, str) else float(value)


def _parts(found: Sequence[Sized], reading: Reading) -> tuple[Part, ...]:
    """Thirds by length; none of fewer than thirty verdicts."""
    if len(found) < 30:
        return ()
    ordered = sorted(found, key=lambda item: item.tokens)
    third = len(ordered) / 3
    made = []
    for place, label in enumerate(_PARTS):
        part = ordered[round(place * third) : round((place + 1) * third)]
        numbers = [_number(item.value, reading) for item in part]
        cell = Cell(n=len(part), total=sum(numbers), squares=sum(number * number for number in numbers))
        value = reading.interval(cell)
        if value is not None:
            made.append(Part(label=label, least=part[0].tokens, most=part[-1].tokens, value=value))
    return tuple(made)
