"""Facts of turns that are stored already, from their rows: what late changes take back and add anew.

They say of a row what `pipeline.facts` said of the same turn before it was stored.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from turntrace.records.rollup import RollupFact, group_name, own_times, step_name

Values = Mapping[str, Any]

MODEL_CALLS: Final = frozenset({"generation", "embedding", "reranker"})
# Columns of an observation that its fact is made of.
FACT_COLUMNS: Final = [
    "turn_id",
    "span_id",
    "parent_span_id",
    "name",
    "type",
    "status",
    "is_open",
    "started_at_us",
    "duration_us",
    "ttft_us",
    "model",
    "provider",
    "is_usage_estimated",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "usage_details",
    "cost_input_nano",
    "cost_output_nano",
    "cost_total_nano",
    "price_version",
    "price_tier",
    "prompt_name",
    "prompt_version",
]


def facts_of(trace: Values, observations: Iterable[Values], declared: frozenset[str]) -> list[RollupFact]:
    """The facts of a turn: its own, and one per step.

    Args:
        declared: tag keys that roll-ups are kept by.
    """
    shared = _shared(trace, declared)
    rows = list(observations)
    own = own_times((row["span_id"], row["parent_span_id"], row["started_at_us"], row["duration_us"]) for row in rows)
    return [_turn_fact(trace, shared), *(_step_fact(row, shared, own[row["span_id"]]) for row in rows)]


def _is_call(row: Values) -> bool:
    """Whether a model was called: a reranker may be a few lines of the host's own."""
    if row["type"] == "reranker":
        return bool(row["model"]) or row["is_usage_estimated"] is not None
    return row["type"] in MODEL_CALLS


def _shared(trace: Values, declared: frozenset[str]) -> dict[str, Any]:
    tags = json.loads(trace["tags"]) if trace["tags"] and declared else ()
    return {
        "environment": trace["environment"],
        "feature": trace["feature"] or "",
        "route": group_name(trace["route"] or ""),
        "release": trace["release"] or "",
        "experiment": trace["experiment"] or "",
        "user_id": trace["user_id"] or "",
        "session_id": trace["session_id"] or "",
        "tags": tuple(group_name(tag) for tag in tags if tag_key(tag) in declared),
    }


def tag_key(tag: str) -> str:
    """The key of a tag written `key:value`; empty for other tags."""
    key, colon, _ = tag.partition(":")
    return key if colon else ""


def _turn_fact(trace: Values, shared: dict[str, Any]) -> RollupFact:
    return RollupFact(
        at_us=trace["started_at_us"],
        turns=1,
        errors=1 if trace["status"] == "error" else 0,
        duration_us=trace["duration_us"],
        ttft_us=trace["ttft_us"] if trace["is_streamed"] else None,
        **shared,
    )


def _step_fact(row: Values, shared: dict[str, Any], own_us: int) -> RollupFact:
    step = step_name(row["type"], row["name"] or "")
    if _is_call(row):
        return _call_fact(row, shared, step, own_us)
    return RollupFact(
        at_us=row["started_at_us"],
        errors=1 if row["status"] == "error" else 0,
        duration_us=row["duration_us"],
        step=step,
        own_us=own_us,
        is_open=bool(row["is_open"]),
        **shared,
    )


def _call_fact(row: Values, shared: dict[str, Any], step: str, own_us: int) -> RollupFact:
    has_usage, has_cost = row["is_usage_estimated"] is not None, row["cost_total_nano"] is not None
    name, version = row["prompt_name"] or "", row["prompt_version"]
    return RollupFact(
        at_us=row["started_at_us"],
        model=row["model"] or "",
        provider=row["provider"] or "",
        prompt=f"{name}@{version}" if name and version is not None else name,
        price_version=row["price_version"] or "",
        tier=row["price_tier"] or "",
        calls=1,
        errors=1 if row["status"] == "error" else 0,
        unpriced=1 if has_usage and not has_cost else 0,
        input_tokens=row["input_tokens"] or 0,
        output_tokens=row["output_tokens"] or 0,
        cache_read_tokens=row["cache_read_tokens"] or 0,
        cache_write_tokens=row["cache_write_tokens"] or 0,
        reasoning_tokens=row["reasoning_tokens"] or 0,
        cost_input_nano=row["cost_input_nano"] or 0,
        cost_output_nano=row["cost_output_nano"] or 0,
        cost_total_nano=row["cost_total_nano"] or 0,
        duration_us=row["duration_us"],
        ttft_us=row["ttft_us"],
        step=step,
        own_us=own_us,
        is_open=bool(row["is_open"]),
        **shared,
    )


COUNTS: Final = [
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
]
COSTS: Final = ("cost_input_nano", "cost_output_nano", "cost_total_nano")


def sums_of(observations: Iterable[Values]) -> dict[str, Any]:
    """The columns of a trace that are sums over its observations."""
    rows = list(observations)
    calls = [row for row in rows if row["type"] in MODEL_CALLS]
    models = list(dict.fromkeys(row["model"] for row in calls if row["model"]))
    with_usage = [row for row in calls if row["is_usage_estimated"] is not None]
    return {
        "observation_count": len(rows),
        "error_count": sum(1 for row in rows if row["status"] == "error"),
        "models": json.dumps(models, ensure_ascii=False, separators=(",", ":")) if models else None,
        "is_usage_estimated": any(row["is_usage_estimated"] for row in with_usage),
        "unpriced_count": sum(1 for row in with_usage if row["cost_total_nano"] is None),
        "usage_details": _details(with_usage),
        **{name: _sum(row[name] for row in with_usage) for name in COUNTS},
        **{name: _sum(row[name] for row in calls) for name in COSTS},
    }


def _sum(values: Iterable[int | None]) -> int | None:
    stated = [value for value in values if value is not None]
    return sum(stated) if stated else None


def _details(rows: Iterable[Values]) -> str | None:
    found: dict[str, int] = {}
    for row in rows:
        for name, n in (json.loads(row["usage_details"]) if row["usage_details"] else {}).items():
            found[name] = found.get(name, 0) + n
    return json.dumps(found, separators=(",", ":")) if found else None
