"""What evaluators did: their runs, and history given to them by backfill."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.api import parameter
from turntrace.api.access import require
from turntrace.api.answer import money
from turntrace.api.answer import time as instant
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.parameter import read_time
from turntrace.api.problem import bad_body
from turntrace.api.schema import Schema, boolean, free, integer, listing, moment, nullable, record, text
from turntrace.api.schema import money as amount
from turntrace.jobs import workbench
from turntrace.storage import evaluations, repeats
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.queries.evaluators import Backfill, Run

_DAY_US: Final = 86_400_000_000
_STATUSES: Final = ("pending", "claimed", "done", "failed", "skipped")
_RUN: Final = record(
    {
        "id": integer(),
        "target": text(),
        "turn_id": nullable(text()),
        "observation_id": nullable(text()),
        "session_id": nullable(text()),
        "version": integer(),
        "status": text(enum=list(_STATUSES)),
        "attempt": integer(),
        "error": nullable(text("a short word; an error is never a score")),
        "score_id": nullable(text()),
        "judge_turn_id": nullable(text("the trace of the judge's run")),
        "cost": nullable(amount()),
        "created_at": moment(),
        "due_at": moment(),
        "finished_at": nullable(moment()),
    }
)
_BACKFILL: Final = record(
    {
        "id": text(),
        "evaluator_id": text(),
        "version": integer(),
        "status": text(enum=["running", "done", "stopped"]),
        "from": moment(),
        "to": moment(),
        "planned": integer("judgements asked for so far"),
        "counts": free("judgements by status"),
        "created_at": moment(),
        "finished_at": nullable(moment()),
    }
)


def _shape_of_run(run: Run) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in ("id", "target", "turn_id", "session_id", "version", "status")},
        **{name: getattr(run, name) for name in ("attempt", "error", "score_id", "judge_turn_id")},
        "observation_id": f"{run.turn_id}{run.span_id}" if run.span_id else None,
        "cost": money(run.cost_nano),
        "created_at": instant(run.created_at_us),
        "due_at": instant(run.due_at_us),
        "finished_at": instant(run.finished_at_us),
    }


def _shape_of_backfill(item: Backfill) -> dict[str, Any]:
    return {
        **{name: getattr(item, name) for name in ("id", "evaluator_id", "status", "planned")},
        "version": item.evaluator_version,
        "from": instant(item.from_us),
        "to": instant(item.to_us),
        "counts": dict(item.counts),
        "created_at": instant(item.created_at_us),
        "finished_at": instant(item.finished_at_us),
    }


async def _runs(call: Call) -> Answer:
    evaluator_id = call.request.path_params["evaluator_id"]
    await call.read(queries.get, evaluator_id)
    found = await call.read(
        queries.runs, evaluator_id, status=call.values.get("status"), limit=call.values.get("limit", 50)
    )
    return Answer({"data": [_shape_of_run(run) for run in found], "next_cursor": None})


async def _backfills(call: Call) -> Answer:
    found = await call.read(queries.backfills, call.request.path_params["evaluator_id"])
    return Answer({"data": [_shape_of_backfill(item) for item in found], "next_cursor": None})


async def _backfill(call: Call) -> Answer:
    body, now_us = await call.body(), time.time_ns() // 1000
    from_us, to_us = _instant(body, "from", now_us - 7 * _DAY_US), _instant(body, "to", now_us)
    if to_us <= from_us:
        raise bad_body("$.to", "`to` must be later than `from`.")
    if body.get("dry_run") and call.principal is not None:
        require(call.principal, ("write",), ("read",))  # how many match tells of what they hold

    def work(c: Connection) -> Backfill | workbench.Estimate:
        evaluator = queries.get(c, call.request.path_params["evaluator_id"])
        if body.get("dry_run"):
            return workbench.estimate(c, evaluator, from_us=from_us, to_us=to_us)
        named: dict[str, Any] = {"author": call.principal.name if call.principal else None, "now_us": now_us}
        workbench.begin_backfill(c, evaluator, from_us=from_us, to_us=to_us, **named)
        return queries.backfills(c, evaluator.id, limit=1)[0]

    found = await call.run(call.context.database.transact, work)
    if isinstance(found, Backfill):
        return Answer(_shape_of_backfill(found), 201)
    return Answer({"runs": found.runs, "is_capped": found.is_capped, "cost": money(found.cost_nano)})


def _instant(body: Mapping[str, Any], name: str, default: int) -> int:
    if name not in body:
        return default
    try:
        return read_time(body[name])
    except ValueError as error:
        raise bad_body(f"$.{name}", f"$.{name}: {error}.") from None


async def _retry(call: Call) -> Answer:
    evaluator_id = call.request.path_params["evaluator_id"]

    def work(c: Connection) -> int:
        queries.get(c, evaluator_id)
        return evaluations.retry_failed(c, evaluator_id, now_us=time.time_ns() // 1000)

    return Answer({"retried": await call.run(call.context.database.transact, work)})


async def _again(call: Call) -> Answer:
    body = await call.body()
    targets, times = body.get("targets", 20), body.get("times", 2)

    def work(c: Connection) -> int:
        evaluator = queries.get(c, call.request.path_params["evaluator_id"])
        return repeats.ask(c, evaluator, targets=targets, times=times, now_us=time.time_ns() // 1000)

    return Answer({"asked": await call.run(call.context.database.transact, work)})


def page_of(item: Schema) -> Schema:
    """A page of these."""
    return record({"data": listing(item), "next_cursor": nullable(text())})


def endpoint(method: str, path: str, name: str, summary: str, handle: Any, **more: Any) -> Endpoint:
    """One call on evaluators; writing needs the scope `write`, and what is evaluated by whom `read` besides."""
    if "{evaluator_id}" in path:
        more["path_parameters"] = {"evaluator_id": "`id` of the evaluator"}
    if method != "GET":
        more.setdefault("scopes", ("write",))
    return Endpoint(method=method, path=path, name=name, summary=summary, handle=handle, **more)


ONE: Final = "/evaluators/{evaluator_id}"
_PERIOD_BODY: Final = record(
    {
        "from": text("earliest start; by default seven days ago", format="date-time"),
        "to": text("latest start; by default now", format="date-time"),
        "dry_run": boolean("only say how many judgements it would ask for, and their cost; needs `read`, too"),
    },
    required=(),
)
_AGAIN_BODY: Final = record(
    {
        "targets": integer("how many of what it judged last; 20", minimum=1, maximum=repeats.MOST_TARGETS),
        "times": integer("how often each of them; 2", minimum=1, maximum=repeats.MOST_TIMES),
    },
    required=(),
)
_ESTIMATE: Final = record({"runs": integer(), "is_capped": boolean(), "cost": nullable(amount())})
ENDPOINTS: Final[Sequence[Endpoint]] = (
    endpoint(
        "GET",
        f"{ONE}/runs",
        "listEvaluatorRuns",
        "Its latest judgements: where each stands, what came of it",
        _runs,
        parameters=(parameter.choice("status", "where it stands", _STATUSES), parameter.paging()[0]),
        answers={200: ("newest first", page_of(_RUN))},
    ),
    endpoint(
        "POST",
        f"{ONE}/retry",
        "retryEvaluator",
        "Try again what has failed for good",
        _retry,
        answers={200: ("how many", record({"retried": integer()}))},
    ),
    endpoint(
        "POST",
        f"{ONE}/repeats",
        "repeatJudgements",
        "Judge again what its current version judged last, to compare; this gives no scores",
        _again,
        body=_AGAIN_BODY,
        answers={200: ("how many were asked for; none twice in one UTC day", record({"asked": integer()}))},
    ),
    endpoint(
        "GET", f"{ONE}/backfills", "listBackfills", "History given to it", _backfills,
        answers={200: ("newest first", page_of(_BACKFILL))},
    ),
    endpoint(
        "POST",
        f"{ONE}/backfills",
        "createBackfill",
        "Give history to it, newest turns first",
        _backfill,
        body=_PERIOD_BODY,
        answers={200: ("what it would be (`dry_run`)", _ESTIMATE), 201: ("begun", _BACKFILL)},
    ),
)  # fmt: skip
