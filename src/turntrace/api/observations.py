"""`/observations`."""

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
from turntrace.storage.queries import observations

_ID: Final = re.compile(r"[0-9a-f]{48}\Z")


async def _list(call: Call) -> Answer:
    limit, cursor = call.page
    page_of = shape.paged(shape.listed_observation)
    return Answer(
        await call.read_as(page_of, observations.list_observations, to_filter(call.values), limit=limit, cursor=cursor)
    )


async def _get(call: Call) -> Answer:
    observation_id = call.request.path_params["observation_id"].lower()
    found = await call.read(observations.get_observation, observation_id) if _ID.match(observation_id) else None
    if found is None:
        raise not_found("observation", "Give the 48 hex digits of `id`.")
    return Answer(await call.run(shape.whole_observation, found))


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/observations",
        name="listObservations",
        summary="Steps of turns, newest first, without content; the filters are of the step where it has the fact",
        handle=_list,
        parameters=(*TRACE_FILTERS, *paging()),
        answers={200: ("a page of observations", page("Observation"))},
    ),
    Endpoint(
        method="GET",
        path="/observations/{observation_id}",
        name="getObservation",
        summary="One observation with its content",
        handle=_get,
        path_parameters={"observation_id": "`id` of the observation"},
        answers={200: ("the observation", reference("Observation"))},
    ),
)
