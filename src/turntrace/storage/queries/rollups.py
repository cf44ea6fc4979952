"""Sums over the roll-ups. A key may have several rows, compacted or not: every read here sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    String,
    Table,
    and_,
    case,
    false,
    func,
    literal_column,
    or_,
    select,
)

from turntrace.storage import tables
from turntrace.storage.tables.rollup import WHOLE

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
MINUTE_US: Final = 60_000_000

_r = tables.rollup.c
_PLAIN: Final = (
    "turns",
    "calls",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_input_nano",
    "cost_output_nano",
    "cost_total_nano",
    "own_us",
)
_TURN: Final = _r.model == ""
# Said as its index says it, which holds no other rows.
IS_WHOLE: Final[ColumnElement[bool]] = _r.grain == literal_column(f"'{WHOLE}'", String())
# To group by: SQLite would read the index by value through all time, rather than sort the rows of a period.
VALUE: Final[ColumnElement[str]] = func.coalesce(_r.value, literal_column("''", String()))


def sums(*, of_calls: bool = False) -> list[ColumnElement[Any]]:
    """Columns of sums by the names of the roll-up; `errors` counts failed turns, or failed calls; `turn_us` is
    the time that turns took."""
    errors = _r.errors if of_calls else case((_TURN, _r.errors), else_=0)
    turn_us = func.sum(case((_TURN, _r.duration_us), else_=0)).label("turn_us")
    return [*(func.sum(_r[name]).label(name) for name in _PLAIN), turn_us, func.sum(errors).label("errors")]


def floored(at: ColumnElement[int], width_us: int, dialect: str) -> ColumnElement[int]:
    """The start of the bucket of `width_us` that a time lies in.

    By the modulus: what `/` does with integers differs between databases. Times before 1970 do not occur.
    """
    # a literal: PostgreSQL takes two bound parameters of GROUP BY and SELECT for different expressions
    width: ColumnElement[int] = literal_column(str(width_us), BigInteger())
    return at - at.op("%")(width) if dialect == "sqlite" else at - func.mod(at, width)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one grain whose buckets start in a period; None is open. `is_delta` takes what is not compacted yet."""

    grain: str
    from_us: int | None
    to_us: int | None
    is_delta: bool = False


def parts(grain: str, from_us: int | None, to_us: int | None) -> list[Part]:
    """What to sum for a period, widened to whole buckets of `grain`: `day` only where no hours are kept."""
    width = {"minute": MINUTE_US, "hour": HOUR_US, "day": DAY_US}[grain]
    return [Part(grain, _down(from_us, width), to_us)]


def wide_parts(from_us: int | None, to_us: int | None) -> list[Part]:
    """What to sum for a period, widened to whole hours: whole days by their rows, only its edges by the hour."""
    start, end = _down(from_us, HOUR_US), _up(to_us, HOUR_US)
    first, last = _up(start, DAY_US), _down(end, DAY_US)
    if first is not None and last is not None and first >= last:
        return [Part("hour", start, end)]
    # Days are written by the compactor alone: hours that it has yet to merge are not in them.
    found = [Part("day", first, last), Part("hour", first, last, is_delta=True)]
    if first != start:
        found.append(Part("hour", start, first))
    if last != end:
        found.append(Part("hour", last, end))
    return found


def whole_parts(from_us: int | None, to_us: int | None) -> list[Part]:
    """What to sum of users or sessions for a period, widened to whole days, where no model is asked for."""
    first = _down(from_us, DAY_US)
    # Whole days are written by the compactor alone: what it has yet to merge is not in them.
    return [Part(WHOLE, first, to_us), Part("day", first, to_us, is_delta=True)]


def _down(at_us: int | None, width_us: int) -> int | None:
    return None if at_us is None else at_us - at_us % width_us


def _up(at_us: int | None, width_us: int) -> int | None:
    return None if at_us is None else at_us + -at_us % width_us


def of_base(parts: Sequence[Part], *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Rows of the base roll-up."""
    return covered(tables.rollup, [_r.dimension == "", *where], parts)


def covered(
    table: Table, head: Sequence[ColumnElement[bool]], parts: Sequence[Part], *, by_value: bool = False
) -> ColumnElement[bool]:
    """Rows of all parts.

    Args:
        head: what holds of all rows. It is repeated in each alternative, which an index can answer then.
        by_value: `head` names one value of a dimension: the index by value is to be used, the one by time is not.
    """
    return or_(*(and_(*head, *_of_part(table, part, by_value)) for part in parts))


def _of_part(table: Table, part: Part, by_value: bool) -> list[ColumnElement[bool]]:
    # Of a few values: hidden from the index by time, which SQLite would take for several of them.
    grain = func.coalesce(table.c.grain, literal_column("''", String())) if by_value else table.c.grain
    is_whole = part.grain == WHOLE and not by_value
    found: list[ColumnElement[bool]] = [IS_WHOLE if is_whole else grain == part.grain]
    if part.is_delta:
        found.append(table.c.is_compacted == false())
    elif not by_value and not is_whole:
        # True of every row: lets the index reach the time behind it.
        found.append(table.c.is_compacted.in_((True, False)))
    if part.from_us is not None:
        found.append(table.c.at_us >= part.from_us)
    if part.to_us is not None:
        found.append(table.c.at_us < part.to_us)
    return found


def go_alone(c: Connection) -> None:
    """For the rest of this transaction: PostgreSQL takes days for many more rows than they are, and would start workers
    of its own, which takes ten times as long as reading them."""
    if c.dialect.name == "postgresql":
        c.exec_driver_sql("SELECT set_config('max_parallel_workers_per_gather', '0', true)")


def grouped(columns: Sequence[ColumnElement[Any]], sums: Sequence[Any], where: ColumnElement[bool]) -> Select[Any]:
    """SELECT columns, sums … WHERE … GROUP BY columns."""
    return select(*columns, *sums).where(where).group_by(*columns)


def cost(row: Mapping[Any, Any]) -> int | None:
    """Nano-dollars of summed rows; None when calls had usage and none of them a price."""
    total = int(row["cost_total_nano"] or 0)
    return None if total == 0 and int(row["unpriced"] or 0) > 0 else total
