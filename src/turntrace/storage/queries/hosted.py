"""Costs by a column of the host's own: turns' users, tenants or other tags are looked up in a table of its database."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Subquery,
    case,
    cast,
    column,
    func,
    literal,
    select,
    table,
)
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
_r, _t = tables.rollup.c, tables.trace.c


def costs_by(c: Connection, dimension: Dimension, filter: TraceFilter) -> list[CostRow]:
    """Spending by the host's column, the costliest first; "" holds what the host's table does not know.

    Args:
        filter: its times (widened to whole days for users, hours for tags) and environment.

    Raises:
        InvalidInput: the database has no such table or column, or they cannot be read.
    """
    rows = [_row(dimension.name, row._mapping) for row in read(c, _statement(dimension, filter), dimension)]
    return sorted(rows, key=lambda row: (-(row.cost_total_nano or 0), row.keys[dimension.name]))


def read(c: Connection, statement: Select[Any], dimension: Dimension) -> Sequence[Row[Any]]:
    """The rows of a statement that looks into the host's table.

    Raises:
        InvalidInput: the database has no such table or column, or they cannot be read.
    """
    try:
        return c.execute(statement).all()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        what = f"{dimension.name}: the table {dimension.table!r} cannot be read as the setting dimensions says"
        raise InvalidInput(what, field="group_by") from error


def value_of(dimension: Dimension) -> ColumnElement[str]:
    """The host's value of a turn, in a statement that went through `join_turns`."""
    return _values_of(dimension).c.shown


def join_turns(statement: Select[Any], dimension: Dimension, dialect: str) -> Select[Any]:
    """A statement over turns, joined with what the host knows of their users or tags."""
    known = _values_of(dimension)
    named = _t.user_id if dimension.by == "user" else _tag_of(dimension, dialect)
    return statement.join(known, known.c.looked_up == named, isouter=True)


def _tag_of(dimension: Dimension, dialect: str) -> ColumnElement[Any]:
    """The turn's first tag of the key, cut out of the JSON array of texts: a value that a join can look up, where a
    search in the array would compare every turn with every row of the host's."""
    place = func.strpos if dialect == "postgresql" else func.instr
    start = place(_t.tags, literal(f'"{_prefix(dimension)}'))
    rest = func.substr(_t.tags, start + 1)
    return case((start > 0, func.substr(rest, 1, place(rest, literal('"')) - 1)))


@cache
def _values_of(dimension: Dimension) -> Subquery:
    """The same object each time: a statement selects from it and joins it."""
    return _known(dimension)


def _statement(dimension: Dimension, filter: TraceFilter) -> Any:
    spent, known = _spent(dimension, filter), _known(dimension)
    sums = [func.sum(spent.c[name]).label(name) for name in _SUMMED]
    joined = spent.outerjoin(known, known.c.looked_up == spent.c.value)
    return select(known.c.shown.label("value"), *sums).select_from(joined).group_by(known.c.shown)


def _spent(dimension: Dimension, filter: TraceFilter) -> Any:
    """Sums by user, or by tag."""
    if dimension.by == "user":
        head, parts = [_r.dimension == "user"], rollups.whole_parts(filter.from_us, filter.to_us)
    else:
        head = [_r.dimension == "tag", _r.value.startswith(_prefix(dimension), autoescape=True)]
        parts = rollups.wide_parts(filter.from_us, filter.to_us)
    if filter.environment is not None:
        head.append(fits(_r.environment, filter.environment))
    where = rollups.covered(tables.rollup, head, parts)
    return select(_r.value.label("value"), *rollups.sums()).where(where).group_by(_r.value).subquery("spent")


def _prefix(dimension: Dimension) -> str:
    """What stands before the host's key in a tag; "" of users."""
    return "" if dimension.by == "user" else f"{dimension.by.removeprefix('tag:')}:"


def _known(dimension: Dimension) -> Subquery:
    """The host's values by what turns name them; one a key, whatever the table has."""
    host = table(dimension.table, column(dimension.key), column(dimension.shown), schema=dimension.schema)
    key = cast(host.c[dimension.key], String(length.USER_ID))
    prefix = _prefix(dimension)
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
