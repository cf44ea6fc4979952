"""A window of full capture reaches the worker and ends by itself."""

import time
from contextlib import closing
from typing import Any
from uuid import uuid4

import orjson
import pytest

from turntrace import assembly
from turntrace.assembly import build_worker
from turntrace.integrations.presidio import build_analyzer
from turntrace.keyring import KeyRing, subject_names
from turntrace.records.fragment import FrameKind
from turntrace.records.window import Window
from turntrace.settings import Settings
from turntrace.spool.memory import MemorySpool
from turntrace.storage import windows
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import find_traces
from turntrace.worker.loop import Worker

RING = KeyRing([b"w" * 32], is_explicit=True)
MINUTE_US = 60_000_000


def _told(spool: MemorySpool, started_at_us: int, **fields: Any) -> str:
    turn_id = uuid4().hex
    header = {"id": turn_id, "trace_id": turn_id, "span_id": "1" * 16, "started_at_us": started_at_us, "duration_us": 5}
    payload = {"turn": {**header, "input": "write to anna@example.com", **fields}, "spans": []}
    assert spool.append(FrameKind.END, orjson.dumps(payload), is_first=True)
    return turn_id


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_window_keeps_redacted_texts_of_one_user_while_it_is_open(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "SWITCH_SECONDS", 0.0)
    now_us = time.time_ns() // 1000
    name = subject_names(RING, "user-42")[0]
    opened = Window(id="w", kind="user", value=name, mode="redacted", from_us=now_us, until_us=now_us + 10 * MINUTE_US)
    spool, settings = MemorySpool(), Settings(content="metadata", sample_rate=0.0, redaction_seconds=30)
    analyzer = build_analyzer(settings)
    assert analyzer is not None
    with closing(analyzer):
        worker = build_worker(settings, spool, RING, database, lambda status: None, analyzer=analyzer)
        _check(database, spool, worker, opened, now_us)


def _check(database: Database, spool: MemorySpool, worker: Worker, opened: Window, now_us: int) -> None:
    before = _told(spool, now_us + 1, user_id="user-42")
    while worker.step():
        pass
    database.transact(windows.open_window, opened, now_us=now_us)
    inside = _told(spool, now_us + MINUTE_US, user_id="user-42")
    other = _told(spool, now_us + MINUTE_US, user_id="user-43")
    early = _told(spool, now_us - MINUTE_US, user_id="user-42")
    late = _told(spool, now_us + 11 * MINUTE_US, user_id="user-42")
    while worker.step():
        pass
    with database.read() as c:
        found = {key: find_traces(c, key) for key in (before, inside, other, early, late)}
    (kept,) = found[inside]
    assert kept.keep_reason == "window"
    assert kept.input.startswith("write to <EMAIL_k")
    for key in (before, other, early, late):
        assert [turn.input for turn in found[key]] in ([], [None])
