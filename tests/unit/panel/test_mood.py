"""Which scores are bad ones."""

import pytest

from turntrace.evaluation.shape import ScoreShape
from turntrace.panel.mood import moods_of
from turntrace.records.score import Score

MOODS = moods_of(
    {
        "Hallucination judge": ScoreShape(name="hallucination", data_type="boolean", better="low"),
        "Groundedness": ScoreShape(name="groundedness", data_type="numeric", minimum=0, maximum=1),
        "Tone": ScoreShape(name="tone", data_type="categorical", categories=("kind", "rude"), good=("kind",)),
    }
)


def score(name: str, value: float | bool | str, data_type: str, evaluator: str | None = None) -> Score:
    return Score(
        id=name,
        name=name,
        value=value,
        data_type=data_type,
        source="evaluator" if evaluator else "human",
        evaluator=evaluator,
    )


@pytest.mark.parametrize(
    ("given", "mood"),
    [
        (score("hallucination", False, "boolean", "Hallucination judge"), "ok"),
        (score("hallucination", True, "boolean", "Hallucination judge"), "error"),
        (score("hallucination", True, "boolean"), "error"),  # a person's, of the same name
        (score("thumbs", True, "boolean"), "ok"),
        (score("thumbs", False, "boolean"), "error"),
        (score("groundedness", 0.9, "numeric", "Groundedness"), ""),
        (score("groundedness", 0.1, "numeric", "Groundedness"), "error"),
        (score("stars", 1.0, "numeric"), ""),
        (score("tone", "rude", "categorical", "Tone"), "error"),
        (score("tone", "kind", "categorical", "Tone"), "ok"),
        (score("note", "please call", "text"), ""),
    ],
)
def test_a_score_is_bad_by_what_its_evaluator_says(given: Score, mood: str) -> None:
    assert MOODS.of(given) == mood


def test_bad_scores_come_first() -> None:
    good, plain, bad = (
        score("thumbs", True, "boolean"),
        score("stars", 3.0, "numeric"),
        score("hallucination", True, "boolean"),
    )
    assert MOODS.sorted([good, plain, bad]) == [bad, plain, good]
