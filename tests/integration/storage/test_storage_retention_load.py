"""Retention of many turns at once: bounded memory, killed and resumed twice, nobody else held up."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
import stored as s
from sqlalchemy import func, select, text
from test_storage_erasure_load import STEPS, others

from turntrace.storage import bulk, retention, tables
from turntrace.storage.database import Database

# One turn in ten is young: with `make test-long` a million of ten million steps stay, in CI ten of a hundred thousand.
OBSERVATIONS = int(os.environ.get("TURNTRACE_TEST_RETAINED") or 10_000_000)
TURNS = (OBSERVATIONS if os.environ.get("TURNTRACE_TEST_LONG") else 100_000) // STEPS
NOW = s.T0 + 401 * retention.DAY_US
MOST_MEMORY_KB = 200 << 10
MOST_ADDED_SECONDS = 0.05  # to the p99 of what a host asks meanwhile
pytestmark = pytest.mark.timeout(3600 if os.environ.get("TURNTRACE_TEST_LONG") else 180)
QUIET_SECONDS = 1.0  # before, between and after the runs: what it takes without retention

_RUN = """
import json, re, sys
from turntrace.jobs import retain
from turntrace.records.retention import parsed
from turntrace.storage.database import Database
database = Database(sys.argv[1])
rules = parsed("content=30,numbers=400")
counts = retain.retain(database, rules=rules, wall=lambda: int(sys.argv[2]), seconds=3000)
database.close()
# Not ru_maxrss: that begins at the size of the process which started this one.
memory = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
print(json.dumps({"memory": memory, **counts}))
"""


def _run(url: str, point: str = "") -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-c", _RUN, url, str(NOW)]
    environment = {"TURNTRACE_FAIL_POINTS": point}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=3000, check=False)


def _number(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def multiply(database: Database, turns: int) -> None:
    """Turns like one that is written down, made by the server itself; of ten the last is young."""
    others(database, 2)
    turn_id = "'02' || lpad(n::text, 9, '0') || lpad(to_hex(n), 21, '0')"
    started = f"CASE WHEN n > {turns * 9 // 10} THEN {NOW} ELSE {s.T0} END + n"
    made = {"turn_id": turn_id, "id": turn_id, "trace_id": turn_id, "started_at_us": started}
    for start in range(1, turns, 20_000):
        for table in (tables.trace, tables.observation, tables.content):
            names = bulk.column_names(table)
            key = "id" if table is tables.trace else "turn_id"
            series = f"generate_series({start}, {min(start + 19_999, turns)})"
            values = ", ".join(made.get(name, name) for name in names)
            statement = f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {values} FROM {table.name}, {series} n"
            with database.write() as connection:
                connection.execute(text(f"{statement} WHERE {key} LIKE '01%'"))


class Host:
    """What a host does meanwhile: it stores a turn and reads it, again and again, and notes how long that takes."""

    def __init__(self, database: Database) -> None:
        self._database, self._stop, self._number = database, threading.Event(), 800_000
        self.quiet: list[float] = []
        self.busy: list[float] = []
        self._times = self.quiet
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Host":
        self._thread.start()
        self.rest()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def rest(self) -> None:
        """A while without anybody else."""
        self._times = self.quiet
        time.sleep(QUIET_SECONDS)
        self._times = self.busy

    def added(self) -> float:
        """Seconds that the others' work adds to the 99th percentile."""
        return quantiles(self.busy, n=100)[98] - quantiles(self.quiet, n=100)[98]

    def _ask(self) -> None:
        while not self._stop.is_set():
            times, began = self._times, time.perf_counter()
            turn = s.trace(self._number, user_id="live", session_id="live", started_at_us=NOW)
            s.write(self._database, s.end(turn))
            times.append(time.perf_counter() - began)
            self._number += 1
            self._stop.wait(0.01)


@pytest.fixture
def dialect() -> str:
    """PostgreSQL: the heaviest reader of a query's answer, and where such numbers are kept."""
    return "postgresql"


@pytest.mark.alone
def test_many_turns_go_in_bounded_memory_and_nobody_waits_long(database: Database) -> None:
    multiply(database, TURNS)
    url = database.url.render_as_string(hide_password=False)
    with Host(database) as host:
        for _ in range(2):
            assert _run(url, "retain.after_delete=kill@5").returncode == -9
            host.rest()
        last = _run(url)
        host.rest()
    assert last.returncode == 0, last.stderr
    told = json.loads(last.stdout)
    assert told["left"] == 0
    assert told["memory"] < MOST_MEMORY_KB
    with database.read() as connection:
        old = select(func.count()).where(tables.trace.c.started_at_us < NOW - 400 * retention.DAY_US)
        assert connection.execute(old).scalar_one() == 0
    kept = _number(database, tables.trace)
    assert kept == TURNS // 10 + len(host.quiet) + len(host.busy)
    assert _number(database, tables.content) == kept
    print(f"retention: {TURNS * STEPS:,} steps, {told['memory'] >> 10} MB, {host.added() * 1000:+.1f} ms p99")
    assert host.added() <= MOST_ADDED_SECONDS


def test_the_archive_of_many_turns_is_written_in_portions(database: Database, tmp_path: Path) -> None:
    others(database, 1_000)
    script = _RUN.replace("seconds=3000", f"seconds=3000, archive_dir={str(tmp_path)!r}")
    words = [sys.executable, "-c", script, database.url.render_as_string(hide_password=False), str(NOW)]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, timeout=300, check=True).stdout)
    assert told["archived"] == 999
    assert told["memory"] < MOST_MEMORY_KB
