"""The form of an evaluator: fields to a definition as the API takes it, and back."""

import json
from collections.abc import Mapping
from typing import Any, Final

from turntrace.errors import InvalidInput
from turntrace.evaluation.checks import CHECKS
from turntrace.evaluation.template import STANDARD
from turntrace.evaluation.templates import TEMPLATES
from turntrace.records.evaluator import Evaluator

FILTERS: Final = {
    "feature": "Feature",
    "environment": "Environment",
    "model": "Model",
    "prompt": "Prompt or prompt@version",
    "type": "Type of step",
    "status": "Status",
    "release": "Release",
    "route": "Route",
    "tag": "Tag",
    "score": "Score, such as thumbs=false",
    "min_cost": "Costlier than (USD)",
    "min_duration_ms": "Slower than (ms)",
}
NUMBERS: Final = ("sample_rate", "delay_seconds", "idle_seconds", "max_depth")
PREFIX: Final = "filter_"


def starting_values(start: str) -> dict[str, str]:
    """Field values of a starting point: `check:<name>`, `template:<name>` or `code`."""
    kind, _, name = start.partition(":")
    values = {"sample_rate": "1", "interval_seconds": "60", "target": "trace", "start": start}
    if kind == "check" and name in CHECKS:
        check = CHECKS[name]
        target = "trace" if "trace" in check.targets else check.targets[0]
        options = json.dumps({"name": name, **check.options}, indent=1)
        shape = {"data_type": check.data_types[0], "better": check.better, "score_name": name}
        return {**values, **shape, "kind": "check", "name": name, "check": options, "target": target}
    if kind == "template" and name in TEMPLATES:
        return {**values, **of_definition({"kind": "judge", "name": name, **TEMPLATES[name]}), "start": start}
    if kind == "code":
        return {**values, "kind": "code", "data_type": "boolean"}
    blank = {"kind": "judge", "data_type": "boolean", "variables": _variables(None), "sample_rate": "0.1"}
    return {**values, **blank}


def of_evaluator(evaluator: Evaluator) -> dict[str, str]:
    """Field values of a stored evaluator; its API key is never shown again."""
    enabled = "1" if evaluator.is_enabled else ""
    return {**of_definition(evaluator.definition), "id": evaluator.id, "is_enabled": enabled}


def of_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """Field values of a definition."""
    score, judge, schedule = (definition.get(name) or {} for name in ("score", "judge", "schedule"))
    plain = ("name", "kind", "target", "description", "prompt", "daily_budget_usd", *NUMBERS)
    values = {name: _text(definition.get(name)) for name in plain}
    values |= {f"{PREFIX}{name}": _text(value) for name, value in (definition.get("filter") or {}).items()}
    values |= {"score_name": _text(score.get("name")), "categories": ", ".join(score.get("categories") or ())}
    values |= {"good": ", ".join(score.get("good") or ())}
    values |= {name: _text(score.get(name)) for name in ("data_type", "min", "max", "better")}
    values |= {name: _text(judge.get(name)) for name in ("base_url", "model", "provider", "callable")}
    values |= {"interval_seconds": _text(schedule.get("interval_seconds")), "cron": _text(schedule.get("cron"))}
    values["variables"] = _variables(definition.get("variables")) if definition.get("kind") == "judge" else ""
    values["check"] = json.dumps(definition["check"], indent=1) if definition.get("check") else ""
    values["function"] = _text((definition.get("code") or {}).get("function"))
    defaults = {"sample_rate": "1", "target": "trace"}
    return {**{name: value for name, value in values.items() if value}, **_missing(values, defaults)}


def _missing(values: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in defaults.items() if not values.get(name)}


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _variables(mapped: Mapping[str, str] | None) -> str:
    return "\n".join(f"{name} = {path}" for name, path in (mapped or STANDARD).items())


def to_definition(form: Mapping[str, str]) -> dict[str, Any]:
    """The definition that the fields state, unchecked but for what is no number or no JSON.

    Raises:
        InvalidInput: a field that cannot be read; `field` of the error says which.
    """
    kind = form.get("kind", "")
    found: dict[str, Any] = {name: form[name].strip() for name in ("name", "description") if form.get(name, "").strip()}
    found |= {"kind": kind, "target": form.get("target") or "trace", "enabled": form.get("is_enabled") == "1"}
    found |= {name: _number(name, form[name]) for name in NUMBERS if form.get(name, "").strip()}
    if "max_depth" in found:
        found["max_depth"] = int(found["max_depth"])
    if form.get("daily_budget_usd", "").strip():
        found["daily_budget_usd"] = form["daily_budget_usd"].strip()
    found["filter"] = _filter(form)
    found["score"] = _score(form)
    if form.get("cron", "").strip():
        found["schedule"] = {"cron": form["cron"].strip()}
    elif form.get("interval_seconds", "").strip():
        found["schedule"] = {"interval_seconds": _number("interval_seconds", form["interval_seconds"])}
    return {**found, **_KINDS[kind](form)} if kind in _KINDS else found


def _filter(form: Mapping[str, str]) -> dict[str, Any]:
    given = {name: form[PREFIX + name].strip() for name in FILTERS if form.get(PREFIX + name, "").strip()}
    if "min_duration_ms" in given:
        return {**given, "min_duration_ms": _number("min_duration_ms", given["min_duration_ms"])}
    return given


def _score(form: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": form.get("score_name", "").strip() or form.get("name", "").strip() or None}
    found |= {name: form[name] for name in ("data_type", "better") if form.get(name)}
    if form.get("data_type") == "numeric":
        found |= {name: _number(name, form[name]) for name in ("min", "max") if form.get(name, "").strip()}
    if form.get("data_type") == "categorical":
        found |= {name: _listed(form.get(name, "")) for name in ("categories", "good")}
    return found


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _judge(form: Mapping[str, str]) -> dict[str, Any]:
    judge = {name: form[name].strip() for name in ("model", "provider", "callable") if form.get(name, "").strip()}
    if not judge.get("callable"):
        judge["base_url"] = form.get("base_url", "").strip()
    if form.get("api_key", "").strip():
        judge["api_key"] = form["api_key"].strip()
    found: dict[str, Any] = {"judge": judge, "prompt": form.get("prompt", "").replace("\r\n", "\n")}
    lines = [line for line in form.get("variables", "").splitlines() if line.strip()]
    if lines:
        pairs = [line.partition("=") for line in lines]
        found["variables"] = {name.strip(): path.strip() for name, _, path in pairs}
    return found


def _check(form: Mapping[str, str]) -> dict[str, Any]:
    try:
        return {"check": json.loads(form.get("check") or "{}")}
    except ValueError as error:
        raise InvalidInput(f"the options of the check are no JSON: {error}", field="$.check") from None


def _code(form: Mapping[str, str]) -> dict[str, Any]:
    return {"code": {"function": form.get("function", "").strip()}}


_KINDS: Final = {"judge": _judge, "check": _check, "code": _code}


def _number(name: str, text: str) -> float:
    try:
        return float(text.strip())
    except ValueError:
        raise InvalidInput(f"{name}: expected a number, got {text[:40]!r}", field=f"$.{name}") from None
