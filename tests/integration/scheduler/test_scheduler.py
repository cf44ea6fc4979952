"""Jobs run once per slot, by whoever holds the lease."""

import threading
from collections.abc import Mapping

import pytest

from turntrace import scheduler
from turntrace.errors import NotFound
from turntrace.storage.database import Database


def test_two_schedulers_run_a_slot_once(database: Database) -> None:
    runs: list[int] = []

    def count(_: Database) -> Mapping[str, int]:
        runs.append(1)
        return {"n": 1}

    job = scheduler.Job("count", 3600, count, "Count.")
    both = [scheduler.Scheduler(database, wall=lambda: 7_200_000_000), scheduler.Scheduler(database)]
    threads = [threading.Thread(target=each._run_slot, args=[job]) for each in both for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(runs) == 1
    for each in both:
        each.stop()


def test_a_failing_job_is_noted_and_the_next_slot_runs(database: Database) -> None:
    def fail(_: Database) -> Mapping[str, int]:
        raise ValueError("text of somebody")

    now_us = 7_200_000_000
    each = scheduler.Scheduler(database, wall=lambda: now_us)
    each._run_slot(scheduler.Job("fail", 60, fail, "Fail."))
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT status, details FROM turntrace_job_run").all()
    assert [row[0] for row in rows] == ["failed"]
    assert "somebody" not in str(rows)
    each.stop()


def test_an_unknown_job_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="compact"):
        scheduler.job("nothing")


def test_compaction_leaves_the_sums_as_they_are(database: Database) -> None:
    assert scheduler.job("compact").run(database)["deltas"] == 0
