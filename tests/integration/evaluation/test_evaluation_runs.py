"""From stored turns to scores: once per target and version, errors never scores, money within its cap."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import URL

from tests.integration.evaluation.bench import (
    CHECK,
    JUDGE,
    MINUTE_US,
    NOW_US,
    Judge,
    Recorded,
    add,
    evaluate,
    means,
    put,
    rows,
    scores,
    some,
)
from turntrace.errors import EvaluationFailed
from turntrace.jobs import planning
from turntrace.jobs.evaluate import Evaluation
from turntrace.records.evaluator import EVALUATION
from turntrace.settings import Settings
from turntrace.storage import evaluations, evaluators, leases, migrate
from turntrace.storage.database import Database
from turntrace.storage.opening import open_database
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.queries import traces

GOOD = '{"reason": "it says how", "score": 0.9}'


def test_a_check_scores_each_turn_once(database: Database) -> None:
    evaluator = add(database, CHECK)
    put(database, *some(5), *some(2, output="With lemon."))
    assert evaluate(database, evaluator, means()) == 7
    assert evaluate(database, evaluator, means()) == 0
    found = scores(database)
    assert sorted(score.value for score in found) == [False] * 2 + [True] * 5
    assert {(s.source, s.evaluator, s.evaluator_version, s.name) for s in found} == {
        ("evaluator", "says vinegar", 1, "says vinegar")
    }


def test_steps_are_judged_with_what_was_found_before_them(database: Database) -> None:
    values = {**CHECK, "target": "observation", "filter": {"type": "generation"}, "check": {"name": "groundedness"}}
    evaluator = add(database, values)
    put(database, *some(3))
    assert evaluate(database, evaluator, means()) == 3
    assert {score.span_id for score in scores(database)} == {"2" * 16}


def test_the_filter_and_the_sample_decide(database: Database) -> None:
    evaluator = add(database, {**CHECK, "filter": {"feature": "search"}, "sample_rate": 0.5})
    put(database, *some(10), *some(60, feature="search"))
    first = evaluate(database, evaluator, means())
    assert 15 <= first <= 45
    judged = {score.turn_id for score in scores(database)}
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM turntrace_evaluation")
    assert evaluate(database, replace(evaluator, watermark_us=0), means()) == first
    assert {score.turn_id for score in scores(database)} == judged


def test_a_new_version_judges_what_comes_after_it(database: Database) -> None:
    evaluator = add(database, CHECK)
    put(database, *some(2))
    evaluate(database, evaluator, means())
    changed = {**evaluator.definition, "check": {"name": "contains", "texts": ["lemon"]}}
    second = database.transact(
        evaluators.revise, evaluator.id, changed, is_enabled=True, sealed=None, author="ada", now_us=NOW_US + MINUTE_US
    )
    assert second.version == 2
    put(database, *some(1), at_us=NOW_US + 10 * MINUTE_US)
    evaluate(database, second, means(), now_us=NOW_US + 20 * MINUTE_US)
    assert {score.evaluator_version for score in scores(database)} == {1, 2}


def test_a_session_is_judged_when_it_has_been_quiet_and_again_when_it_went_on(database: Database) -> None:
    values = {**CHECK, "target": "session", "idle_seconds": 600, "check": {"name": "repeated_question"}}
    evaluator = add(database, values)
    put(database, *some(3, session_id="s-9", user_id="bo"))
    assert evaluate(database, evaluator, means(), now_us=NOW_US + 9 * MINUTE_US) == 0
    assert evaluate(database, evaluator, means(), now_us=NOW_US + 11 * MINUTE_US) == 1
    later = [replace(trace, started_at_us=NOW_US + 20 * MINUTE_US) for trace in some(1, session_id="s-9", user_id="bo")]
    put(database, *later, at_us=NOW_US + 20 * MINUTE_US)
    assert evaluate(database, evaluator, means(), now_us=NOW_US + 40 * MINUTE_US) == 1
    (score,) = scores(database)
    assert (score.session_id, score.user_id, score.turn_id, score.value) == ("s-9", "bo", None, True)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("It is quite good, I would say.", "not_json"),
        ('{"reason": "good"}', "no_score"),
        ('{"reason": "good", "score": 7}', "not_in_range"),
        ('{"reason": "good", "score": "high"}', "wrong_type"),
        (EvaluationFailed("http_429", retry_after_seconds=30), "http_429"),
        (EvaluationFailed("http_500"), "http_500"),
        (EvaluationFailed("timeout"), "timeout"),
    ],
)
def test_no_score_is_made_up(answer: Any, word: str, tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(database)
    evaluator = add(database, JUDGE)
    put(database, *some(1))
    now_us = NOW_US + MINUTE_US
    for attempt in range(1, evaluations.MOST_ATTEMPTS + 1):
        assert evaluate(database, evaluator, means(Judge(answer)), now_us=now_us) == 1
        (row,) = rows(database)
        assert (row["attempt"], row["error_type"], row["score_id"]) == (attempt, word, None)
        now_us = row["due_at_us"] + 3600 * 1_000_000
    assert row["status"] == "failed"
    assert scores(database) == []
    with database.read() as connection:
        known = queries.get(connection, evaluator.id)
    assert known.blocked_reason == word
    database.close()


def test_a_failing_judge_is_blocked_and_comes_back(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(8))
    judge = Judge(EvaluationFailed("http_503"))
    assert evaluate(database, evaluator, means(judge)) == 8
    asked = len(judge.prompts)
    assert evaluate(database, evaluator, means(judge), now_us=NOW_US + MINUTE_US + 3_000_000) == 0
    assert len(judge.prompts) == asked
    assert evaluate(database, evaluator, means(Judge(GOOD)), now_us=NOW_US + 60 * MINUTE_US) == 8
    assert [score.value for score in scores(database)] == [0.9] * 8
    with database.read() as connection:
        assert queries.get(connection, evaluator.id).blocked_until_us is None


def test_a_day_costs_no_more_than_its_cap(database: Database) -> None:
    evaluator = add(database, {**JUDGE, "daily_budget_usd": "0.05"})
    put(database, *some(20))
    assert evaluate(database, evaluator, means(Judge(GOOD))) == 5  # a cent is reserved for each while nothing is known
    evaluate(database, evaluator, means(Judge(GOOD)))
    spent = sum(row["cost_total_nano"] or 0 for row in rows(database))
    assert spent <= 50_000_000
    (budget,) = rows(database, "budget")
    assert (budget["spent_nano"], budget["reserved_nano"]) == (spent, 0)
    assert evaluate(database, evaluator, means(Judge(GOOD)), now_us=NOW_US + 24 * 60 * MINUTE_US) > 0


EU = "production-eu"


@pytest.fixture
def split(database: Database, store_url: URL) -> Iterator[Database]:
    """A database whose content of one environment lies in another one."""
    url, store = (each.render_as_string(hide_password=False) for each in (database.url, store_url))
    found = open_database(Settings(database_url=url, content_urls={EU: store}))  # type: ignore[arg-type]
    migrate.make_stores(found)
    yield found
    found.close()


@contextmanager
def _away(database: Database) -> Iterator[None]:
    """Nobody listens where the store was."""
    stores: Any = database.stores
    there = stores[EU]
    stores[EU] = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    yield
    stores[EU] = there


def _judged(database: Database, *, now_us: int) -> tuple[int, list[tuple[str, int, str | None]], int]:
    """How many were judged, how each stands, and what is still reserved."""
    evaluation = Evaluation(database, means(Judge(GOOD)), wall=lambda: now_us, lease_us=-1)  # a lease is over at once
    try:
        n = evaluation.step()
    finally:
        evaluation.close()
    states = sorted((row["status"], row["attempt"], row["error_type"]) for row in rows(database))
    return n, states, sum(row["reserved_nano"] for row in rows(database, "budget"))


@pytest.mark.parametrize("target", ["trace", "session"])
def test_a_store_that_is_away_holds_up_its_own_turns_only_and_costs_nothing(split: Database, target: str) -> None:
    evaluator = add(split, {**JUDGE, "target": target, "daily_budget_usd": "0.30"})
    for number in range(9):
        put(split, *some(1, environment="production", session_id=f"s-{number}"))
    put(split, *some(1, environment=EU, session_id="s-eu"))
    now_us = NOW_US + 100 * MINUTE_US
    assert planning.plan(split, evaluator, now_us=now_us) == 10
    waiting = [("done", 1, None)] * 9 + [("pending", 0, None)]
    with _away(split):
        for n in (9, 0, 0, 0):
            assert _judged(split, now_us=now_us) == (n, waiting, 0)
            now_us += MINUTE_US
    assert _judged(split, now_us=now_us) == (1, [("done", 1, None)] * 10, 0)
    assert len(scores(split)) == 10


def test_claims_that_were_not_begun_are_given_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = add(database, {**JUDGE, "daily_budget_usd": "0.30"})
    put(database, *some(10))
    now_us = NOW_US + MINUTE_US
    planning.plan(database, evaluator, now_us=now_us)
    with monkeypatch.context() as patch:
        patch.setattr(traces, "by_ids", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _judged(database, now_us=now_us)
    assert {(row["status"], row["attempt"], row["owner"]) for row in rows(database)} == {("pending", 0, None)}
    assert _judged(database, now_us=now_us) == (0, [("pending", 0, None)] * 10, 0)
    assert _judged(database, now_us=now_us + MINUTE_US) == (10, [("done", 1, None)] * 10, 0)


def test_a_claim_that_is_anothers_by_now_is_not_given_back(database: Database) -> None:
    evaluator = add(database, {**JUDGE, "daily_budget_usd": "0.30"})
    put(database, *some(1))
    now_us = NOW_US + MINUTE_US
    planning.plan(database, evaluator, now_us=now_us)
    owners = leases.new_owner(), leases.new_owner()
    claims = [
        database.transact(
            evaluations.claim, owner, limit=5, now_us=now_us, budget_of=lambda _: 300_000_000, lease_us=-1
        )
        for owner in owners
    ]
    before = rows(database), rows(database, "budget")
    assert database.transact(evaluations.give_back, claims[0], now_us=now_us, due_at_us=now_us) == 0
    assert (rows(database), rows(database, "budget")) == before
    assert database.transact(evaluations.give_back, claims[1], now_us=now_us, due_at_us=now_us) == 1
    assert [row["attempt"] for row in rows(database)] == [1]


def test_a_claim_that_ran_out_is_another_workers(database: Database) -> None:
    evaluator = add(database, CHECK)
    put(database, *some(1))
    planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US)
    slow, quick = leases.new_owner(), Evaluation(database, means(), wall=lambda: NOW_US + MINUTE_US)
    (claim,) = database.transact(
        evaluations.claim, slow, limit=5, now_us=NOW_US + MINUTE_US, budget_of=lambda _: None, lease_us=-1
    )
    assert quick.step() == 1
    quick.close()
    ended = evaluations.Ended(claim=claim, outcome=evaluations.Outcome(error="timeout"))
    assert database.transact(evaluations.finish, [ended], now_us=NOW_US + MINUTE_US) == 0
    (row,) = rows(database)
    assert (row["status"], row["attempt"]) == ("done", 2)


def test_a_turn_that_was_erased_meanwhile_gets_no_score(database: Database) -> None:
    evaluator = add(database, JUDGE)
    put(database, *some(1))

    class Erases(Judge):
        def __call__(self, *arguments: Any) -> Any:
            with database.write() as connection:
                connection.exec_driver_sql("DELETE FROM turntrace_trace")
            return super().__call__(*arguments)

    evaluate(database, evaluator, means(Erases(GOOD)))
    assert scores(database) == []


def test_judges_runs_are_judged_up_to_the_depth_limit_and_never_by_themselves(database: Database) -> None:
    ordinary = add(database, CHECK)
    deep = add(database, {**CHECK, "name": "deep", "max_depth": 2})
    runs = [some(1, environment=EVALUATION, depth=depth)[0] for depth in (1, 2, 3)]
    own = some(1, environment=EVALUATION, depth=1, tags=(f"evaluator:{deep.id}",))
    put(database, *runs, *own)
    assert evaluate(database, ordinary, means()) == 0
    assert evaluate(database, deep, means()) == 2


def test_what_is_planned_twice_by_two_leaders_is_planned_once(database: Database) -> None:
    evaluator = add(database, CHECK)
    put(database, *some(4))
    assert planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US) == 4
    assert planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US) == 0
    lost = leases.Lease("scheduler", "somebody:1:else", 1)
    put(database, *some(1))
    assert planning.plan(database, evaluator, now_us=NOW_US + MINUTE_US, lease=lost) == 0


def test_a_forced_loop_of_two_judges_stops_at_the_depth_limit(database: Database) -> None:
    runs: list[tuple[tuple[str, ...], int]] = []

    @contextmanager
    def record(name: str, spec: Any, prompt: str, tags: tuple[str, ...], depth: int) -> Iterator[Recorded]:
        runs.append((tags, depth))
        yield Recorded()

    both = [add(database, {**JUDGE, "name": name, "max_depth": 3}) for name in ("one", "other")]
    put(database, *some(1))
    asks = replace(means(Judge(GOOD)), records=record)
    judged = []
    for number in range(8):  # every run of a judge comes back as a turn that the other one may judge
        now_us = NOW_US + (number + 1) * MINUTE_US
        runs.clear()
        judged.append(sum(evaluate(database, each, asks, now_us=now_us) for each in both))
        put(database, *[some(1, environment=EVALUATION, tags=t, depth=d)[0] for t, d in runs], at_us=now_us)
    assert judged == [2, 2, 2, 2, 0, 0, 0, 0]
