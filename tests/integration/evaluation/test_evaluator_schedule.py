"""Schedules: slots by interval and cron, each run once; a leader that dies is followed, a paused one is fenced."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.servers import wait_until
from tests.integration.evaluation.bench import CHECK, add, put, rows, some
from turntrace import scheduler
from turntrace.errors import InvalidInput
from turntrace.evaluation.definition import read_definition
from turntrace.jobs import planning
from turntrace.jobs.compact import RUNS_KEPT_US
from turntrace.jobs.schedule import cron_trigger, latest_slot
from turntrace.storage import evaluators, leases
from turntrace.storage.database import Database
from turntrace.storage.queries import evaluators as queries

HOUR_US = 3_600_000_000


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("schedule", "after", "now", "slot"),
    [
        ({"interval_seconds": 60}, "2026-11-20T10:00:00", "2026-11-20T10:02:30", "2026-11-20T10:02:00"),
        ({"interval_seconds": 60}, "2026-11-20T10:02:00", "2026-11-20T10:02:30", None),
        ({"cron": "0 6 * * *"}, "2026-11-19T06:00:00", "2026-11-20T05:59:59", None),
        ({"cron": "0 6 * * *"}, "2026-11-19T06:00:00", "2026-11-20T06:00:01", "2026-11-20T06:00:00"),
        ({"cron": "0 6 * * *"}, "2026-11-01T06:00:00", "2026-11-20T07:00:00", "2026-11-20T06:00:00"),
        ({"cron": "* * * * *"}, "2025-01-01T00:00:00", "2026-11-20T07:00:30", "2026-11-20T07:00:00"),
        ({"cron": "0 0 1 * *"}, "2026-10-01T00:00:00", "2026-11-20T07:00:00", "2026-11-01T00:00:00"),
    ],
)
def test_the_latest_slot_stands_for_all_that_were_missed(
    schedule: dict[str, Any], after: str, now: str, slot: str | None
) -> None:
    definition, _ = read_definition({**CHECK, "schedule": schedule})
    found = latest_slot(definition, after_us=us(after), now_us=us(now))
    assert found == (us(slot) if slot else None)


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 6 * * 1", [2, 9, 16, 23, 30]),  # 1 November 2026 is a Sunday
        ("0 6 * * 0", [1, 8, 15, 22, 29]),
        ("0 6 * * 7", [1, 8, 15, 22, 29]),
        ("0 6 1-7 * *", [1, 2, 3, 4, 5, 6, 7]),
        ("0 6 * * Mon", [2, 9, 16, 23, 30]),
        ("0 6 * * 6,0", [1, 7, 8, 14, 15, 21, 22, 28, 29]),
        ("0 6 * * 5-7", [1, 6, 7, 8, 13, 14, 15, 20, 21, 22, 27, 28, 29]),
        ("0 6 * * fri-sun", [1, 6, 7, 8, 13, 14, 15, 20, 21, 22, 27, 28, 29]),
        ("0 6 * * */3", [1, 4, 7, 8, 11, 14, 15, 18, 21, 22, 25, 28, 29]),
        ("0 6 13 * 1", [2, 9, 13, 16, 23, 30]),
        ("0 6 */10 * *", [1, 11, 21]),
    ],
)
def test_days_are_those_of_a_crontab(line: str, days: list[int]) -> None:
    definition, _ = read_definition({**CHECK, "schedule": {"cron": line}})
    found = [
        day
        for day in range(1, 31)
        if latest_slot(definition, after_us=us(f"2026-11-{day:02}"), now_us=us(f"2026-11-{day:02}T12:00:00"))
    ]
    assert found == days


@pytest.mark.parametrize(
    "line", ["every day at six", "0 6 * *", "0 6 * * 8", "0 6 * * day", "0 6 * * 1-", "61 6 * * 1"]
)
def test_what_is_no_cron_line_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        cron_trigger(line)
    assert refusal.value.field == "$.schedule.cron"


def test_a_leader_is_followed_within_thirty_seconds_by_its_figures() -> None:
    assert scheduler.LEASE_US / 1e6 + scheduler.RENEW_SECONDS <= 30


def test_a_leader_that_died_is_followed_and_every_slot_runs_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "LEASE_US", 1_500_000)
    monkeypatch.setattr(scheduler, "RENEW_SECONDS", 0.3)
    monkeypatch.setattr(scheduler, "LOOK_SECONDS", 0.2)
    now_us = time.time_ns() // 1000
    evaluator = add(database, {**CHECK, "schedule": {"interval_seconds": 1}}, now_us=now_us - 10_000_000)
    both = [scheduler.Scheduler(database, ()) for _ in range(2)]
    for each in both:
        each.start()
    try:
        wait_until(lambda: len(_slots(database)) >= 2, seconds=60, what="two slots ran")
        leader = next(each for each in both if each._lease is not None)
        leader._timer.shutdown(wait=True)  # as a kill does it: the lease is not given back
        leader._lease = None
        before = _slots(database)
        put(database, *some(3), at_us=time.time_ns() // 1000)
        wait_until(lambda: len(_slots(database)) > len(before) + 1, seconds=60, what="the other one goes on")
        wait_until(lambda: len(rows(database)) == 3, seconds=60, what="the turns are planned")
    finally:
        for each in both:
            each.stop()
    slots = _slots(database)
    assert len(slots) == len(set(slots))
    assert {row["evaluator_id"] for row in rows(database)} == {evaluator.id}


def _slots(database: Database) -> list[int]:
    return [row["slot_at_us"] for row in rows(database, "job_run") if row["job"].startswith("evaluator:")]


def test_a_leader_that_was_paused_begins_nothing(database: Database) -> None:
    now_us = time.time_ns() // 1000
    evaluator = add(database, {**CHECK, "schedule": {"interval_seconds": 1}}, now_us=now_us - 10_000_000)
    paused = scheduler.Scheduler(database, ())
    assert paused._keep_lease()
    with database.write() as connection:  # its time ran out, and another took over
        connection.exec_driver_sql("UPDATE turntrace_lease SET expires_at_us = 0")
    other = database.transact(leases.acquire, scheduler.LEASE, leases.new_owner(), ttl_us=60_000_000)
    assert other is not None
    put(database, *some(2), at_us=now_us)
    paused._look_at_evaluators()
    assert (_slots(database), rows(database)) == ([], [])
    database.transact(evaluators.remove, evaluator.id)


def test_a_monthly_slot_is_not_run_again_by_a_leader_that_comes_weeks_later(database: Database) -> None:
    evaluator = add(database, {**CHECK, "schedule": {"cron": "0 6 1 * *"}}, now_us=us("2026-10-20"))
    for text in ("2026-11-01T06:00:01", "2026-11-09", "2026-11-20", "2026-12-01T06:00:01"):
        now_us = us(text)
        _lead(database, now_us)
        database.transact(leases.prune_runs, before_us=now_us - RUNS_KEPT_US, done_before_us=now_us - 1)
    assert _slots(database) == [us("2026-12-01T06:00:00")]
    with database.read() as connection:
        assert queries.get(connection, evaluator.id).watermark_us >= us("2026-12-01")
    database.transact(evaluators.remove, evaluator.id)
    assert _slots(database) == []


def test_nothing_is_planned_between_monthly_slots(database: Database) -> None:
    add(database, {**CHECK, "schedule": {"cron": "0 6 1 * *"}}, now_us=us("2026-10-20"))
    _lead(database, us("2026-11-01T06:00:01"))
    now_us = us("2026-11-20")
    database.transact(leases.prune_runs, before_us=now_us - RUNS_KEPT_US, done_before_us=now_us)
    put(database, *some(2), at_us=us("2026-11-19"))
    _lead(database, now_us)
    assert rows(database) == []
    _lead(database, us("2026-12-01T06:00:01"))
    assert len(rows(database)) == 2


@pytest.mark.parametrize("target", ["trace", "session"])
def test_a_day_with_more_turns_than_one_look_takes_is_planned_to_its_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(planning, "PAGE", 2)
    monkeypatch.setattr(planning, "MOST_PAGES", 2)
    check = {"name": "repeated_question"} if target == "session" else CHECK["check"]
    values = {**CHECK, "target": target, "check": check, "schedule": {"cron": "0 6 * * *"}, "idle_seconds": 60}
    add(database, values, now_us=us("2026-11-19"))
    for number in range(11):
        at_us = us("2026-11-19T12:00:00") + number
        put(database, *(replace(one, started_at_us=at_us) for one in some(1, session_id=f"s-{number}")), at_us=at_us)
    now_us = us("2026-11-20T06:00:01")
    leader = scheduler.Scheduler(database, (), wall=lambda: now_us)
    assert leader._keep_lease()
    for _ in range(5):
        leader._look_at_evaluators()
    leader.stop()
    assert len(rows(database)) == 11
    assert _slots(database) == [us("2026-11-20T06:00:00")]


def _lead(database: Database, now_us: int) -> None:
    """One look by a leader that has just begun."""
    leader = scheduler.Scheduler(database, (), wall=lambda: now_us)
    assert leader._keep_lease()
    leader._look_at_evaluators()
    leader.stop()


def test_a_definition_that_this_release_cannot_read_is_blocked_and_says_so(database: Database) -> None:
    made = add(database, CHECK)
    with database.write() as connection:
        connection.exec_driver_sql('UPDATE turntrace_evaluator_version SET definition = \'{"kind": "oracle"}\'')
    leader = scheduler.Scheduler(database, ())
    assert leader._keep_lease()
    leader._look_at_evaluators()
    leader.stop()
    with database.read() as connection:
        found = queries.get(connection, made.id)
    assert found.blocked_reason == "definition_unreadable"
    assert found.blocked_until_us is not None
