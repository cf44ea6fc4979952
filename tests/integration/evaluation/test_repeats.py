"""Judgements made again: claimed and paid like any other, their verdicts beside the score, none of them a score."""

from typing import Any

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
from turntrace.jobs.evaluate import Evaluation
from turntrace.records.evaluator import Evaluator
from turntrace.storage import repeats
from turntrace.storage.database import Database

DAY_US = 24 * 60 * MINUTE_US
LATER_US = NOW_US + 2 * MINUTE_US


def judge_again(database: Database, evaluator: Evaluator, answer: Any, *, now_us: int, times: int = 2) -> int:
    asked = database.transact(repeats.ask, evaluator, targets=5, times=times, now_us=now_us)
    evaluation = Evaluation(database, means(Judge(answer)), wall=lambda: now_us)
    try:
        evaluation.step()
    finally:
        evaluation.close()
    return asked


def said(value: float) -> str:
    return f'{{"reason": "so", "score": {value}}}'


def test_what_was_judged_is_judged_again_without_another_score(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(8))
    assert evaluate(database, evaluator, means(Judge(said(0.9)))) == 8
    before = {score.id: score.value for score in scores(database)}
    assert judge_again(database, evaluator, said(0.2), now_us=LATER_US) == 10
    assert judge_again(database, evaluator, said(0.2), now_us=LATER_US) == 0  # the same day: nothing new
    assert {score.id: score.value for score in scores(database)} == before
    with database.read() as c:
        found = repeats.repeated(c, evaluator.id, since_us=0)
    assert len(found) == 5
    assert {item.score_id for item in found} <= set(before)
    assert {item.values for item in found} == {(0.9, 0.2, 0.2)}
    again = [row for row in rows(database) if row["repeat_number"]]
    assert {(row["status"], row["cost_total_nano"], row["verdict"]) for row in again} == {("done", 2_000_000, "0.2")}
    assert judge_again(database, evaluator, said(0.9), now_us=LATER_US + DAY_US, times=1) == 5


def test_an_error_is_no_verdict(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(2))
    evaluate(database, evaluator, means(Judge(said(0.9))))
    judge_again(database, evaluator, "It is good.", now_us=LATER_US)
    again = [row for row in rows(database) if row["repeat_number"]]
    assert {(row["status"], row["verdict"], row["error_type"]) for row in again} == {("pending", None, "not_json")}
    with database.read() as c:
        assert repeats.repeated(c, evaluator.id, since_us=0) == []


def test_money_for_asking_again_comes_out_of_the_days_budget(database: Database) -> None:
    evaluator = add(database, {**JUDGE, "daily_budget_usd": "0.03"})
    put(database, *some(3))
    assert evaluate(database, evaluator, means(Judge(said(0.9)))) == 3  # 3 × 0.002 spent, 0.024 left
    assert judge_again(database, evaluator, said(0.9), now_us=LATER_US, times=9) == 27
    (budget,) = rows(database, "budget")
    assert budget["spent_nano"] + budget["reserved_nano"] <= 30_000_000
    assert sum(row["cost_total_nano"] or 0 for row in rows(database)) == budget["spent_nano"] == 30_000_000


def test_a_target_that_is_gone_is_not_judged_again(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(1))
    evaluate(database, evaluator, means(Judge(said(0.9))))
    with database.write() as c:
        c.exec_driver_sql("DELETE FROM turntrace_observation")
        c.exec_driver_sql("DELETE FROM turntrace_trace")
    assert judge_again(database, evaluator, said(0.9), now_us=LATER_US) == 2
    assert {row["status"] for row in rows(database) if row["repeat_number"]} == {"skipped"}
