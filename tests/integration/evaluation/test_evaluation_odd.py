"""Judgements that go wrong in odd ways: each costs itself at most, and none of those beside it."""

import time
from typing import Any

import pytest

from tests.integration.evaluation.bench import (
    JUDGE,
    MINUTE_US,
    NOW_US,
    Judge,
    add,
    evaluate,
    means,
    put,
    rows,
    scores,
    some,
)
from turntrace.errors import DatabaseUnavailable, EvaluationFailed
from turntrace.jobs import planning
from turntrace.jobs.evaluate import Evaluation
from turntrace.storage import evaluations, leases
from turntrace.storage.database import Database

GOOD = '{"reason": "well", "score": 0.5}'
CODE = {"name": "ours", "kind": "code", "code": {"function": "m:f"}, "score": {"data_type": "numeric"}}


@pytest.mark.parametrize("odd", [r"half an emoji: \ud83d", r"nothing: \u0000"])
def test_a_reason_that_no_database_takes_is_stored_without_what_is_odd(database: Database, odd: str) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(3))
    judge = Judge(GOOD, f'{{"reason": "{odd}", "score": 0.7}}', GOOD)
    assert evaluate(database, evaluator, means(judge)) == 3
    assert sorted(score.value for score in scores(database)) == [0.5, 0.5, 0.7]


@pytest.mark.parametrize("odd", [1 << 70, "half: \ud83d", "nothing: \0", {1: [object()]}, float("nan")])
def test_metadata_of_a_function_is_stored_whatever_it_is(database: Database, odd: Any) -> None:
    evaluator = add(database, CODE)
    put(database, *some(3))
    assert evaluate(database, evaluator, means(code=lambda *_: {"value": 1, "metadata": {"odd": odd}})) == 3
    assert len(scores(database)) == 3


class _Odd:
    def __str__(self) -> str:
        return "half: \ud83d"


def test_a_judgement_that_cannot_be_stored_holds_up_no_other(database: Database) -> None:
    evaluator = add(database, CODE)
    put(database, *some(3))
    odd = iter([{}, {"odd": _Odd()}, {}])
    assert evaluate(database, evaluator, means(code=lambda *_: {"value": 1, "metadata": next(odd)})) == 3
    assert len(scores(database)) == 2
    assert sorted((row["status"], row["attempt"]) for row in rows(database)) == [
        ("done", 1),
        ("done", 1),
        ("pending", 1),
    ]


def test_a_function_that_ends_the_process_is_an_error_like_any(database: Database) -> None:
    def leave(*_: Any) -> Any:
        raise SystemExit(2)

    evaluator = add(database, CODE)
    put(database, *some(3))
    assert evaluate(database, evaluator, means(code=leave)) == 3
    assert {(row["status"], row["error_type"]) for row in rows(database)} == {("pending", "SystemExit")}


def test_what_was_judged_while_the_database_went_away_is_not_asked_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(3))
    planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US)
    judge = Judge(GOOD)
    evaluation = Evaluation(database, means(judge), wall=lambda: NOW_US + MINUTE_US)

    def away(*_: Any, **__: Any) -> int:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(evaluations, "finish", away)
        with pytest.raises(DatabaseUnavailable):
            evaluation.step()
    while len(scores(database)) < 3:
        assert evaluation.step() > 0
    evaluation.close()
    assert len(judge.prompts) == 3
    assert {(row["status"], row["attempt"]) for row in rows(database)} == {("done", 1)}


def _lease_ends(database: Database) -> int:
    (row,) = rows(database)
    return int(row["lease_until_us"])


def test_a_judge_that_takes_longer_than_a_lease_is_asked_once(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(1))
    planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US)

    class Slow(Judge):
        def __call__(self, *arguments: Any) -> Any:
            if not self.prompts:
                first = _lease_ends(database)
                deadline = time.monotonic() + 30
                while _now(database) <= first + 200_000 and time.monotonic() < deadline:
                    pass
            return super().__call__(*arguments)

    judge = Slow(GOOD)
    evaluation = Evaluation(database, means(judge), concurrency=1, wall=lambda: NOW_US + MINUTE_US, lease_us=1_500_000)
    assert evaluation.step() == 1
    evaluation.close()
    assert (len(judge.prompts), len(scores(database))) == (1, 1)
    assert [row["attempt"] for row in rows(database)] == [1]


def _now(database: Database) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT {leases.now_us(database.dialect)}").scalar_one())


def test_a_claim_that_is_anothers_is_not_renewed(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(1))
    planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US)
    (first,), (second,) = (
        database.transact(
            evaluations.claim, owner, limit=5, now_us=NOW_US + MINUTE_US, budget_of=lambda _: None, lease_us=-1
        )
        for owner in (leases.new_owner(), leases.new_owner())
    )
    before = _lease_ends(database)
    assert database.transact(evaluations.renew, [first], lease_us=MINUTE_US) == 0
    assert _lease_ends(database) == before
    assert database.transact(evaluations.renew, [second], lease_us=MINUTE_US) == 1
    assert _lease_ends(database) > before


@pytest.mark.parametrize(
    ("word", "spent"),
    [("unreachable", 0), ("http_429", 0), ("http_503", 0), ("timeout", 30_000_000), ("broken_off", 30_000_000)],
)
def test_a_judge_that_took_no_question_burns_no_budget(database: Database, word: str, spent: int) -> None:
    evaluator = add(database, {**JUDGE, "daily_budget_usd": "0.05"})
    put(database, *some(3))
    assert evaluate(database, evaluator, means(Judge(EvaluationFailed(word)))) == 3
    (budget,) = rows(database, "budget")
    assert (budget["spent_nano"], budget["reserved_nano"]) == (spent, 0)
