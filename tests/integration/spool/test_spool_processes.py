"""Processes that fork, and processes that are killed at any instant."""

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from spooled import bury_dead, number_of, read_all, store_all, turn

from turntrace.keyring import KeyRing
from turntrace.records.fragment import FrameKind
from turntrace.spool.directory import WorkerLock
from turntrace.spool.memory import MemorySpool
from turntrace.spool.reader import SpoolReader
from turntrace.spool.writer import SpoolWriter

END = FrameKind.END
KEYS = KeyRing([b"k" * 32], is_explicit=True)
NewWriter = Callable[..., SpoolWriter]
NewReader = Callable[..., SpoolReader]


def in_child(work: Callable[[], object]) -> int:
    """Exit status of a forked child: 0 when `work` was true."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_writes_into_a_directory_of_its_own(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    assert in_child(lambda: writer.append(END, turn(2), is_first=True)) == 0
    writer.append(END, turn(3), is_first=True)
    frames = bury_dead(reader)
    frames += bury_dead(reader)
    assert sorted(number_of(f) for f in frames) == [1, 2, 3]
    assert len({f.process_id for f in frames}) == 2
    assert reader.dead() == []
    assert [(c.process_id, c.accepted) for c in reader.counts()] == [(writer.process_id, 2)]


def test_a_child_that_ends_does_not_free_the_lock_of_its_parent(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    for _ in range(5):
        assert in_child(lambda: True) == 0
    reader.poll(1, 1)
    reader.dead()
    assert reader.dead() == []
    assert not reader.counts()[0].is_dead


def test_a_child_leaves_what_waits_in_memory_to_its_parent(new_writer: NewWriter, root: Path) -> None:
    root.parent.parent.mkdir(exist_ok=True)
    root.parent.write_text("in the way")
    writer = new_writer()
    writer.append(END, turn(1), is_first=True)
    assert writer.held_bytes > 0
    assert in_child(lambda: writer.held_bytes == 0 and writer.counters.values()["accepted"] == 0) == 0
    assert writer.counters.values()["accepted"] == 1


def test_forks_while_threads_append_neither_hang_nor_lose_a_turn(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(), new_reader()
    stop = threading.Event()
    written = [0, 0]

    def work(slot: int) -> None:
        while not stop.is_set():
            assert writer.append(END, turn(written[slot] * 2 + slot), is_first=True)
            written[slot] += 1

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100):
        assert in_child(lambda n=number: writer.append(END, turn(1_000_000 + n), is_first=True)) == 0
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    numbers = [number_of(f) for f in bury_dead(reader)]
    assert len(numbers) == len(set(numbers)) == sum(written) + 100
    assert list(reader.skipped) == []


def test_a_child_has_a_memory_spool_of_its_own() -> None:
    spool = MemorySpool()
    spool.append(END, turn(1), is_first=True)
    assert in_child(lambda: spool.poll(10, 1000) == [] and spool.append(END, turn(2), is_first=True)) == 0
    assert [number_of(f) for f in spool.poll(10, 1000)] == [1]


def test_one_worker_is_elected_and_its_death_frees_the_place(tmp_path: Path) -> None:
    first, second = WorkerLock(tmp_path / "app"), WorkerLock(tmp_path / "app")
    assert not first.is_held_elsewhere()
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    assert second.is_held_elsewhere()
    assert not first.is_held_elsewhere()
    assert in_child(lambda: not first.is_held and first.is_held_elsewhere() and not first.acquire()) == 0
    assert not second.acquire()  # the child's end freed nothing
    first.release()
    assert second.acquire()
    assert (tmp_path / "app" / "worker.lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_that_was_deleted_is_taken_anew(tmp_path: Path) -> None:
    lock = WorkerLock(tmp_path)
    assert lock.acquire()
    (tmp_path / "worker.lock").unlink()
    assert lock.acquire()
    assert not WorkerLock(tmp_path).acquire()


def test_no_lock_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lock = WorkerLock(tmp_path / "file" / "app")
    assert not lock.acquire()
    assert not lock.is_held_elsewhere()


WRITER = textwrap.dedent(
    """
    import os, random, sys, threading
    from pathlib import Path
    from turntrace.keyring import KeyRing
    from turntrace.records.fragment import FrameKind
    from turntrace.spool.writer import SpoolWriter

    writer = SpoolWriter(Path(sys.argv[1]), KeyRing([b"k" * 32], is_explicit=True), segment_bytes=300_000)
    base = int(sys.argv[2])

    def work(thread):
        for number in range(1_000_000):
            n = base + 4 * number + thread
            payload = b'{"turn": {"id": "%032x", "name": "%s"}}' % (n, b"n" * random.randrange(200, 20_000))
            if writer.append(FrameKind.END, payload, is_first=True):
                os.write(1, b"%d\\n" % n)

    for thread in range(2):
        threading.Thread(target=work, args=(thread,)).start()
    """
)


def run_and_kill(root: Path, base: int, environ: dict[str, str], after: float | None) -> set[int]:
    """Turns that were acknowledged before the process was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(base)], stdout=subprocess.PIPE, env={**os.environ, **environ}
    )
    assert process.stdout is not None
    if after is not None:
        first = process.stdout.readline()
        threading.Timer(after, process.kill).start()
    else:
        first = b""
    text = first + process.stdout.read()
    assert process.wait(60) == -signal.SIGKILL
    process.stdout.close()
    lines = text.split(b"\n")[:-1]
    return {int(line) for line in lines}


