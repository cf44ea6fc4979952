"""Spans of a scope that the settings keep stand beside the model call: SQL in the same waterfall, and only there."""

from pathlib import Path

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import create_engine, text

from turntrace import Turntrace
from turntrace.assembly import build_worker
from turntrace.records.trace import Trace
from turntrace.spool.memory import MemorySpool
from turntrace.storage import migrate
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import find_traces
from turntrace.tracing.provider import TurnSpanProcessor

SQL = "opentelemetry.instrumentation.sqlalchemy"


def turn_with_sql(home: Path, *keep_scopes: str) -> Trace:
    """What is stored of a turn that asks a database between two steps of its own."""
    url = f"sqlite:///{home / 'turntrace.db'}"
    tt = Turntrace(
        url,
        spool_dir=str(home / "spool"),
        worker="external",
        secret_key="k" * 32,
        redaction="off",
        content="full",
        keep_scopes=keep_scopes,
    )
    database = Database(url)
    migrate.upgrade(database)
    tt.start()
    tt.recorder._spool = spool = MemorySpool()
    provider = TracerProvider()
    provider.add_span_processor(TurnSpanProcessor(tt.recorder))
    engine = create_engine("sqlite://")
    instrumentor = SQLAlchemyInstrumentor()
    # It has not heard of SQLAlchemy 2.1 yet; what it wraps is the same.
    instrumentor.instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)
    try:
        with tt.turn("ask"), tt.observation("look-up", type="tool"):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            with tt.generation("answer", model="gpt-4o-mini", provider="openai") as call:
                call.update(usage={"input_tokens": 3, "output_tokens": 1})
            trace_id = tt.current_trace_id()
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
        engine.dispose()
    assert tt.recorder.keys is not None
    worker = build_worker(tt.settings, spool, tt.recorder.keys, database, lambda status: None)
    worker.step()
    assert trace_id is not None
    with database.read() as connection:
        (found,) = find_traces(connection, trace_id)
    database.close()
    tt.shutdown()
    return found


@pytest.mark.parametrize("is_kept", [False, True])
def test_sql_stands_beside_the_model_call_where_its_scope_is_kept(is_kept: bool, tmp_path: Path) -> None:
    found = turn_with_sql(tmp_path, *([SQL] if is_kept else []))
    steps = {step.name: step for step in found.observations}
    look_up = steps["look-up"].span_id
    queries = [step for step in found.observations if step.scope == SQL]
    assert {steps["answer"].parent_span_id, *(step.parent_span_id for step in queries if step.name != "connect")} == {
        look_up
    }
    statements = [step.metadata.get("db.statement") or step.metadata.get("db.query.text") for step in queries]
    assert ("SELECT 1" in statements) is is_kept
    assert bool(queries) is is_kept
    assert found.usage is not None
    assert found.usage.input_tokens == 3
