"""Records to rows of the narrow tables, in the order of their columns. Content goes to `storage.content`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from turntrace.records.observation import Observation, PromptLink
from turntrace.records.trace import Trace
from turntrace.records.usage import Usage
from turntrace.storage import bulk, tables
from turntrace.storage.tables import length

_NO_USAGE: Final = Usage()

TRACE_COLUMNS: Final = bulk.column_names(tables.trace)
OBSERVATION_COLUMNS: Final = bulk.column_names(tables.observation)


def strings(values: Iterable[str]) -> str | None:
    """A JSON array of strings, None when empty."""
    found = list(values)
    return orjson.dumps(found).decode() if found else None


def json_object(values: Mapping[str, Any]) -> str | None:
    """A JSON object, None when empty."""
    if not values:
        return None
    return orjson.dumps(dict(values), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def trace_row(trace: Trace, *, is_final: bool, now_us: int) -> bulk.Values:
    """The row of a trace."""
    error, usage = trace.error, trace.usage or _NO_USAGE
    return (
        trace.id,
        trace.trace_id,
        trace.span_id,
        trace.parent_span_id,
        trace.name,
        trace.source,
        trace.method,
        trace.route,
        trace.http_status,
        trace.status,
        trace.outcome,
        error.type if error else None,
        error.message if error else None,
        trace.started_at_us,
        trace.duration_us,
        trace.ttft_us,
        trace.last_byte_us,
        trace.client_left_us,
        trace.bytes_sent,
        trace.chunk_count,
        trace.is_streamed,
        trace.session_id,
        trace.user_id,
        trace.feature,
        trace.experiment,
        trace.environment,
        trace.release,
        trace.request_id,
        trace.service_name,
        strings(trace.tags) if trace.tags else None,
        json_object(trace.feature_flags) if trace.feature_flags else None,
        trace.input_preview,
        trace.output_preview,
        strings(trace.models) if trace.models else None,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
        usage.input_audio_tokens,
        usage.output_audio_tokens,
        json_object(usage.details) if usage.details else None,
        usage.is_estimated,
        trace.cost_input_nano,
        trace.cost_output_nano,
        trace.cost_total_nano,
        trace.unpriced_count,
        trace.observation_count,
        trace.error_count,
        trace.keep_reason,
        trace.redaction_failed,
        strings(trace.flags) if trace.flags else None,
        trace.depth,
        trace.overhead_us,
        is_final,
        now_us,
    )


def observation_row(observation: Observation, trace: Trace) -> bulk.Values:
    """The row of an observation; what is its trace's own is left out."""
    error, cost, prompt = observation.error, observation.cost, observation.prompt
    usage = observation.usage or _NO_USAGE
    return (
        trace.id,
        observation.span_id,
        None if observation.trace_id == trace.trace_id else observation.trace_id,
        observation.parent_span_id,
        observation.type,
        observation.name,
        observation.level,
        observation.status,
        observation.status_message,
        error.type if error else None,
        error.message if error else None,
        observation.started_at_us,
        observation.duration_us,
        observation.ttft_us,
        observation.is_open,
        observation.model,
        observation.model_requested,
        observation.provider,
        observation.service_tier,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
        usage.input_audio_tokens,
        usage.output_audio_tokens,
        json_object(usage.details) if usage.details else None,
        None if observation.usage is None else usage.is_estimated,
        _usage_object(observation.usage_aggregate) if observation.usage_aggregate else None,
        cost.input_nano if cost else None,
        cost.output_nano if cost else None,
        cost.total_nano if cost else None,
        cost.source if cost else None,
        cost.price_version if cost else None,
        cost.tier if cost else None,
        strings(observation.finish_reasons) if observation.finish_reasons else None,
        observation.response_id,
        observation.tool_name,
        observation.tool_call_id,
        observation.agent_name,
        prompt.name if prompt else None,
        _version(prompt),
        prompt.label if prompt else None,
        None if observation.session_id == trace.session_id else observation.session_id,
        None if observation.user_id == trace.user_id else observation.user_id,
        strings(observation.tags) if observation.tags else None,
        observation.scope,
        strings(observation.flags) if observation.flags else None,
        _data_source(observation),
    )


def _data_source(observation: Observation) -> str | None:
    stated = (observation.retrieval or {}).get("data_source")
    return str(stated)[: length.NAME] if stated else None


def _version(prompt: PromptLink | None) -> str | None:
    return None if prompt is None or prompt.version is None else str(prompt.version)


def _usage_object(usage: Usage) -> str | None:
    names = [name for name in Usage.__slots__ if name not in ("details", "is_estimated")]
    found: dict[str, Any] = {name: n for name in names if (n := getattr(usage, name)) is not None}
    if usage.details:
        found["details"] = dict(usage.details)
    if usage.is_estimated:
        found["is_estimated"] = True
    return json_object(found)
