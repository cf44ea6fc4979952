"""Evaluators: what judges turns, whether it works, what it costs; its form with a preview on past turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput, NotFound
from turntrace.evaluation.checks import CHECKS
from turntrace.evaluation.definition import STATUSES, Definition, read_definition
from turntrace.evaluation.shape import DATA_TYPES
from turntrace.evaluation.templates import TEMPLATES
from turntrace.jobs import workbench
from turntrace.jobs.workbench import Workbench
from turntrace.panel import evaluator_form
from turntrace.panel.gate.role import Role
from turntrace.panel.trail import looked, noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.evaluator import TARGETS, Evaluator
from turntrace.records.observation import OBSERVATION_TYPES
from turntrace.storage import evaluations, evaluators, repeats
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.sealing import seal

DAYS: Final = 7
_DAY_US: Final = 86_400_000_000
SHOWN_RUNS: Final = 30
BACKFILL_DAYS: Final = ("1", "7", "30", "90")
DONE: Final = {
    "saved": "The evaluator is saved. It judges turns that are stored from now on.",
    "removed": "The evaluator is deleted; the scores it gave stay.",
    "on": "The evaluator is on.",
    "off": "The evaluator is off.",
    "backfill": "The past turns are being judged, the newest first.",
    "retried": "What had failed is tried again.",
    "again": "It is asked again about what it judged last; Quality says how far it agrees with itself.",
}
# Short words of errors, as a person reads them; any other one is shown as it is.
REASONS: Final = {
    "http_429": "The judge says: too many requests (429)",
    "http_401": "The judge refuses the API key (401)",
    "http_403": "The judge refuses us (403)",
    "http_404": "The judge knows no such address or model (404)",
    "timeout": "The judge took too long",
    "unreachable": "The judge cannot be reached",
    "broken_off": "The judge broke off in the middle",
    "unknown_host": "The name of the judge's host is not known",
    "address_not_allowed": "The judge's address is a private one that judge_allowed_hosts does not name",
    "not_json": "The judge's answer is no JSON",
    "no_score": "The judge's answer has no score",
    "several_scores": "The judge's answer has several scores that differ",
    "wrong_type": "The score has another type than it should",
    "not_in_range": "The score is outside its range",
    "not_the_protocol": "The answer is not in the provider's form",
    "cut_off": "The judge's answer was cut off: allow more tokens",
    "refused": "The judge refused to judge",
    "budget_spent": "Today's budget is spent; it goes on tomorrow (UTC)",
    "function_not_allowed": "The setting evaluator_functions does not name the function",
    "function_not_importable": "The function cannot be imported in the worker",
    "definition_unreadable": "This release cannot read the definition",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One evaluator of the list: how the last days went."""

    evaluator: Evaluator
    counts: Mapping[str, int]
    cost_nano: int | None
    is_blocked: bool
    score: str


def show(request: Request) -> Response:
    """`GET /evaluators`."""
    visit = visit_of(request)
    since_us = visit.now_us - DAYS * _DAY_US
    with visit.context.database.read() as connection:
        found = queries.list_evaluators(connection)
        counts = queries.counts(connection, since_us=since_us)
        spent = queries.spent(connection, since_us=since_us)
    visit.message = DONE.get(request.query_params.get("done", ""))
    return visit.render(
        "evaluators.html",
        section="evaluators",
        title="Evaluators",
        lines=[_line(visit, item, counts.get(item.id, {}), spent.get(item.id)) for item in found],
        reasons=REASONS,
        days=DAYS,
    )


def _line(visit: Visit, item: Evaluator, counts: Mapping[str, int], cost: int | None) -> Line:
    blocked = item.blocked_until_us is not None and item.blocked_until_us > visit.now_us
    score = str((item.definition.get("score") or {}).get("name") or item.name)
    return Line(evaluator=item, counts=counts, cost_nano=cost, is_blocked=blocked, score=score)


