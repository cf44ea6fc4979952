"""Traces, their observations and content: what a turn leaves behind."""

from typing import Final

from sqlalchemy import Double, String

from turntrace.storage.seal import Sealed
from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    Blob,
    Content,
    ContentJson,
    Count,
    Flag,
    Instant,
    LongText,
    Nano,
    Small,
    SpanId,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    table,
)

# Few turns are still running, were cut off or left: their index is small where a database can leave rows out of one.
NOT_COMPLETE: Final = "outcome <> 'complete'"

# One turn. Input, output, metadata and error stack are in the content blob; previews are redacted. `models`, `tags`,
# `flags` and `feature_flags` are compact JSON (arrays of strings; an object), NULL when empty.
trace: Final = table(
    "trace",
    column("id", TurnId, primary_key=True),
    column("trace_id", fixed(32)),
    column("span_id", SpanId),
    optional("parent_span_id", SpanId),
    column("name", String(length.NAME)),
    column("source", Word),
    optional("method", fixed(16)),
    optional("route", String(length.ROUTE)),
    optional("http_status", Small),
    column("status", Word),
    column("outcome", Word),
    optional("error_type", String(length.NAME)),
    optional("error_message", Content),
    column("started_at_us", Instant),
    optional("duration_us", Count),
    optional("ttft_us", Count),
    optional("last_byte_us", Count),
    optional("client_left_us", Count),
    optional("bytes_sent", Count),
    optional("chunk_count", Count),
    column("is_streamed", Flag),
    optional("session_id", String(length.SESSION_ID)),
    optional("user_id", String(length.USER_ID)),
    optional("feature", String(length.FEATURE)),
    optional("experiment", String(length.EXPERIMENT)),
    column("environment", String(length.ENVIRONMENT)),
    optional("release", String(length.RELEASE)),
    optional("request_id", String(length.NAME)),
    optional("service_name", String(length.NAME)),
    optional("tags", LongText),
    optional("feature_flags", LongText),
    optional("input_preview", Content),
    optional("output_preview", Content),
    optional("models", LongText),
    optional("input_tokens", Count),
    optional("output_tokens", Count),
    optional("cache_read_tokens", Count),
    optional("cache_write_tokens", Count),
    optional("cache_write_1h_tokens", Count),
    optional("reasoning_tokens", Count),
    optional("input_audio_tokens", Count),
    optional("output_audio_tokens", Count),
    optional("usage_details", LongText),  # JSON object of counts by name
    column("is_usage_estimated", Flag),
    optional("cost_input_nano", Nano),
    optional("cost_output_nano", Nano),
    optional("cost_total_nano", Nano),
    column("unpriced_count", Count),
    column("observation_count", Count),
    column("error_count", Count),
    column("keep_reason", Word),
    column("redaction_failed", Count),
    optional("flags", LongText),
    column("depth", Small),
    optional("overhead_us", Count),
    column("is_final", Flag),  # its END was stored, and counted in sessions and roll-ups
    column("updated_at_us", Instant),
    index("trace_started", "started_at_us", "id"),
    index("trace_session", "session_id", "started_at_us", "id"),
    index("trace_user", "user_id", "started_at_us", "id"),
    index("trace_trace_id", "trace_id"),
    index("trace_feature", "feature", "started_at_us", "id"),
    index("trace_environment", "environment", "started_at_us", "id"),
    index("trace_status", "status", "started_at_us", "id"),
    index("trace_outcome", "outcome", "started_at_us", "id", only=NOT_COMPLETE),
    index("trace_updated", "updated_at_us", "id"),
    index("trace_request", "request_id", only="request_id IS NOT NULL"),
)

