"""What the rows of a stored turn say of it is what the pipeline said before it was stored."""

import json
from collections import Counter

import pytest
import stored as s

from tests.integration.worker import frames as f
from tests.unit.pipeline.otlp_fixture import NAMES, load
from turntrace.pipeline import Pipeline, Pricer, decode
from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import Fragment, FrameKind, TurnHeader
from turntrace.settings import Settings
from turntrace.storage import batches, restate
from turntrace.storage.database import Database

DECLARED = frozenset({"tenant"})


def work(fragments: list[Fragment]) -> list[Worked]:
    return Pipeline(Settings(redaction="off", rollup_tags=sorted(DECLARED)), pricer=Pricer()).work(fragments)


def assert_rows_say_the_same(database: Database, worked: list[Worked]) -> None:
    batches.write_batch(database, Batch(worked=tuple(worked)), now_us=s.NOW)
    rows = s.rows(database, "observation")
    turns = {row["id"]: row for row in s.rows(database, "trace")}
    assert [item for item in worked if item.facts] == worked
    for item in worked:
        own = [row for row in rows if row["turn_id"] == item.trace.id]
        assert Counter(restate.facts_of(turns[item.trace.id], own, DECLARED)) == Counter(item.facts)


def test_turns_of_real_libraries(database: Database) -> None:
    fragments = []
    for name in NAMES:
        spans = load(name).spans
        for trace_id in sorted({span.trace_id or "" for span in spans}):
            header = TurnHeader(
                id=trace_id, trace_id=trace_id, span_id="f" * 16, source="otlp", tags=("tenant:acme", "beta")
            )
            members = tuple(span for span in spans if span.trace_id == trace_id)
            fragments.append(Fragment(kind=FrameKind.OTLP, turn=header, spans=members))
    assert len(fragments) >= len(NAMES)
    assert_rows_say_the_same(database, work(fragments))


@pytest.mark.parametrize(
    "own", [{}, {"usage": None}, {"model": "no-such-model"}, {"prompt": {"name": "p", "version": 3}}]
)
def test_turns_of_our_own(database: Database, own: dict[str, object]) -> None:
    call = f.call(1)
    call["own"] = {**call["own"], **own}
    head = f.header(1, feature="support", tags=["tenant:acme"], is_streamed=True, ttft_us=1234)
    failed = f.call(1, 2, status="error")
    payload = json.dumps({"turn": head, "spans": [call, failed]}).encode()
    assert_rows_say_the_same(database, work([decode(FrameKind.END, payload)]))


LONG = "é" * 250
ODD = {
    "long route": ({"route": "/" + LONG}, {}),
    "placeholder in the route": ({"route": "/of/<EMAIL_k1f2a3b4c>"}, {}),
    "placeholder in a tag": ({"tags": ["tenant:<EMAIL_k1f2a3b4c>"]}, {}),
    "long tag": ({"tags": ["tenant:" + LONG]}, {}),
    "NUL in the route": ({"route": "/a\0b"}, {}),
    "long names": ({"feature": LONG, "release": LONG, "experiment": LONG, "user_id": LONG}, {"model": LONG}),
    "long prompt": ({}, {"prompt": {"name": LONG, "version": LONG}}),
    "prompt without a name": ({}, {"prompt": {"name": "", "version": 3}}),
    "prompt with an empty version": ({}, {"prompt": {"name": "p", "version": ""}}),
    "long tier": ({}, {"service_tier": LONG}),
    "long provider": ({}, {"provider": LONG}),
    "reranker": ({}, {"type": "reranker", "model": None, "usage": None}),
    "zero": ({"duration_us": 0}, {"usage": {"input": 0, "output": 0}}),
    "NUL in names": ({"feature": "a\0b"}, {"model": "a\0b", "prompt": {"name": "a\0b"}}),
}


@pytest.mark.parametrize(("header", "own"), ODD.values(), ids=ODD)
def test_odd_turns(database: Database, header: dict[str, object], own: dict[str, object]) -> None:
    call = f.call(1, name=LONG)
    call["own"] = {**call["own"], **own}
    payload = json.dumps({"turn": f.header(1, **header), "spans": [call]}).encode()
    assert_rows_say_the_same(database, work([decode(FrameKind.END, payload)]))
