"""Agreement statistics on known cases, and the built-in groundedness check on the labelled records of HaluEval."""

import json
import random
from itertools import permutations
from pathlib import Path

import pytest

from turntrace.evaluation import checks
from turntrace.evaluation.agreement import (
    agreement,
    differs,
    kappa,
    kappa_interval,
    length_bias,
    mean_interval,
    wilson,
)

ROOT = Path(__file__).parents[3]
LABELLED = ROOT / "example_app" / "knowledge" / "halueval_qa.jsonl"
Pairs = list[tuple[bool, bool]]


def test_kappa_of_a_known_table() -> None:
    # Cohen's own kind of example: 20 + 15 agreements of 50, 5 and 10 against.
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([("a", "a")] * 5) is None
    assert kappa([]) is None
    found = agreement(pairs)
    assert found is not None
    assert found.share == pytest.approx(0.7)
    assert found.confusion[0] == ("yes", "yes", 20)


def test_intervals_of_shares_and_means() -> None:
    share = wilson(3, 40)
    assert share is not None
    assert (round(share.low, 3), round(share.high, 3)) == (0.026, 0.199)
    mean = mean_interval(50.0, 30.0, 100)
    assert mean is not None
    assert mean.low < 0.5 < mean.high
    assert wilson(0, 0) is None
    assert mean_interval(0, 0, 0) is None


def test_a_difference_is_one_only_beyond_chance() -> None:
    assert differs((18, 18, 1000), (60, 60, 1000))
    assert not differs((18, 18, 1000), (20, 20, 1000))
    assert not differs((0, 0, 3), (3, 3, 3))


def test_a_judge_that_likes_long_answers_is_found_out() -> None:
    bias = length_bias([0.1, 0.2, 0.3, 0.4, 0.5], [10, 20, 30, 40, 50])
    assert bias is not None
    assert bias.rho == pytest.approx(1.0)
    assert length_bias([1.0] * 5, [1, 2, 3, 4, 5]) is None


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_a_length_bias_is_claimed_by_chance_in_one_of_twenty_orders_at_the_most(n: int) -> None:
    found = [length_bias(order, range(n)) for order in permutations([float(value) for value in range(n)])]
    claimed = [bias for bias in found if bias is not None and (bias.low > 0 or bias.high < 0)]
    assert len(claimed) <= 0.05 * len(found)


def judged() -> tuple[Pairs, list[int]]:
    """Label and verdict of the built-in check for every right and every hallucinated answer, and its length."""
    check = checks.make({"name": "hallucination"})[1]
    pairs: Pairs = []
    lengths: list[int] = []
    for line in LABELLED.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name, label in (("right_answer", False), ("hallucinated_answer", True)):
            found = check({"answer": row[name], "context": [row["context"]]})
            if found is not None and found.flag is not None:
                pairs.append((label, found.flag))
                lengths.append(len(row[name]))
    return pairs, lengths


def test_the_built_in_check_agrees_with_labels_beyond_a_constant_and_a_random_judge() -> None:
    pairs, _ = judged()
    chance = random.Random(0)
    check = kappa_interval(pairs)
    coin = kappa_interval([(label, chance.random() < 0.5) for label, _ in pairs])
    constant = kappa_interval([(label, True) for label, _ in pairs])
    assert check is not None
    assert coin is not None
    assert constant is not None
    assert len(pairs) > 480
    assert check.low > coin.high
    assert check.low > constant.high
    assert f"{check.value:.2f} ({check.low:.2f} to {check.high:.2f})" in (ROOT / "docs" / "quality.md").read_text()


def test_it_is_still_better_than_chance_where_length_says_little() -> None:
    pairs, lengths = judged()
    long = kappa_interval([pair for pair, length in zip(pairs, lengths, strict=True) if length >= 30])
    assert long is not None
    assert long.low > 0
    assert f"{long.value:.2f} ({long.low:.2f} to {long.high:.2f})" in (ROOT / "docs" / "quality.md").read_text()
