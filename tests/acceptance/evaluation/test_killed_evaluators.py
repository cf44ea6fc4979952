"""Eight processes that judge, killed at random: each target is scored exactly once, money stays within its cap."""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.context import ForkServerProcess

import pytest
from sqlalchemy import func, select

from tests.acceptance.evaluation.evaluating_process import judge_until_killed
from tests.acceptance.servers import wait_until
from tests.integration.evaluation.bench import JUDGE, add, put, rows, some
from turntrace.jobs import planning
from turntrace.storage import tables
from turntrace.storage.database import Database

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
PROCESSES = 8
TURNS = 1000 if IS_LONG else 120
KILLS = 40 if IS_LONG else 8
WAIT_SECONDS = 300 if IS_LONG else 90


@pytest.fixture(params=["postgresql", "mariadb"] if IS_LONG else ["postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# Forked from one that has everything imported: what is tested are deaths, not starts.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.acceptance.evaluation.evaluating_process"])


class Pool:
    """Judging processes of which one can be killed at any time; another takes its place."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.running = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> ForkServerProcess:
        process = FORKS.Process(target=judge_until_killed, args=(self._url,), daemon=True)
        process.start()
        return process

    def kill_one(self, chance: random.Random) -> None:
        place = chance.randrange(len(self.running))
        victim = self.running[place]
        victim.kill()
        victim.join(10)
        self.running[place] = self._start()

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.join(10)


@contextmanager
def pool(database: Database) -> Iterator[Pool]:
    made = Pool(database.url.render_as_string(hide_password=False))
    try:
        yield made
    finally:
        made.stop()


def _statuses(database: Database) -> Counter[str]:
    n = tables.evaluation.c
    with database.read() as c:
        return Counter({row[0]: row[1] for row in c.execute(select(n.status, func.count()).group_by(n.status))})


def test_each_target_is_scored_once_whoever_is_killed(database: Database) -> None:
    chance, now_us = random.Random(7), time.time_ns() // 1000
    evaluator = add(database, JUDGE, now_us=now_us - 60_000_000)
    traces = [replace(trace, started_at_us=now_us - index) for index, trace in enumerate(some(TURNS))]
    for start in range(0, TURNS, 200):
        put(database, *traces[start : start + 200], at_us=now_us)
    assert planning.plan(database, evaluator, now_us=now_us) == TURNS
    with pool(database) as processes:
        for kill in range(KILLS):
            done = TURNS * (kill + 1) // (KILLS + 2)
            wait_until(lambda done=done: _statuses(database)["done"] >= done, seconds=WAIT_SECONDS, what=f"{done} done")  # type: ignore[misc]
            processes.kill_one(chance)
        wait_until(lambda: _statuses(database)["done"] == TURNS, seconds=WAIT_SECONDS, what="all are done")
    scores = rows(database, "score")
    assert len(scores) == TURNS
    assert {score["turn_id"] for score in scores} == {trace.id for trace in traces}
    assert {row["score_id"] for row in rows(database)} == {score["id"] for score in scores}


def test_money_stays_within_its_cap_whoever_is_killed(database: Database) -> None:
    chance, now_us = random.Random(8), time.time_ns() // 1000
    evaluator = add(database, {**JUDGE, "daily_budget_usd": "0.05"}, now_us=now_us - 60_000_000)
    put(database, *[replace(t, started_at_us=now_us - i) for i, t in enumerate(some(100))], at_us=now_us)
    planning.plan(database, evaluator, now_us=now_us)

    def is_spent() -> bool:
        return any(row["error_type"] == "budget_spent" for row in rows(database))

    with pool(database) as processes:
        wait_until(lambda: _statuses(database)["done"] > 0, seconds=WAIT_SECONDS, what="one is done")
        processes.kill_one(chance)
        wait_until(is_spent, seconds=WAIT_SECONDS, what="the budget is spent")
        wait_until(lambda: not _statuses(database)["claimed"], seconds=WAIT_SECONDS, what="nothing is under way")
    (budget,) = rows(database, "budget")
    done = sum(row["cost_total_nano"] or 0 for row in rows(database))
    assert done <= budget["spent_nano"] <= budget["cap_nano"] == 50_000_000
    assert budget["spent_nano"] + budget["reserved_nano"] <= budget["cap_nano"]
