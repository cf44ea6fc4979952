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
    Row,
    Small,
    SpanId,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)

# Few turns are still running, were cut off or left: their index is small where a database can leave rows out of one.
NOT_COMPLETE: Final = "outcome <> 'complete'"


class TraceRow(Row, table=True):
    """One turn. Input, output, metadata and error stack are in the content blob; previews are redacted.

    `models`, `tags`, `flags` and `feature_flags` are compact JSON (arrays of strings; an object), NULL when empty.
    """

    __table_args__ = options(
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

    id: str = column(TurnId, primary_key=True)
    trace_id: str = column(fixed(32))
    span_id: str = column(SpanId)
    parent_span_id: str | None = optional(SpanId)
    name: str = column(String(length.NAME))
    source: str = column(Word)
    method: str | None = optional(fixed(16))
    route: str | None = optional(String(length.ROUTE))
    http_status: int | None = optional(Small)
    status: str = column(Word)
    outcome: str = column(Word)
    error_type: str | None = optional(String(length.NAME))
    error_message: str | None = optional(Content)
    started_at_us: int = column(Instant)
    duration_us: int | None = optional(Count)
    ttft_us: int | None = optional(Count)
    last_byte_us: int | None = optional(Count)
    client_left_us: int | None = optional(Count)
    bytes_sent: int | None = optional(Count)
    chunk_count: int | None = optional(Count)
    is_streamed: bool = column(Flag)
    session_id: str | None = optional(String(length.SESSION_ID))
    user_id: str | None = optional(String(length.USER_ID))
    feature: str | None = optional(String(length.FEATURE))
    experiment: str | None = optional(String(length.EXPERIMENT))
    environment: str = column(String(length.ENVIRONMENT))
    release: str | None = optional(String(length.RELEASE))
    request_id: str | None = optional(String(length.NAME))
    service_name: str | None = optional(String(length.NAME))
    tags: str | None = optional(LongText)
    feature_flags: str | None = optional(LongText)
    input_preview: str | None = optional(Content)
    output_preview: str | None = optional(Content)
    models: str | None = optional(LongText)
    input_tokens: int | None = optional(Count)
    output_tokens: int | None = optional(Count)
    cache_read_tokens: int | None = optional(Count)
    cache_write_tokens: int | None = optional(Count)
    cache_write_1h_tokens: int | None = optional(Count)
    reasoning_tokens: int | None = optional(Count)
    input_audio_tokens: int | None = optional(Count)
    output_audio_tokens: int | None = optional(Count)
    usage_details: str | None = optional(LongText)  # JSON object of counts by name
    is_usage_estimated: bool = column(Flag)
    cost_input_nano: int | None = optional(Nano)
    cost_output_nano: int | None = optional(Nano)
    cost_total_nano: int | None = optional(Nano)
    unpriced_count: int = column(Count)
    observation_count: int = column(Count)
    error_count: int = column(Count)
    keep_reason: str = column(Word)
    redaction_failed: int = column(Count)
    flags: str | None = optional(LongText)
    depth: int = column(Small)
    overhead_us: int | None = optional(Count)
    is_final: bool = column(Flag)  # its END was stored, and counted in sessions and roll-ups
    updated_at_us: int = column(Instant)


class ObservationRow(Row, table=True):
    """One step of a turn. Its `id` outside is `turn_id` followed by `span_id`. Content is in the turn's blob.

    `trace_id`, `session_id` and `user_id` are NULL where they are the trace's. `finish_reasons`, `tags` and `flags` are
    compact JSON arrays, NULL when empty; `usage_aggregate` is a JSON object with the names of `records.Usage`.
    """

    __table_args__ = options(
        index("observation_started", "started_at_us", "turn_id", "span_id"),
        index("observation_user", "user_id", only="user_id IS NOT NULL"),
        rowid=False,
    )

    turn_id: str = column(TurnId, primary_key=True)
    span_id: str = column(SpanId, primary_key=True)
    trace_id: str | None = optional(fixed(32))
    parent_span_id: str | None = optional(SpanId)
    type: str = column(Word)
    name: str = column(String(length.NAME))
    level: str = column(Word)
    status: str = column(Word)
    status_message: str | None = optional(Content)
    error_type: str | None = optional(String(length.NAME))
    error_message: str | None = optional(Content)
    started_at_us: int = column(Instant)
    duration_us: int | None = optional(Count)
    ttft_us: int | None = optional(Count)
    is_open: bool = column(Flag)
    model: str | None = optional(String(length.MODEL))
    model_requested: str | None = optional(String(length.MODEL))
    provider: str | None = optional(String(length.PROVIDER))
    service_tier: str | None = optional(String(length.TIER))
    input_tokens: int | None = optional(Count)
    output_tokens: int | None = optional(Count)
    cache_read_tokens: int | None = optional(Count)
    cache_write_tokens: int | None = optional(Count)
    cache_write_1h_tokens: int | None = optional(Count)
    reasoning_tokens: int | None = optional(Count)
    input_audio_tokens: int | None = optional(Count)
    output_audio_tokens: int | None = optional(Count)
    usage_details: str | None = optional(LongText)  # JSON object of counts by name
    is_usage_estimated: bool | None = optional(Flag)  # NULL: no usage at all
    usage_aggregate: str | None = optional(LongText)
    cost_input_nano: int | None = optional(Nano)
    cost_output_nano: int | None = optional(Nano)
    cost_total_nano: int | None = optional(Nano)
    cost_source: str | None = optional(Word)
    price_version: str | None = optional(String(length.PRICE_VERSION))
    price_tier: str | None = optional(String(length.TIER))
    finish_reasons: str | None = optional(LongText)
    response_id: str | None = optional(String(length.NAME))
    tool_name: str | None = optional(String(length.NAME))
    tool_call_id: str | None = optional(String(length.NAME))
    agent_name: str | None = optional(String(length.NAME))
    prompt_name: str | None = optional(String(length.PROMPT))
    prompt_version: str | None = optional(String(64))
    prompt_label: str | None = optional(String(64))
    session_id: str | None = optional(String(length.SESSION_ID))
    user_id: str | None = optional(String(length.USER_ID))
    tags: str | None = optional(LongText)
    scope: str | None = optional(String(length.NAME))
    flags: str | None = optional(LongText)
    data_source: str | None = optional(String(length.NAME))  # where documents were looked for


class ContentRow(Row, table=True):
    """All content of one turn in one compressed blob; `storage.content` packs and opens it."""

    turn_id: str = column(TurnId, primary_key=True)
    codec: int = column(Small)  # storage.content.Codec
    key_id: str | None = optional(fixed(8))  # key ring id, where encrypted
    size: int = column(Count)  # bytes before compression
    data: bytes = column(Blob)


class SampledRow(Row, table=True):
    """A turn that sampling left out: the decision is kept, so that late fragments are left out too."""

    __table_args__ = options(index("sampled_at", "at_us"), rowid=False)

    turn_id: str = column(TurnId, primary_key=True)
    at_us: int = column(Instant)


class ReceivedRow(Row, table=True):
    """A piece of a turn as it was received over OTLP, compressed and sealed with a key of the ring.

    Until no more comes, the rows of the turn are made anew from all its pieces; then these go.
    """

    __table_args__ = options(index("received_at", "at_us"))

    turn_id: str = column(TurnId, primary_key=True)
    digest: str = column(fixed(32), primary_key=True)  # keyed, of the piece as it came
    at_us: int = column(Instant)
    size: int = column(Count)  # bytes as it came; more than a turn may have: its content was not kept
    key_id: str = column(fixed(8))
    data: bytes = column(Blob)


class SessionRow(Row, table=True):
    """Totals of one conversation of one user; `user_id` is "" where no user is known. Only ended turns are counted."""

    __table_args__ = options(
        index("session_last", "last_at_us", "session_id", "user_id"),
        index("session_user", "user_id", "last_at_us", "session_id"),
        rowid=False,
    )

    session_id: str = column(String(length.SESSION_ID), primary_key=True)
    user_id: str = column(String(length.USER_ID), primary_key=True)
    environment: str = column(String(length.ENVIRONMENT))
    first_at_us: int = column(Instant)
    last_at_us: int = column(Instant)
    trace_count: int = column(Count)
    error_count: int = column(Count)
    priced_count: int = column(Count)  # its traces with a cost; 0: the cost is unknown
    input_tokens: int = column(Count)
    output_tokens: int = column(Count)
    cost_total_nano: int = column(Nano)
    duration_us: int = column(Count)


class ScoreRow(Row, table=True):
    """A judgement. One of number (numeric), flag (boolean) or text (categorical, text, correction) holds the value."""

    __table_args__ = options(
        index("score_turn", "turn_id", "span_id"),
        index("score_session", "session_id"),
        index("score_user", "user_id"),
        index("score_created", "created_at_us", "id"),
        index("score_name", "name", "created_at_us", "id"),
        index("score_dataset_item", "dataset_item_id"),
        index("score_run_item", "run_item_id"),
    )

    id: str = column(fixed(64), primary_key=True)
    name: str = column(String(100))
    data_type: str = column(Word)
    source: str = column(Word)
    number: float | None = optional(Double)
    flag: bool | None = optional(Flag)
    text: str | None = optional(Sealed(is_sealing=False))  # free text by its writer, categories never
    turn_id: str | None = optional(TurnId)
    trace_id: str | None = optional(fixed(32))
    span_id: str | None = optional(SpanId)
    session_id: str | None = optional(String(length.SESSION_ID))
    user_id: str | None = optional(String(length.USER_ID))
    comment: str | None = optional(Content)
    author: str | None = optional(String(length.NAME))
    evaluator: str | None = optional(String(length.NAME))
    evaluator_version: int | None = optional(Count)
    environment: str | None = optional(String(length.ENVIRONMENT))
    details: str | None = optional(ContentJson)  # JSON: `metadata` of the score
    dataset_item_id: str | None = optional(fixed(32))
    run_item_id: str | None = optional(fixed(32))
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


trace: Final = table(TraceRow)
observation: Final = table(ObservationRow)
content: Final = table(ContentRow)
sampled: Final = table(SampledRow)
received: Final = table(ReceivedRow)
session: Final = table(SessionRow)
score: Final = table(ScoreRow)
