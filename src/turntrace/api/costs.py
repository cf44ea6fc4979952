"""`/costs`: what was spent, from the roll-ups, counted before sampling."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from turntrace.api import parameter
from turntrace.api.answer import money, time
from turntrace.api.components import page
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.filters import PERIOD, to_filter
from turntrace.api.parameter import paging
from turntrace.errors import NotFound
from turntrace.records.dimension import parse
from turntrace.storage.queries import costs
from turntrace.storage.queries.costs import BASIC_GROUPS, INTERVALS, SINGLE_GROUPS, CostRow
from turntrace.storage.queries.cursor import MAX_LIMIT, decode, encode
from turntrace.storage.queries.hosted import costs_by

_GROUP_BY: Final = (
    f"any of {', '.join(BASIC_GROUPS)}; or one of {', '.join(SINGLE_GROUPS)}, tag:<declared key> with any of model, "
    "environment; separated by commas, or given several times"
)
_PARAMETERS: Final = (
    parameter.text("group_by", _GROUP_BY, is_repeatable=True),
    parameter.choice("interval", "one row an interval (UTC)", INTERVALS),
    *PERIOD,
    *(
        parameter.text(name, "only this value; of the marginals one at the most")
        for name in (
            "model",
            "provider",
            "feature",
            "environment",
            "user_id",
            "session_id",
            "prompt",
            "experiment",
            "route",
            "release",
            "tag",
            "step",
        )
    ),
    *paging(MAX_LIMIT),
)


async def _list(call: Call) -> Answer:
    rows = await call.read(
        costs.costs,
        group_by=_names(call.values.get("group_by", ())),
        interval=call.values.get("interval"),
        filter=to_filter(call.values),
    )
    # Sums have no key to continue from: the cursor holds a place in the list, which only new turns can move.
    position = decode(call.values.get("cursor"))
    start = position[0] if position else 0
    end = start + call.values.get("limit", MAX_LIMIT)
    return Answer(
        {"data": [_row(row) for row in rows[start:end]], "next_cursor": encode(end, "") if end < len(rows) else None}
    )


def _names(texts: Iterable[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _row(row: CostRow) -> dict[str, Any]:
    keys = {name: value or None for name, value in row.keys.items()}
    start = {} if row.start_at_us is None else {"start": time(row.start_at_us)}
    names = ("requests", "turns", "calls", "errors", "unpriced")
    own = {"own_ms": row.own_us / 1000} if "step" in row.keys else {}
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    return {
        **start,
        **keys,
        **{name: getattr(row, name) for name in (*names, *tokens)},
        **own,
        "cost": money(row.cost_total_nano),
        "cost_input": money(row.cost_input_nano),
        "cost_output": money(row.cost_output_nano),
    }


async def _by_dimension(call: Call) -> Answer:
    name = call.request.path_params["dimension"]
    known = {found.name: found for found in map(parse, call.context.settings.dimensions)}
    if name not in known:
        raise NotFound(f"there is no dimension of this name; there are {', '.join(sorted(known)) or 'none'}")
    rows = await call.read(costs_by, known[name], to_filter(call.values))
    return Answer({"data": [_row(row) for row in rows], "next_cursor": None})


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/costs/{dimension}",
        name="listCostsByDimension",
        summary="Spending by a column of the host's own tables (setting `dimensions`), the costliest first",
        handle=_by_dimension,
        parameters=(*PERIOD, parameter.text("environment", "only this value")),
        path_parameters={"dimension": "its name in the setting"},
        answers={200: ("rows that have the dimension's name as a member", page("CostRow"))},
    ),
    Endpoint(
        method="GET",
        path="/costs",
        name="listCosts",
        summary="Spending by group and interval, the costliest first",
        handle=_list,
        parameters=_PARAMETERS,
        answers={200: ("rows that have the names of `group_by` as members", page("CostRow"))},
    ),
)
