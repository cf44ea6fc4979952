"""Retention of many turns at once: bounded memory, killed and resumed twice, nobody else held up."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
import stored as s
from sqlalchemy import URL, func, select, update
from test_storage_erasure_load import OBSERVATIONS, STEPS, others

from turntrace.storage import retention, tables
from turntrace.storage.database import Database

# One turn in ten is young: with `make test-long` a million of ten million steps stay, in CI five of fifty thousand.
TURNS = (OBSERVATIONS * 10 if os.environ.get("TURNTRACE_TEST_LONG") else OBSERVATIONS) // STEPS
NOW = s.T0 + 401 * retention.DAY_US
MOST_MEMORY_KB = 200 << 10

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


def _ask(database: Database, stop: threading.Event, times: list[float]) -> None:
    """What a host would do meanwhile: look at one turn and write one, again and again."""
    number = 800_000
    while not stop.is_set():
        began = time.perf_counter()
        s.write(database, s.end(s.trace(number, user_id="live", session_id="live", started_at_us=NOW)))
        times.append(time.perf_counter() - began)
        number += 1
        stop.wait(0.01)


@pytest.fixture
def database(blank_url_from_template: URL) -> Iterator[Database]:
    """PostgreSQL: the heaviest reader of a query's answer, and where such numbers are kept."""
    found = Database(blank_url_from_template)
    yield found
    found.close()


def test_many_turns_go_in_bounded_memory_and_nobody_waits_long(database: Database) -> None:
    others(database, TURNS)
    with database.write() as connection:
        young = tables.trace.c.started_at_us >= s.T0 + TURNS * 9 // 10
        connection.execute(update(tables.trace).where(young).values(started_at_us=NOW))
    url = database.url.render_as_string(hide_password=False)
    quiet: list[float] = []
    busy: list[float] = []
    for times, work in ((quiet, lambda: time.sleep(1)), (busy, None)):
        stop = threading.Event()
        asking = threading.Thread(target=_ask, args=(database, stop, times))
        asking.start()
        try:
            if work is not None:
                work()
            else:
                for _ in range(2):
                    assert _run(url, "retain.after_delete=kill@5").returncode == -9
                last = _run(url)
        finally:
            stop.set()
            asking.join()
    assert last.returncode == 0, last.stderr
    told = json.loads(last.stdout)
    assert told["left"] == 0
    assert told["memory"] < MOST_MEMORY_KB
    kept = _number(database, tables.trace)
    with database.read() as connection:
        old = select(func.count()).where(tables.trace.c.started_at_us < NOW - 400 * retention.DAY_US)
        assert connection.execute(old).scalar_one() == 0
    assert kept >= TURNS // 10
    # Beside a process that never stops deleting, on as many cores as the tests: a wide margin over the quiet figure.
    assert quantiles(busy, n=100)[98] < 20 * quantiles(quiet, n=100)[98] + 1.0


def test_the_archive_of_many_turns_is_written_in_portions(database: Database, tmp_path: Path) -> None:
    others(database, 1_000)
    script = _RUN.replace("seconds=3000", f"seconds=3000, archive_dir={str(tmp_path)!r}")
    words = [sys.executable, "-c", script, database.url.render_as_string(hide_password=False), str(NOW)]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, timeout=300, check=True).stdout)
    assert told["archived"] == 999
    assert told["memory"] < MOST_MEMORY_KB
