"""The OTLP fixtures: loading one as observations, and comparing them with its answers as the fixtures' README says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turntrace.pipeline import Pipeline, Pricer
from turntrace.pipeline.convert.otlp import join_logs, read_logs, read_spans
from turntrace.pipeline.preview import render
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, TurnHeader
from turntrace.records.observation import Observation
from turntrace.records.usage import to_decimal
from turntrace.settings import Settings

FOLDER = Path(__file__).parents[2] / "fixtures" / "otlp"
NAMES = sorted(path.name.removesuffix(".expected.json") for path in FOLDER.glob("*.expected.json"))
_USAGE = {"input": "input_tokens", "output": "output_tokens"}
_USAGE |= {name: f"{name}_tokens" for name in ("cache_read", "cache_write", "reasoning")}


@dataclass
class Fixture:
    """Spans with their log records joined, and the answers."""

    spans: list[RawSpan]
    expected: dict[str, Any]


def load(name: str) -> Fixture:
    expected = json.loads((FOLDER / f"{name}.expected.json").read_text())
    spans, rejected = read_spans(json.loads((FOLDER / expected["fixture"]).read_text()))
    assert rejected == 0
    if expected["logs"]:
        records, rejected = read_logs(json.loads((FOLDER / expected["logs"]).read_text()))
        assert rejected == 0
        spans = join_logs(spans, records)
    return Fixture(spans, expected)


def observe(spans: Sequence[RawSpan]) -> list[Observation]:
    """What the pipeline makes of the spans: one turn per trace, as they would arrive over OTLP."""
    by_trace: dict[str, list[RawSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id or "", []).append(span)
    fragments = [
        Fragment(
            kind=FrameKind.OTLP,
            turn=TurnHeader(id=trace_id, trace_id=trace_id, span_id="f" * 16, source="otlp"),
            spans=tuple(members),
        )
        for trace_id, members in by_trace.items()
    ]
    worked = Pipeline(Settings(redaction="off"), pricer=Pricer()).work(fragments)
    return [observation for item in worked for observation in item.trace.observations]


def compare(observations: Sequence[Observation], expected: dict[str, Any]) -> list[str]:
    """Every difference, as text."""
    by_id = {(item.trace_id, item.span_id): item for item in observations}
    wanted = {(item["trace_id"], item["span_id"]): item for item in expected["observations"]}
    problems = [f"unexpected {by_id[key].name} {key[1]}" for key in by_id.keys() - wanted.keys()]
    problems += [f"missing {wanted[key]['name']} {key[1]}" for key in wanted.keys() - by_id.keys()]
    if len(observations) != len(by_id):
        problems.append("an observation is there twice")
    for key in wanted.keys() & by_id.keys():
        problems += [f"{wanted[key]['name']}: {text}" for text in _differences(by_id[key], wanted[key], by_id)]
    return problems + _totals(observations, expected)


def _totals(observations: Sequence[Observation], expected: dict[str, Any]) -> list[str]:
    calls = [item for item in observations if item.type in ("generation", "embedding")]
    found = {
        "generations": sum(item.type == "generation" for item in calls),
        "embeddings": sum(item.type == "embedding" for item in calls),
    }
    for short, field in _USAGE.items():
        found[short] = sum((getattr(item.usage, field) or 0) if item.usage else 0 for item in calls)
    return [f"total {name}: {found[name]}, not {n}" for name, n in expected["totals"].items() if found[name] != n]


def _differences(found: Observation, wanted: dict[str, Any], by_id: dict[Any, Observation]) -> list[str]:
    problems = []
    parent = by_id.get((found.trace_id, found.parent_span_id)) if found.parent_span_id else None
    if (parent.span_id if parent else None) != wanted["parent_span_id"]:
        problems.append(f"parent {parent and parent.name}, not {wanted['parent_name']}")
    for key, value in wanted.items():
        actual = _actual(found, key, value)
        if actual is not _NOT_COMPARED and not _is_equal(key, actual, value):
            problems.append(f"{key} is {actual!r}, not {value!r}")
    return problems


_NOT_COMPARED = object()
_CONTEXT = {"span_id", "trace_id", "span_name", "parent_span_id", "parent_name"}


def _actual(found: Observation, key: str, value: Any) -> Any:
    """The record's form of an asserted key."""
    if key in _CONTEXT:
        return _NOT_COMPARED
    if key == "usage" and value is not None:
        return {name: getattr(found.usage, _USAGE[name], None) for name in value}
    if key == "parameters":
        return {name: found.parameters.get(name) for name in value}
    if key == "metadata":
        return {name: found.metadata.get(name) for name in value}
    if key == "cost_total":
        return to_decimal(found.cost.total_nano) if found.cost else None
    if key in ("documents", "input_documents"):
        actual = getattr(found, key)
        if len(actual) != len(value):
            return actual
        return [{name: doc.get(name) for name in want} for doc, want in zip(actual, value, strict=True)]
    if key in ("output_tool_calls", "tool_definitions"):
        source = found.tool_calls if key == "output_tool_calls" else found.tool_definitions
        return [item["name"] for item in source]
    return _simple(found, key)


def _simple(found: Observation, key: str) -> Any:
    special = {
        "has_ttft": lambda: found.ttft_us is not None and 0 < found.ttft_us <= (found.duration_us or 0),
        "error": lambda: found.status == "error",
        "error_type": lambda: found.error and found.error.type,
        "error_contains": lambda: found.error and found.error.message,
        "prompt_version": lambda: found.prompt and found.prompt.version,
        "input_contains": lambda: render(found.input),
        "output_contains": lambda: render(found.output),
    }
    return special[key]() if key in special else getattr(found, key)


def _is_equal(key: str, actual: Any, value: Any) -> bool:
    if key in ("input_contains", "output_contains"):
        return all(text in actual for text in value)
    if key == "error_contains":
        return actual is not None and value in actual
    if key == "cost_total":
        return actual is not None and abs(float(actual) - value) < 1e-9
    if key == "tags":
        return set(actual) == set(value)
    if isinstance(actual, tuple):
        actual = list(actual)
    return bool(actual == value) if value is not None else not actual
