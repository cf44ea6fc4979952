"""The database is away, hung, slow, locked, or has no tables; the spool is full, deleted, read-only, on a full disk.

Nothing is lost that can be kept, what is dropped is counted, and the host does not feel it. Short form: 20 s of each
outage; `TURNTRACE_TEST_LONG=1`: 10 minutes.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from statistics import median

import pytest
from sqlalchemy import URL

from tests.acceptance.faults.load import load_of
from tests.acceptance.faults.outage import (
    Outages,
    Pair,
    Rhythm,
    behind_proxy,
    host,
    is_felt,
    limit_of,
    lockable,
    resident,
    under_load,
)
from tests.acceptance.servers import Api, api_key, is_balanced, turntrace, wait_until
from turntrace import Turntrace
from turntrace.tracing import turn as turns

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
DRAIN_SECONDS = 300.0 if IS_LONG else 60.0  # with patterns
PAIRS, RHYTHM = (20, Rhythm(10, 30, DRAIN_SECONDS)) if IS_LONG else (4, Rhythm(2.5, 5, DRAIN_SECONDS))
# Connections of that time stay dead until they are given up: after half a minute.
HUNG_PAIRS, HUNG_RHYTHM = (10, Rhythm(20, 60, DRAIN_SECONDS)) if IS_LONG else (1, Rhythm(5, 20, DRAIN_SECONDS))
MOST_PAIRS = 3 * PAIRS  # on a machine that others keep busy
MEMORY_MB = 64.0
VISIBLE_SECONDS = 10.0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(7200 if IS_LONG else 600)]


@pytest.fixture(params=["postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Of `blank_url`: one that runs in a server."""
    return str(request.param)


def assert_unfelt(pairs: list[Pair]) -> None:
    """The host's p99 in the outages against the quiet windows around each, as the median of pairs."""
    for pair in pairs:
        print(f"  {pair}")
    added, quiet = median(pair.added for pair in pairs), median(pair.quiet for pair in pairs)
    print(f"  median of {len(pairs)}: added {added:+.2f} ms of {quiet:.2f} ms; limit {limit_of(pairs):.2f} ms")
    assert not is_felt(pairs)


def assert_nothing_lost(outages: Outages) -> None:
    """Every acknowledged turn is stored once, and the balance is exact."""
    assert outages.load.failed == []
    outages.drained(list(outages.load.acknowledged), DRAIN_SECONDS)
    with Api(outages.server.url, api_key(outages.server.env, "read")) as api:
        loss = wait_until(lambda: settled(api), seconds=15, what="a balance at rest")
    print(f"  {len(outages.load.acknowledged)} turns acknowledged; {loss}")
    assert loss["dropped"] == {}
    assert loss["stored"] == loss["accepted"] == len(outages.load.acknowledged)


def settled(api: Api) -> dict[str, object] | None:
    """The balance, once nothing waits."""
    loss = api.loss()
    return loss if is_balanced(loss) and loss["in_spool"] == 0 else None


@pytest.mark.parametrize("dialect", ["postgresql", *(["mariadb"] if IS_LONG else [])], indirect=True)
def test_a_server_that_is_away_hung_or_slow_costs_nothing(blank_url: URL, tmp_path: Path) -> None:
    with behind_proxy(blank_url, tmp_path) as outages:
        with under_load(outages):
            found = {
                kind: outages.measured(kind, rhythm, least=least, most=MOST_PAIRS)
                for kind, least, rhythm in (
                    ("refused", PAIRS, RHYTHM),
                    ("slow", PAIRS, RHYTHM),
                    ("hung", HUNG_PAIRS, HUNG_RHYTHM),
                )
            }
        print(f"\n{blank_url.get_backend_name()}, {RHYTHM.outage_seconds * PAIRS:.0f} s of each:")
        assert_nothing_lost(outages)
        for pairs in found.values():
            assert_unfelt(pairs)


def test_an_sqlite_file_that_another_process_locks_costs_nothing(tmp_path: Path) -> None:
    with lockable(tmp_path) as outages:
        with under_load(outages):
            pairs = outages.measured("locked", RHYTHM, least=PAIRS, most=MOST_PAIRS)
        print(f"\nSQLite, {RHYTHM.outage_seconds * PAIRS:.0f} s:")
        assert_nothing_lost(outages)
        assert_unfelt(pairs)


def test_a_full_spool_costs_bounded_memory_and_every_drop_is_counted_at_once(tmp_path: Path) -> None:
    seconds = 120.0 if IS_LONG else 12.0
    with lockable(tmp_path, spool_max_bytes=str(8 << 20)) as outages:
        key = api_key(outages.server.env, "read")
        with Api(outages.server.url, key) as api, under_load(outages, warm_up_seconds=2.0):
            api.loss()  # panel and API are put together: their memory is not that of the outage
            before = resident({*outages.times.pids(), *outages.workers()})
            outages.switch("locked")
            time.sleep(seconds)
            grown = {pid: now - before[pid] for pid, now in resident(set(before)).items()}
        asked = len(outages.load.acknowledged)
        with Api(outages.server.url, key) as api:
            started = time.monotonic()
            loss = wait_until(lambda: told(api, asked), seconds=VISIBLE_SECONDS, what="all drops are visible")
            shown = time.monotonic() - started
            outages.switch("pass")
            final = wait_until(lambda: settled(api), seconds=DRAIN_SECONDS, what="a balance at rest")
        print(f"\nspool full: {asked} turns, memory {[f'{mb:+.1f} MB' for mb in grown.values()]}")
        print(f"  while locked, after {shown:.1f} s: {loss}\n  at the end: {final}")
        assert outages.load.failed == []
        assert len(grown) > len(outages.times.pids()), "web processes and the worker"
        assert max(grown.values()) <= MEMORY_MB
        assert final["accepted"] == asked
        assert final["dropped"] == loss["dropped"] != {}
        assert len(outages.stored()) == final["stored"]