def one(request: Request) -> Response:
    """`GET /evaluators/{evaluator_id}`."""
    visit = visit_of(request)
    evaluator_id = request.path_params["evaluator_id"]
    since_us = visit.now_us - DAYS * _DAY_US
    with visit.context.database.read() as connection:
        item = queries.get(connection, evaluator_id)
        runs = queries.runs(connection, evaluator_id, limit=SHOWN_RUNS)
        failed = queries.runs(connection, evaluator_id, status="failed", limit=SHOWN_RUNS)
        counts = queries.counts(connection, since_us=since_us).get(evaluator_id, {})
        spent = queries.spent(connection, since_us=since_us).get(evaluator_id)
        backfills = queries.backfills(connection, evaluator_id)
    visit.message = DONE.get(request.query_params.get("done", ""))
    return visit.render(
        "evaluator.html",
        section="evaluators",
        title=item.name,
        line=_line(visit, item, counts, spent),
        runs=runs,
        failed=len(failed),
        backfills=backfills,
        reasons=REASONS,
        days=DAYS,
        backfill_days=BACKFILL_DAYS,
    )


# --- the form -------------------------------------------------------------------------------------------------------


def form(request: Request) -> Response:
    """`GET /evaluators/new` (with `start`) and `GET /evaluators/{evaluator_id}/edit`."""
    visit = _operator(request)
    evaluator_id = request.path_params.get("evaluator_id")
    if evaluator_id is not None:
        with visit.context.database.read() as connection:
            return _form(visit, evaluator_form.of_evaluator(queries.get(connection, evaluator_id)))
    start = request.query_params.get("start")
    if start is None:
        groups = {"check": CHECKS, "template": TEMPLATES}
        found = _functions(visit)
        return visit.render(
            "evaluator_start.html", section="evaluators", title="New evaluator", groups=groups, functions=found
        )
    return _form(visit, {**evaluator_form.starting_values(start), "is_enabled": "1"})


def _form(visit: Visit, values: Mapping[str, str], *, code: int = 200, **more: Any) -> Response:
    defaults: dict[str, Any] = {"error": None, "preview": None}
    return visit.render(
        "evaluator_form.html",
        code=code,
        section="evaluators",
        title=values.get("name") or "New evaluator",
        values=values,
        filters=evaluator_form.FILTERS,
        targets=TARGETS,
        data_types=DATA_TYPES,
        choices={"type": OBSERVATION_TYPES, "status": STATUSES},
        functions=_functions(visit),
        reasons=REASONS,
        **{**defaults, **more},
    )


def _functions(visit: Visit) -> tuple[str, ...]:
    return visit.context.settings.evaluator_functions


def preview(request: Request) -> Response:
    """`POST /evaluators/preview`: the fields of the form, tried on past turns; nothing is stored."""
    visit = _operator(request)
    try:
        definition, api_key, known = _read(visit)
        bench = _bench(visit)
        database = visit.context.database
        found = workbench.preview(database, bench, definition, api_key=api_key, known=known, now_us=visit.now_us)
    except InvalidInput as error:
        return _form(visit, visit.form, error=error, code=400)
    looked(visit, "page.view", "/evaluators/preview")
    return _form(visit, visit.form, preview=found)


def save(request: Request) -> Response:
    """`POST /evaluators/save`: the fields of the form."""
    visit = _operator(request)
    try:
        definition, api_key, known = _read(visit)
        stored = visit.context.database.transact(_store, visit, definition, api_key, known)
    except InvalidInput as error:
        return _form(visit, visit.form, error=error, code=400)
    return visit.back_to(f"evaluators/{stored.id}", done="saved")


def _read(visit: Visit) -> tuple[Definition, str | None, Evaluator | None]:
    known = None
    if visit.form.get("id"):
        with visit.context.database.read() as connection:
            known = queries.get(connection, visit.form["id"])
    definition, api_key = read_definition(evaluator_form.to_definition(visit.form))
    _bench(visit).admit(definition)
    return definition, api_key, known


def _bench(visit: Visit) -> Workbench:
    if visit.context.workbench is None:
        raise NotFound("evaluators cannot be written here")
    return visit.context.workbench