@pytest.mark.parametrize("run", range(4 if os.environ.get("TURNTRACE_TEST_LONG") is None else 40))
def test_a_killed_process_loses_no_turn_it_acknowledged(run: int, root: Path, new_reader: NewReader) -> None:
    acknowledged = run_and_kill(root, 0, {}, after=random.Random(run).uniform(0.01, 0.3))
    reader = new_reader()
    reader.dead()
    numbers = [number_of(frame) for frame in read_all(reader)]
    assert acknowledged
    assert acknowledged <= set(numbers)
    assert len(numbers) == len(set(numbers))
    assert set(reader.skipped) <= {"torn"}
    (process_id,) = reader.dead()
    counts = reader.counts()[0]
    assert (counts.accepted, counts.dropped) == (len(numbers), {})
    assert process_id == counts.process_id


@pytest.mark.parametrize(
    "point", ["spool.before_open@3", "spool.before_write@50", "spool.after_write@50", "spool.before_seal@2"]
)
def test_a_process_killed_at_any_step_leaves_an_exact_balance(point: str, root: Path, new_reader: NewReader) -> None:
    name, _, visit = point.partition("@")
    acknowledged = run_and_kill(root, 0, {"TURNTRACE_FAIL_POINTS": f"{name}=kill@{visit}"}, after=None)
    reader = new_reader()
    numbers = {number_of(frame) for frame in bury_dead_but_count(reader)}
    assert acknowledged <= numbers
    assert len(numbers - acknowledged) <= 2  # written, and killed before anybody was told


def bury_dead_but_count(reader: SpoolReader) -> list:
    reader.dead()
    frames = read_all(reader)
    assert len(reader.dead()) == 1
    counts = reader.counts()[0]
    assert (counts.accepted, counts.dropped) == (len(frames), {})
    marks = {frame.segment: frame.sequence for frame in frames}
    reader.commit(marks)
    reader.release(frozenset())
    # The estate is settled in the files: who comes later, to an empty directory, finds the same.
    assert reader.counts()[0].accepted == len(frames)
    for process_id in reader.dead():
        reader.forget(process_id)
    assert reader.counts() == []
    return frames


def test_a_reader_that_is_killed_before_it_removes_anything_costs_nothing(
    root: Path, new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer = new_writer(segment_bytes=3000)
    for number in range(6):
        writer.append(END, turn(number, size=1000), is_first=True)
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from spooled import store_all
        from turntrace.keyring import KeyRing
        from turntrace.spool.reader import SpoolReader
        store_all(SpoolReader(Path(sys.argv[1]), KeyRing([b"k" * 32], is_explicit=True), mark=lambda segment: 0))
        """
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(root), str(Path(__file__).parent)],
        env={**os.environ, "TURNTRACE_FAIL_POINTS": "spool.before_release=kill"},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(read_all(new_reader())) == 6


def test_more_killed_processes_than_files_may_be_open_are_all_worked_off(root: Path, new_reader: NewReader) -> None:
    writers = []

    def die(first: int) -> bool:
        for n in range(first, first + 100):
            writers.append(SpoolWriter(root, KEYS))
            writers[-1].append(END, turn(n), is_first=True)
        return True

    def work_off() -> bool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        reader, found = new_reader(), []
        for _ in range(20):
            found += [number_of(frame) for frame in bury_dead(reader)]
        return sorted(found) == list(range(400)) and not [name for name in os.listdir(root) if name.startswith("p-")]

    for first in range(0, 400, 100):
        assert in_child(lambda first=first: die(first)) == 0
    assert in_child(work_off) == 0


def test_the_lock_of_a_process_that_still_runs_is_never_taken(root: Path, new_reader: NewReader) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(root), "0"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    reader = new_reader()
    try:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            assert reader.dead() == []
            store_all(reader)
            process.stdout.read1(1 << 16)
    finally:
        process.kill()
        process.stdout.close()
        process.wait(60)
    bury_dead(reader)
    assert bury_dead(reader) == []
    assert reader.counts() == []
