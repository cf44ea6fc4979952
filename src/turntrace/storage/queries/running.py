"""Turns that are going on: what is known of them until now."""

from sqlalchemy import Connection, literal_column, select

from turntrace.records.trace import Trace
from turntrace.storage import tables
from turntrace.storage.queries.row import to_trace

_t = tables.trace.c


def list_running(c: Connection, *, limit: int = 50) -> tuple[Trace, ...]:
    """Turns in progress, the latest begun first; previews instead of content, no observations."""
    # Said a second time as the index says it: SQLite and PostgreSQL recognise it only as a constant.
    is_indexed = _t.outcome != literal_column("'complete'")
    statement = select(tables.trace).where(_t.outcome == "in_progress", is_indexed)
    rows = c.execute(statement.order_by(_t.started_at_us.desc(), _t.id.desc()).limit(limit)).mappings()
    return tuple(to_trace(row) for row in rows)
