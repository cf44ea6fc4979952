"""A judge against itself."""

import pytest

from turntrace.evaluation.agreement import length_bias
from turntrace.evaluation.stability import stability


def test_what_was_asked_once_says_nothing() -> None:
    assert stability([]) is None
    assert stability([[True], [False]]) is None


@pytest.mark.parametrize(
    ("targets", "same", "kappa"),
    [
        ([[True, True, True], [False, False, False]] * 10, 1.0, 1.0),
        # Alternates on each target: it contradicts itself more often than chance would.
        ([[True, False]] * 20, 0.0, -1.0),
        # By Fleiss' formula for two ratings a target: observed 0.75, expected 0.5.
        ([[True, True], [False, False], [True, True], [False, False], [True, False], [True, True], [False, False],
          [False, True]], 0.75, 0.5),
    ],
)  # fmt: skip
def test_the_share_of_targets_with_one_verdict_and_kappa(targets: list[list[bool]], same: float, kappa: float) -> None:
    found = stability(targets)
    assert found is not None
    assert found.kappa is not None
    assert (found.n, found.judgements) == (len(targets), sum(map(len, targets)))
    assert found.same.value == pytest.approx(same)
    assert found.kappa.value == pytest.approx(kappa)
    assert found.kappa.low <= found.kappa.value <= found.kappa.high


def test_a_judge_that_always_says_one_thing_is_stable_and_has_no_kappa() -> None:
    found = stability([[True, True]] * 30)
    assert found is not None
    assert found.same.value == 1.0
    assert found.kappa is None


def test_labels_may_be_words() -> None:
    found = stability([["good", "good", "bad"], ["bad", "bad", "bad"]])
    assert found is not None
    assert found.same.value == 0.5


def test_the_interval_of_length_bias_is_narrow_where_there_is_much() -> None:
    few = length_bias([1.0, 3.0, 2.0, 5.0, 4.0] * 2, list(range(10)))
    many = length_bias([float(n % 50 + n % 7) for n in range(2000)], [n % 50 for n in range(2000)])
    assert few is not None
    assert many is not None
    assert few.low < few.rho < few.high
    assert many.high - many.low < 0.1 < few.high - few.low
    assert many.low > 0.9