def told(api: Api, asked: int) -> dict[str, object] | None:
    """The balance, once it speaks of all these turns; the database may be locked."""
    loss = api.loss()
    return loss if is_balanced(loss) and loss["accepted"] == asked else None


def test_turns_wait_for_tables_that_are_made_later(blank_url: URL, tmp_path: Path) -> None:
    with host(blank_url, blank_url, tmp_path, lambda kind: None, has_schema=False) as outages:
        port = int(outages.server.url.rpartition(":")[2])
        with load_of(port) as load:
            outages.load = load
            time.sleep(5)
        assert load.failed == []
        turntrace(outages.server.env, "db", "upgrade")
        took = outages.drained(load.acknowledged, DRAIN_SECONDS)
        print(f"\nschema missing: {len(load.acknowledged)} turns stored {took:.1f} s after the upgrade")
        assert_nothing_lost(outages)


def test_a_spool_that_is_deleted_under_load_costs_what_it_held_and_says_so(tmp_path: Path) -> None:
    with lockable(tmp_path) as outages:
        with under_load(outages):
            outages.switch("locked")  # so that there is something to lose
            time.sleep(2)
            held = len(outages.load.acknowledged)
            shutil.rmtree(tmp_path / "spool")
            time.sleep(3)
            outages.switch("pass")
        assert outages.load.failed == []
        asked = len(outages.load.acknowledged)
        with Api(outages.server.url, api_key(outages.server.env, "read")) as api:
            loss = wait_until(lambda: settled(api), seconds=DRAIN_SECONDS, what="a balance at rest")
        lost = outages.missing()
        print(f"\nspool deleted: {asked} turns, {held} of them before, {lost} lost; {loss}")
        assert set(outages.load.acknowledged[-50:]) <= outages.stored()
        assert loss["accepted"] == asked
        assert sum(loss["dropped"].values()) == lost


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 4 MB; skipped where none can be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as path:
        yield path


@pytest.fixture
def tt(disk: Path, tmp_path: Path) -> Iterator[Turntrace]:
    """Its spool is on the small disk, its database is not."""
    made = Turntrace(f"sqlite:///{tmp_path / 'turntrace.db'}", spool_dir=str(disk / "spool"), secret_key="k" * 32)
    yield made
    made.shutdown()


def record(tt: Turntrace, count: int) -> None:
    for number in range(count):
        with tt.turn("job", input=f"question {number} " * 700):
            pass


def stored(tmp_path: Path) -> int:
    with closing(sqlite3.connect(tmp_path / "turntrace.db")) as connection:
        try:
            found: int = connection.execute("SELECT count(*) FROM turntrace_trace").fetchone()[0]
        except sqlite3.OperationalError:  # the worker has not made it yet
            return 0
    return found


def assert_back(tt: Turntrace, tmp_path: Path, count: int) -> None:
    """Everything is stored soon after the disk is well again."""
    started = time.monotonic()

    def is_stored() -> bool:
        record(tt, 1)  # a writer that nobody calls moves nothing
        return stored(tmp_path) >= count

    wait_until(is_stored, seconds=30, what=f"{count} turns are stored")
    print(f"\n{count} turns stored {time.monotonic() - started:.1f} s after the disk was well again")


def test_a_full_disk_is_waited_out(tt: Turntrace, disk: Path, tmp_path: Path) -> None:
    record(tt, 10)
    assert tt.flush(30)
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"x" * 4096):
            pass
    record(tt, 200)
    (disk / "filler").unlink()
    assert_back(tt, tmp_path, 210)
    assert tt.recorder.guard.faults() == {}


def test_a_read_only_disk_is_waited_out(tt: Turntrace, disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    record(tt, 200)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert_back(tt, tmp_path, 200)
    assert tt.recorder.guard.faults() == {}


def test_jumps_of_the_clock_lose_nothing_and_bend_no_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Turntrace(
        f"sqlite:///{tmp_path / 'turntrace.db'}", spool_dir=str(tmp_path / "s"), worker="thread", secret_key="k" * 32
    )
    real, shift = time.time_ns, [0]
    jumping = lambda: real() + shift[0] * 10**9  # noqa: E731
    monkeypatch.setattr(time, "time_ns", jumping)
    monkeypatch.setattr(turns, "time_ns", jumping)
    try:
        for jump in (0, 7200, -7200, 86_400, 0):
            with made.turn("job", input="x"):
                shift[0] = jump
        assert made.flush(30)
    finally:
        made.shutdown()
    with closing(sqlite3.connect(tmp_path / "turntrace.db")) as connection:
        durations = [row[0] for row in connection.execute("SELECT duration_us FROM turntrace_trace")]
    assert len(durations) == 5
    assert all(0 <= duration < 10**6 for duration in durations)
