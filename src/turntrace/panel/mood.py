"""Whether a score says something good or bad, so that the bad ones are seen first and have the colour of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from turntrace.evaluation.shape import ScoreShape
from turntrace.evaluation.trend import Reading, reading_of
from turntrace.records.score import Score

Mood = Literal["ok", "error", ""]
_ORDER: Final[dict[str, int]] = {"error": 0, "": 1, "ok": 2}


@dataclass(frozen=True, slots=True)
class Moods:
    """What is known of scores: `shapes` by evaluator name, and by score name for scores that people gave."""

    by_evaluator: Mapping[str, ScoreShape]
    by_name: Mapping[str, ScoreShape]

    def of(self, score: Score) -> Mood:
        """`error` for a bad score, `ok` for a good one, nothing where nobody said which end is good."""
        shape = self.by_evaluator.get(score.evaluator or "") or self.by_name.get(score.name)
        reading = reading_of(score.data_type, shape)
        if isinstance(score.value, bool):
            return "ok" if score.value == reading.is_low_bad else "error"
        if isinstance(score.value, str):
            return _of_word(score, shape)
        return _of_number(score.value, reading)

    def sorted(self, scores: Sequence[Score]) -> list[Score]:
        """Bad ones first, good ones last; else in the order given."""
        return sorted(scores, key=lambda score: _ORDER[self.of(score)])


def moods_of(shapes: Mapping[str, ScoreShape]) -> Moods:
    """Out of the shapes of all evaluators."""
    return Moods(shapes, {shape.name: shape for shape in shapes.values()})


def _of_word(score: Score, shape: ScoreShape | None) -> Mood:
    if score.data_type != "categorical" or shape is None or not shape.good:
        return ""
    return "ok" if score.value in shape.good else "error"


def _of_number(value: float, reading: Reading) -> Mood:
    # A number has a good half only where it has a range.
    if reading.minimum is None or reading.maximum is None:
        return ""
    return "error" if reading.is_worse(value, (reading.minimum + reading.maximum) / 2) else ""
