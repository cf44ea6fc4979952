"""What a capturing process says of itself, read from outside."""

import os
import time
from pathlib import Path

import pytest

from turntrace import Turntrace
from turntrace.spool.directory import WorkerLock
from turntrace.tracing.guard import FAULTS_TO_OPEN
from turntrace.worker.status import Status, write_status
from turntrace.worker.vitals import Vitals, read_vitals


def test_overhead_cpu_time_and_a_pause_are_told_while_the_process_lives(tmp_path: Path) -> None:
    tt = Turntrace(
        f"sqlite:///{tmp_path / 't.db'}", spool_dir=str(tmp_path / "spool"), worker="external", secret_key="k" * 32
    )
    try:
        for _ in range(3):
            with tt.turn("job"):
                pass
            tt.recorder.note_turn(40_000)
        assert tt.recorder.location is not None
        root = tt.recorder.location.path
        assert root is not None
        found = read_vitals(root)
        assert (found.processes, found.turns, found.overhead_us, found.in_memory) == (1, 3, 120, 0)
        assert found.cpu_us > 0
        assert found.bytes_written > 0
        assert found.paused_until_us == 0
        for _ in range(FAULTS_TO_OPEN):
            tt.recorder.guard.fault("test", ValueError())
        assert read_vitals(root).paused_until_us > 0
        assert not tt.recorder.guard.is_recording()
    finally:
        tt.shutdown()
    assert read_vitals(tmp_path / "nowhere") == Vitals()


@pytest.mark.parametrize("pid", [os.getpid(), (1 << 22) + 1], ids=["since another's", "of another container"])
@pytest.mark.parametrize("is_working", [True, False])
def test_a_worker_is_alive_while_it_holds_its_lock_whoever_has_its_pid(
    pid: int, is_working: bool, tmp_path: Path
) -> None:
    tt = Turntrace(
        f"sqlite:///{tmp_path / 't.db'}", spool_dir=str(tmp_path / "spool"), worker="external", secret_key="k" * 32
    )
    tt.start()
    assert tt.recorder.location is not None
    root = tt.recorder.location.path
    assert root is not None
    lock = WorkerLock(root)
    try:
        assert lock.acquire()
        write_status(root, Status(at_us=time.time_ns() // 1000, pid=pid))
        if not is_working:
            lock.release()
        assert tt.web.status()["worker"]["is_alive"] is is_working
    finally:
        lock.release()
        tt.shutdown()
