"""`/evaluators`: what judges turns, its versions and runs, previews before saving, history by backfill."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.api.answer import money
from turntrace.api.answer import time as instant
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.evaluator_runs import ONE, endpoint, page_of
from turntrace.api.problem import bad_body
from turntrace.api.schema import (
    Schema,
    anything,
    boolean,
    free,
    integer,
    listing,
    moment,
    nullable,
    number,
    record,
    text,
)
from turntrace.api.schema import money as amount
from turntrace.errors import InvalidInput, NotFound
from turntrace.evaluation.definition import Definition, read_definition
from turntrace.jobs import workbench
from turntrace.jobs.workbench import Workbench
from turntrace.records.evaluator import KINDS, TARGETS, Evaluator
from turntrace.storage import evaluators
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.sealing import seal

_DAY_US: Final = 86_400_000_000

BODY: Final[Schema] = record(
    {
        "template": text("one of the templates ready to use; what the body states itself wins"),
        "name": text("unique", minLength=1, maxLength=100),
        "description": text(maxLength=2000),
        "kind": text(enum=list(KINDS)),
        "enabled": boolean("true unless said otherwise"),
        "target": text("`trace` unless said otherwise", enum=list(TARGETS)),
        "filter": free("in the language of the lists: feature, model, type, min_cost, score, tag, …"),
        "sample_rate": number("share of what the filter matches, 0..1; always the same turns", minimum=0, maximum=1),
        "delay_seconds": number("from the end of a turn to its judgement", minimum=0),
        "idle_seconds": number("a session is judged when it has been quiet for so long", minimum=1),
        "schedule": free("either `interval_seconds` or `cron` (five fields, UTC)"),
        "daily_budget_usd": {"type": ["string", "number", "null"], "description": "spend at most so much a UTC day"},
        "max_depth": integer("how deep judges' own runs are judged; 0: never", minimum=0, maximum=3),
        "score": free("name, data_type, min, max, categories, better (high or low), good (categories)"),
        "judge": free("base_url or callable, model, api_key, provider, parameters, timeout_seconds"),
        "prompt": text("with {{variables}}", maxLength=50_000),
        "variables": free('JSONPath of each variable, such as {"input": "$.input"}'),
        "check": free("name and options of a check"),
        "code": free("function (`module:function`), which the setting evaluator_functions must name"),
    },
    required=(),
    description="The whole definition; the API answers 400 with the place of what cannot work",
)
_SHAPE: Final = record(
    {
        "id": text(),
        "version": integer(),
        "enabled": boolean(),
        "created_at": moment(),
        "updated_at": moment(),
        "blocked_until": nullable(moment("the circuit breaker is open until then")),
        "blocked_reason": nullable(text()),
        "has_api_key": boolean(),
    },
    additionalProperties=True,
    description="With the members of the definition",
)
_SAMPLE: Final = record(
    {
        "turn_id": nullable(text()),
        "session_id": nullable(text()),
        "question": text(),
        "answer": text(),
        "value": anything("null where there is none"),
        "reason": nullable(text()),
        "error": nullable(text("a short word")),
    }
)
_PREVIEW: Final = record(
    {
        "days": integer(),
        "matched": integer("of the last days, before sampling"),
        "is_capped": boolean(),
        "estimated_cost": nullable(amount()),
        "samples": listing(_SAMPLE),
    }
)
# What an evaluator is given of turns, and says of them, is what its author reads of them.
_READS: Final = ("read",)


def shape_of(evaluator: Evaluator) -> dict[str, Any]:
    """An evaluator as JSON: its definition, and what has become of it."""
    return {
        **evaluator.definition,
        "id": evaluator.id,
        "name": evaluator.name,
        "kind": evaluator.kind,
        "version": evaluator.version,
        "enabled": evaluator.is_enabled,
        "created_at": instant(evaluator.created_at_us),
        "updated_at": instant(evaluator.updated_at_us),
        "blocked_until": instant(evaluator.blocked_until_us),
        "blocked_reason": evaluator.blocked_reason,
        "has_api_key": evaluator.sealed is not None,
    }


def _now_us() -> int:
    return time.time_ns() // 1000


def _bench(call: Call) -> Workbench:
    bench = call.context.workbench
    if bench is None:
        raise NotFound("evaluators cannot be written here")
    return bench


async def _read(call: Call, body: Mapping[str, Any]) -> tuple[Definition, str | None]:
    """The checked definition of a body."""

    def work() -> tuple[Definition, str | None]:
        try:
            definition, api_key = read_definition(body)
            _bench(call).admit(definition)
        except InvalidInput as error:
            raise bad_body(error.field or "$", f"{error}.") from None
        return definition, api_key

    return await call.run(work)


async def _list(call: Call) -> Answer:
    found = await call.read(queries.list_evaluators)
    return Answer({"data": [shape_of(item) for item in found], "next_cursor": None})


async def _get(call: Call) -> Answer:
    return Answer(shape_of(await call.read(queries.get, call.request.path_params["evaluator_id"])))


async def _create(call: Call) -> Answer:
    definition, api_key = await _read(call, await call.body())
    evaluator = await call.run(call.context.database.transact, _store, call, None, definition, api_key)
    return Answer(shape_of(evaluator), 201)


async def _replace(call: Call) -> Answer:
    definition, api_key = await _read(call, await call.body())
    evaluator_id = call.request.path_params["evaluator_id"]
    return Answer(
        shape_of(await call.run(call.context.database.transact, _store, call, evaluator_id, definition, api_key))
    )


async def _change(call: Call) -> Answer:
    """Members that are given replace those of the definition; null takes one away."""
    body = await call.body()
    evaluator_id = call.request.path_params["evaluator_id"]
    known = await call.read(queries.get, evaluator_id)
    merged = {**known.definition, "enabled": known.is_enabled, **body}
    definition, api_key = await _read(call, {name: value for name, value in merged.items() if value is not None})
    return Answer(
        shape_of(await call.run(call.context.database.transact, _store, call, evaluator_id, definition, api_key))
    )


def _store(
    c: Connection, call: Call, evaluator_id: str | None, definition: Definition, api_key: str | None
) -> Evaluator:
    keys, author = call.context.keyring, _author(call)
    sealed = seal(keys, api_key) if api_key and keys is not None else None
    source = {name: value for name, value in definition.source.items() if name != "enabled"}
    named: dict[str, Any] = {"is_enabled": definition.is_enabled, "sealed": sealed, "author": author}
    try:
        if evaluator_id is None:
            found = evaluators.create(c, source, **named, now_us=_now_us())
        else:
            found = evaluators.revise(c, evaluator_id, source, **named, now_us=_now_us())
    except InvalidInput as error:
        raise bad_body(error.field or "$", f"{error}.") from None
    return found


def _author(call: Call) -> str | None:
    return call.principal.name if call.principal else None


async def _delete(call: Call) -> Answer:
    evaluator_id = call.request.path_params["evaluator_id"]
    await call.run(call.context.database.transact, evaluators.remove, evaluator_id)
    return Answer({"id": evaluator_id})


async def _preview(call: Call) -> Answer:
    definition, api_key = await _read(call, {"name": "preview", **await call.body()})
    found = await call.run(
        workbench.preview, call.context.database, _bench(call), definition, api_key=api_key, now_us=_now_us()
    )
    return Answer(
        {
            "days": found.days,
            "matched": found.matched,
            "is_capped": found.is_capped,
            "estimated_cost": money(found.estimated_cost_nano),
            "samples": [_shape_of_sample(sample) for sample in found.samples],
        }
    )


def _shape_of_sample(sample: workbench.Sample) -> dict[str, Any]:
    verdict = sample.outcome.verdict
    return {
        "turn_id": sample.candidate.turn_id,
        "session_id": sample.candidate.session_id,
        "question": sample.question[:2000],
        "answer": sample.answer[:2000],
        "value": verdict.value if verdict else None,
        "reason": verdict.reason if verdict else None,
        "error": sample.outcome.error,
    }


_ANSWER: Final = {200: ("the evaluator", _SHAPE)}
ENDPOINTS: Final[Sequence[Endpoint]] = (
    endpoint("GET", "/evaluators", "listEvaluators", "Evaluators", _list, answers={200: ("all", page_of(_SHAPE))}),
    endpoint(
        "POST",
        "/evaluators",
        "createEvaluator",
        "Add an evaluator: it sees what is stored from now on",
        _create,
        besides=_READS,
        body=BODY,
        answers={201: ("stored", _SHAPE)},
    ),
    endpoint(
        "POST",
        "/evaluators/preview",
        "previewEvaluator",
        "Try a definition on the latest turns that it matches; nothing is stored",
        _preview,
        besides=_READS,  # even a check's yes or no tells what stands in a text
        body=BODY,
        answers={200: ("what it said", _PREVIEW)},
    ),
    endpoint("GET", ONE, "getEvaluator", "One evaluator", _get, answers=_ANSWER),
    endpoint(
        "PUT", ONE, "replaceEvaluator", "A new version, whole", _replace, besides=_READS, body=BODY, answers=_ANSWER
    ),
    endpoint(
        "PATCH", ONE, "changeEvaluator", "These members anew", _change, besides=_READS, body=BODY, answers=_ANSWER
    ),
    endpoint(
        "DELETE",
        ONE,
        "deleteEvaluator",
        "Delete it with its open work; its scores stay",
        _delete,
        answers={200: ("deleted", record({"id": text()}))},
    ),
)  # fmt: skip
