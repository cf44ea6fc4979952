"""Filters as SQL: one function a filter, so that each list says which it honours."""

import json
import math
import re
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, literal_column, or_
from sqlalchemy.sql.expression import Select

from turntrace.errors import InvalidInput
from turntrace.records.filter import Except, TraceFilter
from turntrace.storage import tables
from turntrace.storage.queries.cursor import Position

Condition = ColumnElement[bool]

EVERYTHING: Final = TraceFilter()

OUTCOMES: Final = ("complete", "client_disconnected", "interrupted", "in_progress")
_HEX: Final = re.compile(r"[0-9a-f]{32}\Z")
_SCORE: Final = re.compile(r"(?P<name>[^<>=]+?)\s*(?:(?P<op><=|>=|=|<|>)\s*(?P<value>.+))?\Z", re.DOTALL)
_PLAIN: Final = ("session_id", "user_id", "feature", "experiment", "environment", "release", "route", "name")


def before(position: Position | None, at: ColumnElement[int], key: ColumnElement[str]) -> list[Condition]:
    """Rows after this position in a list that is sorted newest first.

    Written without row values: MariaDB finds no index range in those.
    """
    if position is None:
        return []
    at_us, last = position
    return [at <= at_us, or_(at < at_us, key < last)]


def fits(column: ColumnElement[Any], value: str) -> Condition:
    """Whether a column has this value, or, of `Except`, another one."""
    return column != str(value) if isinstance(value, Except) else column == value


def on_traces(filter: TraceFilter) -> list[Condition]:
    """Conditions on the trace table for every filter of the trace list."""
    t = tables.trace.c
    found: list[Condition] = list(_period(filter, t.started_at_us))
    found += [fits(t[name], getattr(filter, name)) for name in _PLAIN if getattr(filter, name) is not None]
    found += _measures(filter, t)
    if filter.status is not None:
        found.append(_status(filter.status))
    if filter.tag is not None:
        found.append(has_json_string(t.tags, filter.tag))
    found += _by_observation(filter)
    if filter.score is not None:
        found.append(_score(filter.score))
    if filter.q is not None:
        found += _words(filter.q, t, ("name", "input_preview", "output_preview", "session_id", "user_id"))
    return found


def on_observations(filter: TraceFilter) -> list[Condition]:
    """Conditions on observations joined with their traces, for every filter of the observation list."""
    o, t = tables.observation.c, tables.trace.c
    found: list[Condition] = list(_period(filter, o.started_at_us))
    of_trace = ("session_id", "user_id", "feature", "experiment", "environment", "release", "route")
    found += [fits(t[name], getattr(filter, name)) for name in of_trace if getattr(filter, name) is not None]
    found += _measures(filter, o)
    found += _observation_facts(filter)
    if filter.name is not None:
        found.append(o.name == filter.name)
    if filter.status is not None:
        found.append(o.status == filter.status if filter.status in ("ok", "error") else t.outcome == filter.status)
    if filter.tag is not None:
        found.append(or_(has_json_string(o.tags, filter.tag), has_json_string(t.tags, filter.tag)))
    if filter.score is not None:
        found.append(_score(filter.score, of_observation=True))
    if filter.q is not None:
        found += _words(filter.q, o, ("name", "model", "tool_name", "agent_name"))
    return found


def narrowed(statement: Select[Any], conditions: list[Condition]) -> Select[Any]:
    """The statement with these conditions, if there are any."""
    return statement.where(and_(*conditions)) if conditions else statement


def _period(filter: TraceFilter, at: ColumnElement[int]) -> Iterator[Condition]:
    if filter.from_us is not None:
        yield at >= filter.from_us
    if filter.to_us is not None:
        yield at < filter.to_us


def _measures(filter: TraceFilter, columns: Any) -> Iterator[Condition]:
    if filter.min_cost is not None:
        yield columns.cost_total_nano >= int((filter.min_cost * 10**9).to_integral_value(ROUND_CEILING))
    if filter.min_duration_ms is not None:
        yield columns.duration_us >= round(filter.min_duration_ms * 1000)


def _status(status: str) -> Condition:
    t = tables.trace.c
    if status in ("ok", "error"):
        return t.status == status
    if status == "complete":
        return t.outcome == status
    if status in OUTCOMES:  # said again as the index of the few others says it
        return and_(t.outcome == status, t.outcome != literal_column("'complete'"))
    raise InvalidInput(f"status: expected one of ok, error, {', '.join(OUTCOMES)}", field="status")


def _by_observation(filter: TraceFilter) -> list[Condition]:
    facts = _observation_facts(filter)
    return [exists().where(tables.observation.c.turn_id == tables.trace.c.id, fact) for fact in facts]


def _observation_facts(filter: TraceFilter) -> list[Condition]:
    o = tables.observation.c
    found: list[Condition] = []
    if filter.type is not None:
        found.append(o.type == filter.type)
    if filter.model is not None:
        found.append(or_(o.model == filter.model, o.model_requested == filter.model))
    if filter.provider is not None:
        found.append(o.provider == filter.provider)
    if filter.step is not None:
        type, _, named = filter.step.partition(":")
        found.append(and_(o.type == type, o.name == named))
    if filter.prompt is not None:
        name, _, version = filter.prompt.rpartition("@")
        found.append(and_(o.prompt_name == name, o.prompt_version == version) if name else o.prompt_name == version)
    return found


def has_json_string(column: ColumnElement[Any], text: str) -> Condition:
    """Whether a column of compact JSON arrays of strings holds this string."""
    return column.contains(json.dumps(text, ensure_ascii=False), autoescape=True)


def _words(text: str, columns: Any, names: tuple[str, ...]) -> list[Condition]:
    """Every word in one of the columns; an id finds its turn at once."""
    if _HEX.match(text.lower()):
        t = tables.trace.c
        return [or_(t.id == text.lower(), t.trace_id == text.lower())]
    return [or_(*(columns[name].icontains(word, autoescape=True) for name in names)) for word in text.split()[:8]]


def _score(text: str, *, of_observation: bool = False) -> Condition:
    s = tables.score.c
    target = [s.turn_id == tables.trace.c.id]
    if of_observation:
        target.append(s.span_id == tables.observation.c.span_id)
    return exists().where(*target, *scored(text))


def scored(text: str) -> list[Condition]:
    """Conditions on the score table for `name`, `name=value`, `name<0.5`.

    Raises:
        InvalidInput: another form.
    """
    match = _SCORE.match(text.strip())
    if match is None:
        raise InvalidInput("score: expected name, name=value, name<0.5 or name>0.5", field="score")
    found: list[Condition] = [tables.score.c.name == match["name"].strip()]
    if match["op"]:
        found.append(_comparison(match["op"], match["value"].strip()))
    return found


def _comparison(operator: str, value: str) -> Condition:
    s = tables.score.c
    number = _number(value)
    if operator != "=":
        if number is None:
            raise InvalidInput(f"score: {operator} needs a number, got {value!r}", field="score")
        sides = {"<": s.number < number, ">": s.number > number, "<=": s.number <= number, ">=": s.number >= number}
        return sides[operator]
    choices: list[Condition] = [s.text == value]
    if number is not None:
        choices.append(s.number == number)
    if value.lower() in ("true", "false"):
        choices.append(s.flag == (value.lower() == "true"))
    return or_(*choices)


def _number(text: str) -> float | None:
    try:
        number = float(Decimal(text))
    except (ArithmeticError, ValueError):  # ValueError: a signalling NaN
        return None
    return number if math.isfinite(number) else None
