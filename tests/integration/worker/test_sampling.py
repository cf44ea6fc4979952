"""Turns that sampling leaves out are held for late scores; then they go, and every sum stays."""

from typing import Any

import pytest
from sqlalchemy import func, select

from tests.integration.turns import START_US, facts_of, turn
from turntrace.jobs.sample import let_go
from turntrace.pipeline import Pipeline
from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, TurnHeader
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.settings import Settings
from turntrace.storage import scores, tables
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs
from turntrace.storage.queries.loss import balance
from turntrace.storage.sampling import Always

HOUR_US = 3_600_000_000
STORED_US = START_US + HOUR_US


def _store(database: Database, *traces: Trace, at_us: int = STORED_US) -> None:
    worked = tuple(Worked(kind=FrameKind.END, trace=trace, facts=facts_of(trace)) for trace in traces)
    write_batch(database, Batch(worked=worked), now_us=at_us)


def _held(**fields: Any) -> Trace:
    return turn(keep_reason="held", **fields)


def _score(database: Database, trace: Trace, value: Any, **fields: Any) -> None:
    kind = "boolean" if isinstance(value, bool) else "numeric"
    made = Score(id=f"s-{trace.id}", name="helpful", value=value, data_type=kind, turn_id=trace.id, **fields)
    with database.write() as connection:
        scores.upsert(connection, made, now_us=STORED_US)


def _let_go(database: Database, *, hold_hours: float, now_us: int) -> Any:
    return let_go(database, hold_hours=hold_hours, always=Always.of(Settings()), now_us=now_us)


def _reasons(database: Database) -> dict[str, str]:
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(select(tables.trace.c.id, tables.trace.c.keep_reason))}


def _count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_held_turns_go_when_their_time_is_over_and_no_sum_changes(database: Database) -> None:
    _store(database, turn(keep_reason="rate"), _held(), _held(session_id="gone"))
    with database.read() as connection:
        before = costs(connection, group_by=["user"])
    assert _let_go(database, hold_hours=24, now_us=STORED_US + 23 * HOUR_US) == {"kept": 0, "let_go": 0}
    assert _let_go(database, hold_hours=24, now_us=STORED_US + 25 * HOUR_US) == {"kept": 0, "let_go": 2}
    assert list(_reasons(database).values()) == ["rate"]
    assert (_count(database, tables.sampled), _count(database, tables.content)) == (2, 1)
    with database.read() as connection:
        assert costs(connection, group_by=["user"]) == before
        loss = balance(connection, {}, 0)
        found = connection.execute(select(tables.session.c.session_id, tables.session.c.trace_count))
        sessions = {row[0]: row[1] for row in found}
    assert (loss.stored, loss.sampled) == (1, 2)
    assert sessions == {"s-1": 1}
    assert _let_go(database, hold_hours=24, now_us=STORED_US + 26 * HOUR_US) == {"kept": 0, "let_go": 0}


@pytest.mark.parametrize(
    ("value", "source", "is_kept"),
    [
        (False, "user", True),
        (True, "user", True),
        (0.9, "human", True),
        (0.9, "evaluator", False),
        (0.2, "evaluator", True),
        (False, "evaluator", True),
    ],
)
def test_a_word_of_a_person_or_a_low_verdict_keeps_a_turn(
    database: Database, value: Any, source: str, is_kept: bool
) -> None:
    trace = _held()
    _store(database, trace)
    _score(database, trace, value, source=source)
    counts = _let_go(database, hold_hours=1, now_us=STORED_US + 2 * HOUR_US)
    assert counts == {"kept": int(is_kept), "let_go": int(not is_kept)}
    assert _reasons(database) == ({trace.id: "score"} if is_kept else {})


def test_more_than_one_batch_is_judged_and_a_late_fragment_finds_the_turn_gone(database: Database) -> None:
    traces = [_held() for _ in range(450)]
    _store(database, *traces)
    for trace in traces[::3]:
        _score(database, trace, False, source="user")
    assert _let_go(database, hold_hours=0, now_us=STORED_US + 1) == {"kept": 150, "let_go": 300}
    late = Worked(kind=FrameKind.AMEND, trace=turn(id=traces[1].id), facts=())
    write_batch(database, Batch(worked=(late,)), now_us=STORED_US + 2)
    assert traces[1].id not in _reasons(database)
    assert _count(database, tables.trace) == 150


_CALL = {"type": "generation", "model": "gpt-4o-mini", "provider": "openai"}


@pytest.mark.parametrize(
    ("header", "span", "reason"),
    [
        ({}, {"own": {"type": "tool"}, "status": "error"}, "error"),
        ({"error": {"type": "ValueError"}}, {}, "error"),
        ({"duration_us": 10_000_000}, {}, "slow"),
        ({}, {"own": {**_CALL, "cost": 0.4985}}, "costly"),
        ({}, {"own": {**_CALL, "usage": {"input": 49_880, "output": 0}}}, "tokens"),
        ({"flags": ("keep",)}, {}, "flagged"),
        ({}, {"own": {**_CALL, "cost": 0.4984}}, None),
    ],
)
def test_what_is_always_kept_is_kept_where_it_shows_late(
    database: Database, header: dict[str, Any], span: dict[str, Any], reason: str | None
) -> None:
    trace = _held()
    _store(database, trace)
    told = TurnHeader(id=trace.id, trace_id=trace.trace_id, span_id=trace.span_id, **header)
    spans = (RawSpan(span_id="7" * 16, started_at_us=START_US, duration_us=5, **span),) if span else ()
    late = Pipeline(Settings(redaction="off")).work([Fragment(kind=FrameKind.AMEND, turn=told, spans=spans)])
    write_batch(database, Batch(worked=tuple(late)), now_us=STORED_US)
    counts = _let_go(database, hold_hours=1, now_us=STORED_US + 2 * HOUR_US)
    assert _reasons(database) == ({trace.id: reason} if reason else {})
    assert counts == {"kept": int(reason is not None), "let_go": int(reason is None)}