def _store(
    c: Connection, visit: Visit, definition: Definition, api_key: str | None, known: Evaluator | None
) -> Evaluator:
    source = {name: value for name, value in definition.source.items() if name != "enabled"}
    named: dict[str, Any] = {
        "is_enabled": definition.is_enabled,
        "sealed": seal(visit.context.keyring, api_key) if api_key else None,
        "author": visit.viewer.name,
        "now_us": visit.now_us,
    }
    stored = evaluators.create(c, source, **named) if known is None else evaluators.revise(c, known.id, source, **named)
    noted(c, visit, "evaluator.save", stored.id, version=stored.version)
    return stored


# --- what one can do with it ----------------------------------------------------------------------------------------


def switch(request: Request) -> Response:
    """`POST /evaluators/{evaluator_id}/switch`: field `on`, 1 or 0."""
    visit, evaluator_id = _operator(request), request.path_params["evaluator_id"]
    is_on = visit.form.get("on") == "1"

    def work(c: Connection) -> None:
        evaluators.switch(c, evaluator_id, is_enabled=is_on, now_us=visit.now_us)
        noted(c, visit, "evaluator.switch", evaluator_id, on=is_on)

    visit.context.database.transact(work)
    return visit.back_to(f"evaluators/{evaluator_id}", done="on" if is_on else "off")


def remove(request: Request) -> Response:
    """`POST /evaluators/{evaluator_id}/delete`."""
    visit, evaluator_id = _operator(request), request.path_params["evaluator_id"]

    def work(c: Connection) -> None:
        evaluators.remove(c, evaluator_id)
        noted(c, visit, "evaluator.delete", evaluator_id)

    visit.context.database.transact(work)
    return visit.back_to("evaluators", done="removed")


def retry(request: Request) -> Response:
    """`POST /evaluators/{evaluator_id}/retry`."""
    visit, evaluator_id = _operator(request), request.path_params["evaluator_id"]

    def work(c: Connection) -> None:
        evaluations.retry_failed(c, evaluator_id, now_us=visit.now_us)
        noted(c, visit, "evaluator.retry", evaluator_id)

    visit.context.database.transact(work)
    return visit.back_to(f"evaluators/{evaluator_id}", done="retried")


def again(request: Request) -> Response:
    """`POST /evaluators/{evaluator_id}/again`: fields `targets` and `times`: judge once more what was judged last."""
    visit, evaluator_id = _operator(request), request.path_params["evaluator_id"]
    targets, times = _number(visit, "targets", repeats.MOST_TARGETS), _number(visit, "times", repeats.MOST_TIMES)

    def work(c: Connection) -> None:
        asked = repeats.ask(c, queries.get(c, evaluator_id), targets=targets, times=times, now_us=visit.now_us)
        noted(c, visit, "evaluator.again", evaluator_id, asked=asked)

    visit.context.database.transact(work)
    return visit.back_to(f"evaluators/{evaluator_id}", done="again")


def _number(visit: Visit, name: str, most: int) -> int:
    text = visit.form.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= most:
        raise InvalidInput(f"{name}: 1 to {most}", field=name)
    return int(text)


def backfill(request: Request) -> Response:
    """`POST /evaluators/{evaluator_id}/backfill`: field `days`; with `stop`, the backfill to stop."""
    visit, evaluator_id = _operator(request), request.path_params["evaluator_id"]
    days = visit.form.get("days", "7")
    if days not in BACKFILL_DAYS:
        raise InvalidInput("days: choose one of those offered", field="days")

    def work(c: Connection) -> None:
        if visit.form.get("stop"):
            workbench.stop_backfill(c, visit.form["stop"], now_us=visit.now_us)
        else:
            item = queries.get(c, evaluator_id)
            from_us = visit.now_us - int(days) * _DAY_US
            who, now_us = visit.viewer.name, visit.now_us
            workbench.begin_backfill(c, item, from_us=from_us, to_us=now_us, author=who, now_us=now_us)
        noted(c, visit, "evaluator.backfill", evaluator_id)

    visit.context.database.transact(work)
    return visit.back_to(f"evaluators/{evaluator_id}", **({} if visit.form.get("stop") else {"done": "backfill"}))


def _operator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.viewer.may(Role.OPERATOR):
        raise HTTPException(403)
    return visit
