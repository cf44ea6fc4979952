"""Costs by a column of the host's own: turns' users, tenants or other tags are looked up in a table of its database."""

from typing import Any, Final

from sqlalchemy import Connection, String, cast, column, func, literal, select, table
from sqlalchemy.exc import DBAPIError

from turntrace.errors import InvalidInput
from turntrace.records.dimension import Dimension
from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.queries import rollups
from turntrace.storage.queries.condition import fits
from turntrace.storage.queries.costs import CostRow
from turntrace.storage.tables import length

_COUNTS: Final = (
    *("calls", "errors", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    "reasoning_tokens",
)
_COSTS: Final = ("cost_input_nano", "cost_output_nano", "cost_total_nano")
_SUMMED: Final = ("turns", *_COUNTS, *_COSTS)
_r = tables.rollup.c


def costs_by(c: Connection, dimension: Dimension, filter: TraceFilter) -> list[CostRow]:
    """Spending by the host's column, the costliest first; "" holds what the host's table does not know.

    Args:
        filter: its times (widened to whole days for users, hours for tags) and environment.

    Raises:
        InvalidInput: the database has no such table or column, or they cannot be read.
    """
    try:
        found = c.execute(_statement(dimension, filter)).mappings().all()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        what = f"{dimension.name}: the table {dimension.table!r} cannot be read as the setting dimensions says"
        raise InvalidInput(what, field="group_by") from error
    rows = [_row(dimension.name, row) for row in found]
    return sorted(rows, key=lambda row: (-(row.cost_total_nano or 0), row.keys[dimension.name]))


def _statement(dimension: Dimension, filter: TraceFilter) -> Any:
    spent, known = _spent(dimension, filter), _known(dimension)
    sums = [func.sum(spent.c[name]).label(name) for name in _SUMMED]
    joined = spent.outerjoin(known, known.c.looked_up == spent.c.value)
    return select(known.c.shown.label("value"), *sums).select_from(joined).group_by(known.c.shown)


def _spent(dimension: Dimension, filter: TraceFilter) -> Any:
    """Sums by user, or by tag."""
    if dimension.by == "user":
        head, parts = [_r.dimension == "user"], rollups.parts("day", filter.from_us, filter.to_us)
    else:
        prefix = f"{dimension.by.removeprefix('tag:')}:"
        head = [_r.dimension == "tag", _r.value.startswith(prefix, autoescape=True)]
        parts = rollups.wide_parts(filter.from_us, filter.to_us)
    if filter.environment is not None:
        head.append(fits(_r.environment, filter.environment))
    where = rollups.covered(tables.rollup, head, parts)
    return select(_r.value.label("value"), *rollups.sums()).where(where).group_by(_r.value).subquery("spent")


def _known(dimension: Dimension) -> Any:
    """The host's values by what turns name them; one a key, whatever the table has."""
    host = table(dimension.table, column(dimension.key), column(dimension.shown), schema=dimension.schema)
    key = cast(host.c[dimension.key], String(length.USER_ID))
    prefix = "" if dimension.by == "user" else f"{dimension.by.removeprefix('tag:')}:"
    looked_up = (literal(prefix) + key) if prefix else key
    keyed = select(
        looked_up.label("looked_up"), cast(host.c[dimension.shown], String(length.NAME)).label("shown")
    ).subquery("keyed")
    one = select(keyed.c.looked_up, func.min(keyed.c.shown).label("shown")).group_by(keyed.c.looked_up)
    return one.subquery("known")


def _row(name: str, row: Any) -> CostRow:
    total = rollups.cost(row)
    amounts: dict[str, Any] = {cost: None if total is None else int(row[cost] or 0) for cost in _COSTS}
    turns = int(row["turns"] or 0)
    counts = {count: int(row[count] or 0) for count in _COUNTS}
    return CostRow(keys={name: row["value"] or ""}, requests=turns, turns=turns, **counts, **amounts)
