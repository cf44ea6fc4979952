"""`/traces`."""

import re
from collections.abc import Sequence
from typing import Final

from turntrace.api import shape
from turntrace.api.components import page
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.filters import TRACE_FILTERS, to_filter
from turntrace.api.parameter import paging
from turntrace.api.problem import not_found
from turntrace.api.schema import reference
from turntrace.records.trace import Trace
from turntrace.storage.queries import traces

_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


async def _list(call: Call) -> Answer:
    limit, cursor = call.page
    page_of = shape.paged(shape.listed_trace)
    return Answer(await call.read_as(page_of, traces.list_traces, to_filter(call.values), limit=limit, cursor=cursor))


async def _get(call: Call) -> Answer:
    trace_id = call.request.path_params["trace_id"].lower()
    found = await call.read_as(_whole, traces.find_traces, trace_id) if _ID.match(trace_id) else None
    if found is None:
        raise not_found(
            "trace", "Give the 32 hex digits of X-Trace-Id or of `id`. A turn is readable some 2 s after its answer."
        )
    return Answer(found)


def _whole(turns: Sequence[Trace]) -> shape.JSON | None:
    return shape.whole_trace(turns) if turns else None


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/traces",
        name="listTraces",
        summary="Turns, newest first, with previews instead of content",
        handle=_list,
        parameters=(*TRACE_FILTERS, *paging()),
        answers={200: ("a page of traces", page("Trace"))},
    ),
    Endpoint(
        method="GET",
        path="/traces/{trace_id}",
        name="getTrace",
        summary="One trace with its observations, content and scores; several turns under one W3C id together",
        handle=_get,
        path_parameters={"trace_id": "`id` of the turn, or W3C trace id"},
        answers={200: ("the trace", reference("Trace"))},
    ),
)
