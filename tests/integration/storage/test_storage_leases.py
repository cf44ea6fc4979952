"""Leases by the database's clock, fencing, and one run per slot."""

import threading
import time

import stored as s

from turntrace.storage import leases, switches
from turntrace.storage.database import Database
from turntrace.storage.queries.system import system

LONG = 60_000_000


def _acquire(database: Database, owner: str, ttl_us: int = LONG) -> leases.Lease | None:
    return database.transact(leases.acquire, "worker", owner, ttl_us=ttl_us)


def test_one_holds_a_lease_until_it_is_released(database: Database) -> None:
    first = _acquire(database, "a")
    assert first == leases.Lease("worker", "a", 1)
    assert _acquire(database, "b") is None
    assert _acquire(database, "a") == first
    database.transact(leases.release, first)
    second = _acquire(database, "b")
    assert second == leases.Lease("worker", "b", 2)
    assert not database.transact(leases.renew, first, ttl_us=LONG)
    assert database.transact(leases.renew, second, ttl_us=LONG)


def test_an_expired_lease_is_taken_and_its_old_holder_is_fenced_off(database: Database) -> None:
    first = _acquire(database, "a", ttl_us=1)
    assert first is not None
    deadline = time.monotonic() + 5
    second = None
    while second is None and time.monotonic() < deadline:
        second = _acquire(database, "b")
    assert second is not None
    assert second.epoch == 2
    assert not database.transact(leases.hold, first)
    assert database.transact(leases.hold, second)
    database.transact(leases.release, first)
    assert database.transact(leases.hold, second)


def test_a_holder_that_let_its_lease_run_out_gets_a_new_epoch(database: Database) -> None:
    first = _acquire(database, "a", ttl_us=1)
    assert first is not None
    deadline = time.monotonic() + 5
    while database.transact(leases.hold, first) and time.monotonic() < deadline:
        pass
    again = _acquire(database, "a")
    assert again is not None
    assert again.epoch == first.epoch + 1


def test_of_many_that_want_a_lease_one_gets_it(database: Database) -> None:
    got: list[leases.Lease] = []

    def want(owner: str) -> None:
        lease = _acquire(database, owner)
        if lease is not None:
            got.append(lease)

    threads = [threading.Thread(target=want, args=(f"o{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_the_clock_of_the_database_counts_microseconds(database: Database) -> None:
    from sqlalchemy import select

    with database.read() as connection:
        found = connection.execute(select(leases.now_us(connection.dialect.name))).scalar_one()
    assert abs(int(found) - time.time_ns() // 1000) < 5_000_000


def test_a_job_runs_once_for_a_slot(database: Database) -> None:
    lease = _acquire(database, "a")
    assert lease is not None
    first = database.transact(leases.begin_run, lease, "retain", slot_at_us=1000, now_us=s.NOW)
    assert first is not None
    assert database.transact(leases.begin_run, lease, "retain", slot_at_us=1000, now_us=s.NOW) is None
    assert database.transact(leases.begin_run, lease, "retain", slot_at_us=2000, now_us=s.NOW) is not None
    database.transact(leases.finish_run, first, status="done", now_us=s.NOW + 5, details={"rows": 3})
    (row, _) = sorted(s.rows(database, "job_run"), key=lambda row: row["slot_at_us"])
    assert (row["status"], row["finished_at_us"], row["details"]) == ("done", s.NOW + 5, '{"rows":3}')
    with database.read() as connection:
        assert leases.last_slot(connection, "retain") == 2000
        assert leases.last_slot(connection, "probe") is None


def test_owners_are_never_named_alike() -> None:
    assert leases.new_owner() != leases.new_owner()


def test_a_switch_is_set_and_read(database: Database) -> None:
    with database.write() as connection:
        assert switches.get(connection, switches.ENABLED) is None
        switches.put(connection, switches.ENABLED, "0", now_us=1)
        switches.put(connection, switches.ENABLED, "1", now_us=2, author="anna")
        assert switches.get(connection, switches.ENABLED) == "1"


def test_runs_that_ended_well_are_forgotten_but_for_the_last(database: Database) -> None:
    lease = _acquire(database, "a")
    assert lease is not None
    runs = [("often", slot, "done") for slot in (100, 200, 300, 400)]
    runs += [("often", 150, "failed"), ("daily", 50, "done"), ("gone", 10, "done")]
    for job, slot, status in runs:
        run = database.transact(leases.begin_run, lease, job, slot_at_us=slot, now_us=slot)
        assert run is not None
        database.transact(leases.finish_run, run, status=status, now_us=slot)

    assert database.transact(leases.prune_runs, before_us=20, done_before_us=350) == 4  # gone; 100, 200, 300 of often

    with database.read() as connection:
        latest = system(connection).jobs
    assert {(row["job"], row["slot_at_us"]) for row in s.rows(database, "job_run")} == {
        ("often", 400),
        ("often", 150),
        ("daily", 50),
    }
    assert [(run.job, run.started_at_us) for run in latest] == [("often", 400), ("daily", 50)]
