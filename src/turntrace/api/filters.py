"""The filters of the trace and observation lists as query parameters."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from turntrace.api import parameter
from turntrace.api.parameter import Parameter
from turntrace.api.problem import bad_parameter
from turntrace.records.filter import TraceFilter
from turntrace.records.observation import OBSERVATION_TYPES
from turntrace.storage.queries.condition import OUTCOMES

PERIOD: Final = (
    parameter.time("from", "earliest start, inclusive"),
    parameter.time("to", "latest start, exclusive"),
)
TRACE_FILTERS: Final[tuple[Parameter, ...]] = (
    *PERIOD,
    parameter.text("session_id", "turns of this conversation"),
    parameter.text("user_id", "turns of this user"),
    parameter.text("feature", "turns of this feature of the application"),
    parameter.text("experiment", "turns of this experiment"),
    parameter.text("environment", "deployment environment"),
    parameter.text("release", "release of the application"),
    parameter.text("route", "route template"),
    parameter.text("name", "exact name"),
    parameter.text("model", "model of a call in the turn, as requested or as answered"),
    parameter.text("provider", "provider of a call in the turn"),
    parameter.choice("type", "type of an observation", OBSERVATION_TYPES),
    parameter.choice("status", "ok, error, or how the turn ended", ("ok", "error", *OUTCOMES)),
    parameter.decimal("min_cost", "US dollars at least"),
    parameter.number("min_duration_ms", "milliseconds at least"),
    parameter.text("score", "name, name=value, name<0.5, name>0.5, name<=0.5 or name>=0.5"),
    parameter.text("tag", "a tag"),
    parameter.text("prompt", "prompt name, or name@version"),
    parameter.text("step", "a step of this type and name: type:name"),
    parameter.text("q", "words in name and previews, or an id"),
)
_NAMES: Final = {"from": "from_us", "to": "to_us"}
_FIELDS: Final = frozenset(item.name for item in fields(TraceFilter))


def to_filter(values: Mapping[str, Any]) -> TraceFilter:
    """The filter that parsed parameters state.

    Raises:
        Problem: 400 when `to` is not later than `from`.
    """
    named = {_NAMES.get(name, name): value for name, value in values.items()}
    found = TraceFilter(**{name: value for name, value in named.items() if name in _FIELDS})
    if found.from_us is not None and found.to_us is not None and found.to_us <= found.from_us:
        raise bad_parameter("to", "`to` must be later than `from`.")
    return found
