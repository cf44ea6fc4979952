"""Turns in progress: found by an index that knows nothing of the others, in order, and gone when they end."""

from sqlalchemy import select, text

from tests.integration.storage import stored as s
from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.database import Database
from turntrace.storage.queries.condition import on_traces
from turntrace.storage.queries.running import list_running


def _store(database: Database) -> None:
    s.write(database, *(s.end(s.trace(number)) for number in range(1, 30)))
    running = [s.trace(number, outcome="in_progress", duration_us=None) for number in (40, 42, 41)]
    s.write(database, *(s.start(item) for item in running))


def _ids(database: Database, limit: int = 50) -> list[str]:
    with database.read() as connection:
        return [item.id for item in list_running(connection, limit=limit)]


def test_turns_in_progress_come_latest_first_and_go_when_they_end(database: Database) -> None:
    _store(database)
    assert _ids(database) == [s.turn_id(42), s.turn_id(41), s.turn_id(40)]
    assert _ids(database, limit=1) == [s.turn_id(42)]
    s.write(database, s.end(s.trace(42)), s.end(s.trace(40, outcome="interrupted")))
    assert _ids(database) == [s.turn_id(41)]


def test_the_few_that_are_not_complete_are_found_by_their_index(database: Database) -> None:
    _store(database)
    with database.read() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # so few rows are read faster than an index
        for outcome in ("in_progress", "interrupted"):
            conditions = on_traces(TraceFilter(status=outcome))
            statement = select(tables.trace.c.id).where(*conditions).order_by(tables.trace.c.started_at_us.desc())
            query = statement.compile(connection, compile_kwargs={"literal_binds": True})
            explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
            plan = " ".join(str(row) for row in connection.execute(text(f"{explain} {query}")))
            assert "ix_turntrace_trace_outcome" in plan, plan
