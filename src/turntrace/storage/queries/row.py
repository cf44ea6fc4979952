"""Rows to records: the narrow columns only; content is filled in by `opened`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Column, RowMapping

from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Usage
from turntrace.storage import tables

_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)


def _shared(columns: Iterable[Column[Any]], record: type[Any], *, but: str) -> tuple[str, ...]:
    """Names that a table and a record share, except those whose form differs."""
    known = {item.name for item in fields(record)} - set(but.split())
    return tuple(column.name for column in columns if column.name in known)


_TRACE_PLAIN: Final = _shared(tables.trace.c, Trace, but="tags flags models feature_flags")
_OBSERVATION_PLAIN: Final = _shared(
    tables.observation.c,
    Observation,
    but="trace_id session_id user_id usage_aggregate finish_reasons tags flags",
)
_SCORE_PLAIN: Final = _shared(tables.score.c, Score, but="value metadata")


def to_trace(row: RowMapping, scores: tuple[Score, ...] = ()) -> Trace:
    """A trace as lists show it, with these scores: previews stand for input and output."""
    return Trace(
        **{name: row[name] for name in _TRACE_PLAIN},
        error=_error(row),
        tags=_strings(row["tags"]),
        flags=_strings(row["flags"]),
        models=_strings(row["models"]),
        feature_flags=_object(row["feature_flags"]),
        usage=_usage(row, bool(row["is_usage_estimated"])),
        input=row["input_preview"],
        output=row["output_preview"],
        scores=scores,
    )


def to_observation(row: RowMapping, trace: Mapping[str, Any] | RowMapping) -> Observation:
    """An observation without content; `trace` has the turn's `trace_id`, `session_id` and `user_id`."""
    return Observation(
        id=row["turn_id"] + row["span_id"],
        **{name: row[name] for name in _OBSERVATION_PLAIN},
        trace_id=row["trace_id"] or trace["trace_id"],
        session_id=row["session_id"] or trace["session_id"],
        user_id=row["user_id"] or trace["user_id"],
        error=_error(row),
        usage=_usage(row, bool(row["is_usage_estimated"])),
        usage_aggregate=_aggregate(row["usage_aggregate"]),
        cost=_cost(row),
        finish_reasons=_strings(row["finish_reasons"]),
        prompt=_prompt(row),
        tags=_strings(row["tags"]),
        flags=_strings(row["flags"]),
    )


def to_score(row: RowMapping) -> Score:
    """A score."""
    return Score(
        **{name: row[name] for name in _SCORE_PLAIN},
        value=_score_value(row),
        metadata=_object(row["details"]),
    )


def _score_value(row: RowMapping) -> float | bool | str:
    if row["data_type"] == "numeric":
        return float(row["number"])
    if row["data_type"] == "boolean":
        return bool(row["flag"])
    return str(row["text"] or "")


def _error(row: RowMapping) -> ErrorInfo | None:
    if row["error_type"] is None:
        return None
    return ErrorInfo(type=row["error_type"], message=row["error_message"])


def _usage(row: RowMapping, is_estimated: bool) -> Usage | None:
    counts = {name: row[name] for name in _TOKENS}
    details = _object(row["usage_details"])
    if not details and all(value is None for value in counts.values()):
        return None
    return Usage(**counts, details=details, is_estimated=is_estimated)


def _aggregate(text: str | None) -> Usage | None:
    values = _object(text)
    return Usage(**values) if values else None


def _cost(row: RowMapping) -> Cost | None:
    if row["cost_total_nano"] is None:
        return None
    return Cost(
        input_nano=row["cost_input_nano"],
        output_nano=row["cost_output_nano"],
        total_nano=row["cost_total_nano"],
        source=row["cost_source"] or "computed",
        price_version=row["price_version"] or "",
        tier=row["price_tier"] or "",
    )


def _prompt(row: RowMapping) -> PromptLink | None:
    if row["prompt_name"] is None:
        return None
    version: str | None = row["prompt_version"]
    is_number = version is not None and version.isascii() and version.isdigit()
    return PromptLink(
        name=row["prompt_name"],
        version=int(version) if version is not None and is_number else version,
        label=row["prompt_label"],
    )


def _strings(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()


def _object(text: str | None) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}
