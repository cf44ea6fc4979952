"""A worker that ends anywhere and another that takes over: nothing is lost, nothing is doubled."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.worker import frames as f
from tests.integration.worker.conftest import NewWorker, NewWriter, work
from tests.integration.worker.truth import balance, outcomes, reasons, total, truth
from turntrace import failpoint
from turntrace.assembly import stored_mark
from turntrace.keyring import KeyRing
from turntrace.pipeline import Pipeline
from turntrace.records.batch import Batch
from turntrace.records.fragment import FrameKind
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.spool.memory import MemorySpool
from turntrace.spool.reader import SpoolReader
from turntrace.storage.database import Database
from turntrace.worker.delivery import Delivery
from turntrace.worker.loop import Worker

TURNS = 30


@pytest.fixture(autouse=True)
def no_fail_points() -> Iterator[None]:
    yield
    failpoint.activate("")


def test_a_new_worker_over_a_stored_spool_changes_nothing(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    f.write_turns(writer, range(TURNS))
    work(new_worker(batch_turns=7))
    before = truth(database)
    for _ in range(2):
        work(new_worker(batch_turns=4))
    assert truth(database) == before
    assert balance(database, root) == Loss(accepted=TURNS, stored=TURNS)


def test_a_worker_in_the_middle_of_a_spool_is_continued(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    f.write_turns(writer, range(TURNS))
    f.start(writer, 100, f.call(100))
    failpoint.activate("worker.after_write=raise@3")
    with pytest.raises(failpoint.FailPointReached):
        work(new_worker(batch_turns=4))
    failpoint.activate("")
    assert 0 < len(outcomes(database)) < TURNS
    work(new_worker(batch_turns=9))
    f.delta(writer, 100, f.call(100, 2))
    f.end(writer, 100, f.call(100), f.call(100, 2), is_first=False)
    work(new_worker())
    assert balance(database, root) == Loss(accepted=TURNS + 1, stored=TURNS + 1)
    shapes = [n % 6 for n in range(TURNS)]
    assert total(database, "calls") == TURNS + shapes.count(1) + shapes.count(2) + 2


def test_turns_whose_files_went_before_a_new_worker_could_read_them_are_counted(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    now = [0.0]
    writer = new_writer(clock=lambda: now[0])
    f.write_turns(writer, range(5))
    work(new_worker())
    f.write_turns(writer, range(5, 12))
    shutil.rmtree(root)
    now[0] += 1  # by then the writer looks whether its file is still there
    f.write_turns(writer, range(12, 20))
    work(new_worker())
    assert balance(database, root) == Loss(accepted=20, stored=13, dropped={"corrupt": 7})


def test_two_workers_over_one_spool_that_was_deleted_count_what_each_of_them_has(
    database: Database, root: Path, keys: KeyRing, new_writer: NewWriter
) -> None:
    """The first has read and not stored yet what the second finds missing."""
    now = [0.0]
    writer = new_writer(clock=lambda: now[0])
    with closing(SpoolReader(root, keys, mark=stored_mark(database))) as former:
        f.write_turns(writer, range(5))
        first = Worker(former, database, Pipeline(Settings(redaction="off")))
        batch = held_back(first)
        f.write_turns(writer, range(5, 8))
        shutil.rmtree(root)
        now[0] += 1
        f.write_turns(writer, range(8, 10))
        with closing(SpoolReader(root, keys, mark=stored_mark(database))) as latter:
            work(Worker(latter, database, Pipeline(Settings(redaction="off"))))
            assert reasons(database) == {"stored": 2, "dropped:corrupt": 8}
            batch()
            assert reasons(database) == {"stored": 7, "dropped:corrupt": 3}
        work(first)
    assert reasons(database) == {"stored": 7, "dropped:corrupt": 3}
    assert total(database, "turns") == 7


def held_back(worker: Worker) -> Callable[[], None]:
    """What the worker would store next, to be stored later."""
    held: list[Batch] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Delivery, "deliver", lambda self, batch, stop: held.append(batch))
        worker.step()

    def store() -> None:
        for batch in held:
            worker._delivery.deliver(batch, None)

    return store


@pytest.mark.parametrize("point", ["storage.before_commit", "worker.before_write", "worker.after_write"])
def test_the_same_worker_goes_on_after_a_fault(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker, point: str
) -> None:
    """The loop reads again what was not committed; turns that are open meanwhile are not lost from memory."""
    writer = new_writer()
    f.start(writer, 100, f.call(100))
    worker = new_worker(batch_turns=4)
    worker.step()
    f.write_turns(writer, range(TURNS))
    f.end(writer, 100, f.call(100), is_first=False)
    stop = _Ending(steps=30)
    failpoint.activate(f"{point}=raise@2")
    worker.run(stop)  # type: ignore[arg-type]
    assert balance(database, root) == Loss(accepted=TURNS + 1, stored=TURNS + 1)
    assert total(database, "turns") == TURNS + 1


def test_a_spool_in_memory_keeps_its_open_turns_over_a_fault(database: Database) -> None:
    """It delivers again only what was not committed: the beginning of the turn was."""
    spool = MemorySpool()
    worker = Worker(spool, database, Pipeline(Settings(redaction="off")))
    assert spool.append(FrameKind.START, f.payload(f.running(1), f.call(1)), is_first=True)
    worker.step()
    assert spool.append(FrameKind.DELTA, f.payload(f.running(1), f.call(1, 2)), is_first=False)
    assert spool.append(FrameKind.END, f.payload(f.header(1), f.call(1), f.call(1, 2)), is_first=False)
    failpoint.activate("storage.before_commit=raise")
    worker.run(_Ending(steps=3))  # type: ignore[arg-type]
    failpoint.activate("")
    work(worker)
    assert outcomes(database) == {1: "complete"}
    assert reasons(database) == {"stored": 1}
    assert total(database, "calls") == 2


class _Ending:
    """A stop event that is set after some waits, none of which takes time."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def is_set(self) -> bool:
        return self._left <= 0

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        return self.is_set()


