"""What defines an evaluator, as in `POST /evaluators`: read from JSON, checked, every refusal naming its place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from turntrace.errors import InvalidInput
from turntrace.evaluation import checks, templates
from turntrace.evaluation.checks import Check, CheckKind
from turntrace.evaluation.judge import JudgeSpec, read_judge
from turntrace.evaluation.options import Options
from turntrace.evaluation.shape import ScoreShape, read_shape
from turntrace.evaluation.template import Template, compile_template
from turntrace.records.evaluator import EVALUATION, KINDS, TARGETS
from turntrace.records.filter import TraceFilter
from turntrace.records.observation import OBSERVATION_TYPES

STATUSES: Final = ("ok", "error", "complete", "client_disconnected", "interrupted", "in_progress")
_TEXTS: Final = (
    *("session_id", "user_id", "feature", "experiment", "environment", "release", "route", "model", "provider"),
    *("score", "tag", "prompt", "name", "q"),
)
DEFAULT_INTERVAL_SECONDS: Final = 10
DEFAULT_IDLE_SECONDS: Final = 1800
MAX_DEPTH: Final = 3  # how often a judgement may be judged in turn, whatever a definition says


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A checked definition. `source` is the JSON that it was read from, without secrets, as it is stored."""

    name: str
    kind: str
    is_enabled: bool
    target: str
    filter: TraceFilter
    sample_rate: float
    delay_seconds: float
    idle_seconds: float
    interval_seconds: int | None
    cron: str | None
    score: ScoreShape
    daily_budget_nano: int | None
    max_depth: int
    check: Check | None = None
    function: str | None = None
    judge: JudgeSpec | None = None
    prompt: Template | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


def read_definition(values: Any) -> tuple[Definition, str | None]:
    """The definition that a JSON object states, and the judge's API key, which belongs apart.

    Raises:
        InvalidInput: something is missing, unknown or unusable; `field` says where.
    """
    source = templates.expanded(dict(values)) if isinstance(values, Mapping) else values
    options = Options(source, "$")
    options.raw("template")
    name = options.text("name", most=100)
    kind = options.choice("kind", KINDS)
    target = options.choice("target", TARGETS, "trace")
    check_kind, parts = _read_kind(kind, options, target)
    shape = read_shape(options.raw("score"), name=name, check=check_kind)
    max_depth = int(options.number("max_depth", 0, low=0, high=MAX_DEPTH))
    interval_seconds, cron = _read_schedule(options.raw("schedule"))
    api_key = parts.pop("api_key", None)
    found = Definition(
        name=name,
        kind=kind,
        is_enabled=options.flag("enabled", True),
        target=target,
        filter=_read_filter(options.raw("filter", {}), target, max_depth),
        sample_rate=options.number("sample_rate", 1.0, low=0, high=1),
        delay_seconds=options.number("delay_seconds", 0, low=0, high=30 * 86_400),
        idle_seconds=options.number("idle_seconds", DEFAULT_IDLE_SECONDS, low=1, high=30 * 86_400),
        interval_seconds=interval_seconds,
        cron=cron,
        score=shape,
        daily_budget_nano=_read_money(options),
        max_depth=max_depth,
        source=_without_key(source),
        **parts,
    )
    options.maybe_text("description", most=2000)
    options.finish()
    return found, api_key


def _read_kind(kind: str, options: Options, target: str) -> tuple[CheckKind | None, dict[str, Any]]:
    if kind == "check":
        check_kind, check = checks.make(options.raw("check", {}))
        if target not in check_kind.targets:
            allowed = ", ".join(check_kind.targets)
            raise InvalidInput(f"$.target: the check {check_kind.name} takes {allowed}", field="$.target")
        return check_kind, {"check": check}
    if kind == "code":
        code = Options(options.raw("code", {}), "$.code")
        function = code.text("function")
        code.finish()
        return None, {"function": function}
    spec, api_key = read_judge(options.raw("judge", {}))
    variables = options.raw("variables")
    if variables is not None and not _is_mapping_of_texts(variables):
        raise InvalidInput("$.variables: expected an object of JSONPaths", field="$.variables")
    prompt = compile_template(options.text("prompt", most=50_000), variables)
    return None, {"judge": spec, "prompt": prompt, "api_key": api_key}


def _is_mapping_of_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())


def _read_schedule(values: Any) -> tuple[int | None, str | None]:
    if values is None:
        return DEFAULT_INTERVAL_SECONDS, None
    options = Options(values, "$.schedule")
    cron, interval = options.maybe_text("cron", most=200), options.maybe_number("interval_seconds", low=1, high=86_400)
    options.finish()
    if (cron is None) == (interval is None):
        raise InvalidInput("$.schedule: give either interval_seconds or cron", field="$.schedule")
    return (None if interval is None else int(interval)), cron


def _read_filter(values: Any, target: str, max_depth: int) -> TraceFilter:
    options = Options(values, "$.filter")
    found: dict[str, Any] = {name: options.maybe_text(name) for name in _TEXTS}
    for name, choices in (("status", STATUSES), ("type", OBSERVATION_TYPES)):
        value = options.raw(name)
        if value is not None and value not in choices:
            raise options.refuse(name, f"expected one of {', '.join(choices)}")
        found[name] = value
    found["min_duration_ms"] = options.maybe_number("min_duration_ms", low=0)
    cost = options.raw("min_cost")
    found["min_cost"] = None if cost is None else _decimal(cost, options.refuse("min_cost", "expected US dollars"))
    options.finish()
    if target == "session" and any(value is not None for name, value in found.items() if name not in _OF_SESSIONS):
        raise InvalidInput(f"$.filter: sessions are filtered by {', '.join(_OF_SESSIONS)}", field="$.filter")
    if found["environment"] == EVALUATION and max_depth == 0:
        what = "these are the runs of judges: evaluating them would loop; state max_depth (1 to 3) to go on so far"
        raise options.refuse("environment", what)
    return TraceFilter(**found)


_OF_SESSIONS: Final = ("environment", "session_id", "user_id")


def _read_money(options: Options) -> int | None:
    value = options.raw("daily_budget_usd")
    if value is None:
        return None
    wrong = options.refuse("daily_budget_usd", "expected US dollars such as 2.50")
    return int(_decimal(value, wrong) * 1_000_000_000)


def _decimal(value: Any, wrong: InvalidInput) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise wrong
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise wrong from None
    if not amount.is_finite() or not 0 <= amount <= 1_000_000:
        raise wrong
    return amount


def _without_key(source: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(source.get("judge"), Mapping):
        return source
    return {**source, "judge": {name: value for name, value in source["judge"].items() if name != "api_key"}}
