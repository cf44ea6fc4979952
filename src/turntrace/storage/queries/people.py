"""Days of users or sessions, whatever the model: what they cost, as an index alone can answer."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Subquery, false, select, union_all

from turntrace.records.filter import Except
from turntrace.storage import tables
from turntrace.storage.queries import rollups
from turntrace.storage.queries.condition import fits

_r = tables.rollup.c
_ANSWERED: Final = (_r.at_us, _r.value, _r.cost_total_nano, _r.turns, _r.calls)


def days(dimension: str, environment: "str | Except | None", from_us: int | None, to_us: int | None) -> Subquery:
    """Rows of `at_us`, `value`, `cost_total_nano`, `turns` and `calls` of a period, widened to whole days; a value has
    one or several of a day.

    Two selects, not one with alternatives: those would be looked up row by row.
    """
    head = [_r.dimension == dimension]
    if environment is not None:
        head.append(fits(_r.environment, environment))
    whole, delta = rollups.whole_parts(from_us, to_us)
    is_delta = (_r.grain == delta.grain, _r.is_compacted == false())
    return union_all(_days(whole, *head, rollups.IS_WHOLE), _days(delta, *head, *is_delta)).subquery("days")


def _days(part: rollups.Part, *where: ColumnElement[bool]) -> Select[Any]:
    found = select(*_ANSWERED).where(*where)
    if part.from_us is not None:
        found = found.where(_r.at_us >= part.from_us)
    return found if part.to_us is None else found.where(_r.at_us < part.to_us)