WRITER = """
import sys, time
from pathlib import Path
from tests.integration.worker import frames as f
from turntrace.keyring import KeyRing
from turntrace.spool.writer import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), KeyRing([b"k" * 32], is_explicit=True))
f.end(writer, 1)
f.start(writer, 2, f.call(2))
f.delta(writer, 2, f.call(2, 2, duration_us=None), received="half an ans")
f.start(writer, 3)
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture
def killed_writer(root: Path) -> None:
    """A process that was killed with two turns open."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", WRITER, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("killed_writer")
def test_turns_that_a_killed_process_left_open_end_as_interrupted(
    database: Database, root: Path, new_worker: NewWorker
) -> None:
    work(new_worker())
    assert outcomes(database) == {1: "complete", 2: "interrupted", 3: "interrupted"}
    assert balance(database, root) == Loss(accepted=3, stored=3)
    assert (total(database, "turns"), total(database, "calls")) == (3, 3)
    assert list(root.glob("p-*")) == []


@pytest.mark.usefixtures("killed_writer")
@pytest.mark.parametrize("point", ["worker.before_write", "worker.after_write", "worker.before_forget"])
def test_a_fault_while_a_dead_process_is_buried_doubles_nothing(
    database: Database, root: Path, new_worker: NewWorker, point: str
) -> None:
    failpoint.activate(f"{point}=raise@{1 if point == 'worker.before_forget' else 2}")
    with pytest.raises(failpoint.FailPointReached):
        work(new_worker())
    failpoint.activate("")
    work(new_worker())
    assert outcomes(database) == {1: "complete", 2: "interrupted", 3: "interrupted"}
    assert balance(database, root) == Loss(accepted=3, stored=3)
    assert total(database, "turns") == 3


def test_a_long_turn_survives_rotation_and_a_restart(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    """Its beginning is written again into each new segment, so that the old ones can go."""
    is_open = [True]
    cumulative = f.payload(f.running(1), f.call(1))
    writer = new_writer(open_turns=lambda: [cumulative] if is_open[0] else [], segment_bytes=64 << 10)
    worker = new_worker()
    f.start(writer, 1, f.call(1))
    for n in range(2, 60):
        f.end(writer, n, f.call(n), metadata={"filler": "x" * 8000})
        if n % 20 == 0:
            work(worker)
            worker = new_worker()
    work(worker)
    assert len(list(root.glob("p-*/*.seg"))) == 1
    worker = new_worker()
    is_open[0] = False
    f.end(writer, 1, f.call(1), f.call(1, 2), is_first=False)
    work(worker)
    assert balance(database, root) == Loss(accepted=59, stored=59)
    assert outcomes(database) == dict.fromkeys(range(1, 60), "complete")
