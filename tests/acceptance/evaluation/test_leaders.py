"""Two hosts' worth of processes: one leads, the next takes over when it is killed, every slot runs once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

import pytest
from sqlalchemy import text

from tests.acceptance.evaluation.scheduling_process import JOB, lead_until_killed
from tests.acceptance.servers import wait_until
from tests.integration.evaluation.bench import CHECK, add, put, rows, some
from turntrace import scheduler
from turntrace.storage.database import Database

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
PROCESSES = 4
KILLS = 2
# The long form has the real figures; the short one shorter ones in the same proportion, and the same bound for them.
SHARE = 1.0 if IS_LONG else 0.1
LEASE_US, RENEW_SECONDS = int(SHARE * scheduler.LEASE_US), SHARE * scheduler.RENEW_SECONDS
MOST_SECONDS = SHARE * 30
SLACK_SECONDS = 0.0 if IS_LONG else 3.0  # a slot is a second long, and a busy machine starts threads late
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.acceptance.evaluation.scheduling_process"])


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@contextmanager
def hosts(database: Database) -> Iterator[None]:
    url = database.url.render_as_string(hide_password=False)
    arguments = (url, LEASE_US, RENEW_SECONDS)
    made: list[ForkServerProcess] = [
        FORKS.Process(target=lead_until_killed, args=arguments, daemon=True) for _ in range(PROCESSES)
    ]
    for process in made:
        process.start()
    try:
        yield
    finally:
        for process in made:
            process.kill()
            process.join(10)


def runs(database: Database) -> list[dict[str, Any]]:
    return [row for row in rows(database, "job_run") if row["job"] == JOB]


def leader(database: Database) -> int:
    """The process id of who holds the lease."""
    (lease,) = [row for row in rows(database, "lease") if row["name"] == scheduler.LEASE]
    return int(lease["owner"].split(":")[1])


def last_runner(database: Database) -> int:
    """The process id of who ran the latest slot."""
    return int(max(runs(database), key=lambda row: row["slot_at_us"])["owner"].split(":")[1])


def test_a_killed_leader_is_followed_and_every_slot_runs_once(database: Database) -> None:
    now_us = time.time_ns() // 1000
    evaluator = add(database, {**CHECK, "schedule": {"interval_seconds": 1}}, now_us=now_us - 10_000_000)
    put(database, *some(5), at_us=now_us)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE tick (pid INTEGER)"))
    with hosts(database):
        wait_until(lambda: len(runs(database)) >= 2, seconds=60, what="a leader runs the job")
        for _ in range(KILLS):
            killed = leader(database)
            os.kill(killed, signal.SIGKILL)
            died_at = time.monotonic()
            wait_until(lambda killed=killed: last_runner(database) != killed, seconds=60, what="the next one leads")  # type: ignore[misc]
            assert time.monotonic() - died_at <= MOST_SECONDS + SLACK_SECONDS
            assert leader(database) == last_runner(database)
        wait_until(lambda: len(rows(database)) == 5, seconds=60, what="the evaluator's turns are planned")
    found = runs(database)
    slots = [row["slot_at_us"] for row in found]
    assert len(slots) == len(set(slots))
    assert len({row["owner"] for row in found}) == KILLS + 1
    with database.read() as connection:
        ticks = connection.execute(text("SELECT pid FROM tick")).scalars().all()
    # A leader that is killed between noting a slot and running it leaves that slot out; none runs twice.
    assert len(slots) - KILLS - 1 <= len(ticks) <= len(slots)
    assert {row["evaluator_id"] for row in rows(database)} == {evaluator.id}
