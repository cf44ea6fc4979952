"""`/score-configs`: what scores of a name may be."""

import time
from collections.abc import Sequence
from typing import Any, Final

from turntrace.api.answer import time as instant
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.problem import bad_body
from turntrace.api.schema import Schema, listing, moment, nullable, number, record, text
from turntrace.records.score import DATA_TYPES
from turntrace.records.scoreconfig import ScoreConfig
from turntrace.storage import scoreconfigs

BODY: Final[Schema] = record(
    {
        "name": text("of the scores", minLength=1, maxLength=100),
        "data_type": text(enum=list(DATA_TYPES)),
        "min": nullable(number("of numeric scores, inclusive")),
        "max": nullable(number("of numeric scores, inclusive")),
        "categories": listing(text(minLength=1, maxLength=200), "of categorical scores"),
        "description": nullable(text(maxLength=2000)),
    },
    required=("name", "data_type"),
)
_CONFIG: Final = record(
    {
        "name": text(),
        "data_type": text(enum=list(DATA_TYPES)),
        "min": nullable(number()),
        "max": nullable(number()),
        "categories": listing(text()),
        "description": nullable(text()),
        "created_at": nullable(moment("null: it is ready in every database")),
        "updated_at": nullable(moment()),
    }
)


def shape_of(config: ScoreConfig) -> dict[str, Any]:
    """A config as JSON."""
    return {
        "name": config.name,
        "data_type": config.data_type,
        "min": config.minimum,
        "max": config.maximum,
        "categories": list(config.categories),
        "description": config.description,
        "created_at": instant(config.created_at_us or None),
        "updated_at": instant(config.updated_at_us or None),
    }


async def _list(call: Call) -> Answer:
    found = await call.read(scoreconfigs.list_configs)
    return Answer({"data": [shape_of(config) for config in found], "next_cursor": None})


async def _put(call: Call) -> Answer:
    body = await call.body()
    kind, low, high = body["data_type"], body.get("min"), body.get("max")
    categories = tuple(body.get("categories") or ())
    if kind != "numeric" and (low is not None or high is not None):
        raise bad_body("$.min", "Only numeric scores have a range.")
    if low is not None and high is not None and low >= high:
        raise bad_body("$.max", "`max` is more than `min`.")
    if (kind == "categorical") != bool(categories) or len(set(categories)) != len(categories):
        raise bad_body("$.categories", "Categorical scores have different categories; others have none.")
    config = ScoreConfig(
        id="",
        name=body["name"],
        data_type=kind,
        minimum=low,
        maximum=high,
        categories=categories,
        description=body.get("description"),
    )
    now_us = time.time_ns() // 1000
    stored, is_new = await call.run(call.context.database.transact, scoreconfigs.put, config, now_us=now_us)
    return Answer(shape_of(stored), 201 if is_new else 200)


async def _delete(call: Call) -> Answer:
    name = call.request.path_params["name"]
    await call.run(call.context.database.transact, scoreconfigs.remove, name)
    return Answer({"name": name})


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/score-configs",
        name="listScoreConfigs",
        summary="What scores of a name may be",
        handle=_list,
        answers={200: ("all", record({"data": listing(_CONFIG), "next_cursor": nullable(text())}))},
    ),
    Endpoint(
        method="POST",
        path="/score-configs",
        name="putScoreConfig",
        summary="Fix type, range and categories of the scores of a name; the same name again replaces",
        handle=_put,
        scopes=("write",),
        body=BODY,
        answers={200: ("replaced", _CONFIG), 201: ("stored", _CONFIG)},
    ),
    Endpoint(
        method="DELETE",
        path="/score-configs/{name}",
        name="deleteScoreConfig",
        summary="Let scores of a name be anything again",
        handle=_delete,
        scopes=("write",),
        path_parameters={"name": "of the scores"},
        answers={200: ("forgotten", record({"name": text()}))},
    ),
)
