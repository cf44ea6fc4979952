"""What a capturing process says of itself, read from outside."""

from pathlib import Path

from turntrace import Turntrace
from turntrace.tracing.guard import FAULTS_TO_OPEN
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