# One step of a turn. Its `id` outside is `turn_id` followed by `span_id`. Content is in the turn's blob. `trace_id`,
# `session_id` and `user_id` are NULL where they are the trace's. `finish_reasons`, `tags` and `flags` are compact JSON
# arrays, NULL when empty; `usage_aggregate` is a JSON object with the names of `records.Usage`.
observation: Final = table(
    "observation",
    column("turn_id", TurnId, primary_key=True),
    column("span_id", SpanId, primary_key=True),
    optional("trace_id", fixed(32)),
    optional("parent_span_id", SpanId),
    column("type", Word),
    column("name", String(length.NAME)),
    column("level", Word),
    column("status", Word),
    optional("status_message", Content),
    optional("error_type", String(length.NAME)),
    optional("error_message", Content),
    column("started_at_us", Instant),
    optional("duration_us", Count),
    optional("ttft_us", Count),
    column("is_open", Flag),
    optional("model", String(length.MODEL)),
    optional("model_requested", String(length.MODEL)),
    optional("provider", String(length.PROVIDER)),
    optional("service_tier", String(length.TIER)),
    optional("input_tokens", Count),
    optional("output_tokens", Count),
    optional("cache_read_tokens", Count),
    optional("cache_write_tokens", Count),
    optional("cache_write_1h_tokens", Count),
    optional("reasoning_tokens", Count),
    optional("input_audio_tokens", Count),
    optional("output_audio_tokens", Count),
    optional("usage_details", LongText),  # JSON object of counts by name
    optional("is_usage_estimated", Flag),  # NULL: no usage at all
    optional("usage_aggregate", LongText),
    optional("cost_input_nano", Nano),
    optional("cost_output_nano", Nano),
    optional("cost_total_nano", Nano),
    optional("cost_source", Word),
    optional("price_version", String(length.PRICE_VERSION)),
    optional("price_tier", String(length.TIER)),
    optional("finish_reasons", LongText),
    optional("response_id", String(length.NAME)),
    optional("tool_name", String(length.NAME)),
    optional("tool_call_id", String(length.NAME)),
    optional("agent_name", String(length.NAME)),
    optional("prompt_name", String(length.PROMPT)),
    optional("prompt_version", String(64)),
    optional("prompt_label", String(64)),
    optional("session_id", String(length.SESSION_ID)),
    optional("user_id", String(length.USER_ID)),
    optional("tags", LongText),
    optional("scope", String(length.NAME)),
    optional("flags", LongText),
    optional("data_source", String(length.NAME)),  # where documents were looked for
    index("observation_started", "started_at_us", "turn_id", "span_id"),
    index("observation_user", "user_id", only="user_id IS NOT NULL"),
    rowid=False,
)

# All content of one turn in one compressed blob; `storage.content` packs and opens it.
content: Final = table(
    "content",
    column("turn_id", TurnId, primary_key=True),
    column("codec", Small),  # storage.content.Codec
    optional("key_id", fixed(8)),  # key ring id, where encrypted
    column("size", Count),  # bytes before compression
    column("data", Blob),
)

# A turn that sampling left out: the decision is kept, so that late fragments are left out too.
sampled: Final = table(
    "sampled",
    column("turn_id", TurnId, primary_key=True),
    column("at_us", Instant),
    index("sampled_at", "at_us"),
    rowid=False,
)

# A piece of a turn as it was received over OTLP, compressed and sealed with a key of the ring. Until no more comes, the
# rows of the turn are made anew from all its pieces; then these go.
received: Final = table(
    "received",
    column("turn_id", TurnId, primary_key=True),
    column("digest", fixed(32), primary_key=True),  # keyed, of the piece as it came
    column("at_us", Instant),
    column("size", Count),  # bytes as it came; more than a turn may have: its content was not kept
    column("key_id", fixed(8)),
    column("data", Blob),
    index("received_at", "at_us"),
)

# Totals of one conversation of one user; `user_id` is "" where no user is known. Only ended turns are counted.
session: Final = table(
    "session",
    column("session_id", String(length.SESSION_ID), primary_key=True),
    column("user_id", String(length.USER_ID), primary_key=True),
    column("environment", String(length.ENVIRONMENT)),
    column("first_at_us", Instant),
    column("last_at_us", Instant),
    column("trace_count", Count),
    column("error_count", Count),
    column("priced_count", Count),  # its traces with a cost; 0: the cost is unknown
    column("input_tokens", Count),
    column("output_tokens", Count),
    column("cost_total_nano", Nano),
    column("duration_us", Count),
    index("session_last", "last_at_us", "session_id", "user_id"),
    index("session_user", "user_id", "last_at_us", "session_id"),
    rowid=False,
)

# A judgement. One of number (numeric), flag (boolean) or text (categorical, text, correction) holds the value.
score: Final = table(
    "score",
    column("id", fixed(64), primary_key=True),
    column("name", String(100)),
    column("data_type", Word),
    column("source", Word),
    optional("number", Double),
    optional("flag", Flag),
    optional("text", Sealed(is_sealing=False)),  # free text by its writer, categories never
    optional("turn_id", TurnId),
    optional("trace_id", fixed(32)),
    optional("span_id", SpanId),
    optional("session_id", String(length.SESSION_ID)),
    optional("user_id", String(length.USER_ID)),
    optional("comment", Content),
    optional("author", String(length.NAME)),
    optional("evaluator", String(length.NAME)),
    optional("evaluator_version", Count),
    optional("environment", String(length.ENVIRONMENT)),
    optional("details", ContentJson),  # JSON: `metadata` of the score
    optional("dataset_item_id", fixed(32)),
    optional("run_item_id", fixed(32)),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("score_turn", "turn_id", "span_id"),
    index("score_session", "session_id"),
    index("score_user", "user_id"),
    index("score_created", "created_at_us", "id"),
    index("score_name", "name", "created_at_us", "id"),
    index("score_dataset_item", "dataset_item_id"),
    index("score_run_item", "run_item_id"),
)
