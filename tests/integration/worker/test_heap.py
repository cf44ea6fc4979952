"""The worker's own memory: searched and given back between two steps, and only there."""

import gc
import platform
import subprocess
import sys

import pytest
from sqlalchemy import event

from turntrace.storage import bulk, tables
from turntrace.storage.database import Database
from turntrace.worker.heap import COLLECT_SECONDS, TRIM_SECONDS

# In a process of its own: what it does holds for a whole process.
RESTING = """
import gc
from turntrace.worker.heap import COLLECT_SECONDS, TRIM_SECONDS, Heap
now, trimmed, searched = [0.0], [], []
gc.callbacks.append(lambda phase, info: searched.append(now[0]) if phase == "start" and info["generation"] == 2 else 0)
heap = Heap(clock=lambda: now[0], trim=lambda: trimmed.append(now[0]))
heap.relax()
assert gc.get_threshold()[0] >= 10_000 and gc.isenabled()
while now[0] < 2 * TRIM_SECONDS:
    heap.tidy()
    now[0] += 0.5
assert gc.get_freeze_count() > 1000  # what was loaded at the start is not looked at again
print(len(searched), len(trimmed))
"""

# The threads stay alive: what an arena has reserved counts for as long.
THREADED = """
import threading
from pathlib import Path
from turntrace.worker.heap import Heap
def reserved():
    line = next(line for line in Path("/proc/self/status").open() if line.startswith("VmSize:"))
    return int(line.split()[1]) >> 10
Heap().relax()
before, held, barrier = reserved(), [], threading.Barrier(9)
def work():
    held.append([b"x" * 5000 for _ in range(200)])
    barrier.wait()
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
barrier.wait()
print(reserved() - before)
barrier.wait()
"""


def run(script: str) -> list[int]:
    """The numbers that a script prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_cycles_are_cleared_away_every_few_seconds_and_memory_is_given_back_now_and_then() -> None:
    searched, trimmed = run(RESTING)
    assert searched == 2 * TRIM_SECONDS / COLLECT_SECONDS
    assert trimmed == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_share_one_arena() -> None:
    (megabytes,) = run(THREADED)
    assert megabytes < 8 * 64, "each thread has an arena of its own, 64 MB beside its stack"


def test_the_host_s_collector_is_left_alone() -> None:
    assert gc.get_threshold()[0] < 10_000
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_batches_of_any_size_are_looked_up_with_few_statements(database: Database) -> None:
    """SQLite's driver keeps what it has prepared by the text of the statement."""
    texts: set[str] = set()
    event.listen(database.engine, "before_cursor_execute", lambda c, cursor, text, *_: texts.add(text))
    with database.write() as connection:
        for size in range(1, 257):
            bulk.delete_keys(connection, tables.sampled, "turn_id", [f"t{number}" for number in range(size)])
    assert len({text for text in texts if text.startswith("DELETE")}) == 9  # 1, 2, 4, … 256


def test_a_rounded_list_of_keys_names_the_same_keys() -> None:
    for size in (0, 1, 2, 3, 5, 1000):
        keys = [f"k{number}" for number in range(size)]
        assert set(bulk.rounded(keys)) == set(keys)
        assert len(bulk.rounded(keys)) < 2 * size or size == 0
