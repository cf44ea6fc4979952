"""`tt.flush` waits for what no count of turns knows: spans over OTLP, late frames, scores."""

from pathlib import Path

import orjson
import pytest

from turntrace import Turntrace
from turntrace.api.otlp.frames import TurnIdentity
from turntrace.assembly import build_worker, stored_mark
from turntrace.records.fragment import FrameKind
from turntrace.spool.memory import MemorySpool
from turntrace.spool.reader import SpoolReader
from turntrace.storage import migrate
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import find_traces
from turntrace.tracing.recorder import emit
from turntrace.worker.loop import Worker
from turntrace.worker.status import write_status

TRACE_ID = "7" * 32


def received() -> bytes:
    ids = TurnIdentity.of("key", TRACE_ID)
    turn = {"id": ids.turn_id, "trace_id": TRACE_ID, "span_id": ids.span_id, "source": "otlp"}
    span = {"span_id": "1" * 16, "name": "step", "scope": "x", "started_at_us": 1_790_000_000_000_000, "duration_us": 5}
    return orjson.dumps({"turn": turn, "spans": [span]})


@pytest.mark.parametrize("kind", [FrameKind.OTLP, FrameKind.SCORE])
def test_frames_that_are_no_turn_of_ours_are_waited_for(kind: FrameKind, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'turntrace.db'}"
    tt = Turntrace(url, spool_dir=str(tmp_path / "spool"), worker="external", secret_key="k" * 32, redaction="off")
    database = Database(url)
    migrate.upgrade(database)
    tt.start()
    assert tt.recorder.location is not None
    root, keys = tt.recorder.location.path, tt.recorder.keys
    assert root is not None
    assert keys is not None
    reader = SpoolReader(root, keys, mark=stored_mark(database))
    worker: Worker = build_worker(tt.settings, reader, keys, database, lambda status: write_status(root, status))
    assert tt.flush(0)
    if kind is FrameKind.OTLP:
        emit(tt.recorder, kind, received(), is_first=False)
    else:
        tt.score("thumbs", True, trace_id=TRACE_ID)
    assert not tt.flush(0)
    worker.step()
    worker.step()
    assert tt.flush(0)
    if kind is FrameKind.OTLP:
        with database.read() as connection:
            assert len(find_traces(connection, TRACE_ID)) == 1
    reader.close()
    database.close()
    tt.shutdown()


def test_a_spool_in_memory_is_drained_when_its_frames_are_committed() -> None:
    spool = MemorySpool()
    assert spool.is_empty()
    spool.append(FrameKind.OTLP, received(), is_first=False)
    assert not spool.is_empty()
    frames = spool.poll(10, 1 << 20)
    assert (spool.unread(), spool.is_empty()) == (0, False)
    spool.commit({frames[0].segment: frames[0].sequence})
    assert spool.is_empty()
