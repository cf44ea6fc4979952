"""The record of one turn: one request in, one answer out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turntrace.records.construct import quick
from turntrace.records.observation import ErrorInfo, Observation
from turntrace.records.score import Score
from turntrace.records.usage import Usage


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One turn. `id` is ours (UUIDv7, 32 hex digits); `trace_id` is W3C's and may be shared by several turns.

    `status` is `ok` or `error`; `outcome` is `complete`, `client_disconnected`, `interrupted` or `in_progress`.
    `usage` and the three cost fields are sums over its generations and embeddings; a cost of None means that no
    model call had a price. In lists `input`/`output` are redacted previews of at most 200 characters and
    `observations`, `scores` and `metadata` are empty.
    """

    id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str = ""
    source: str = "http"
    method: str | None = None
    route: str | None = None
    http_status: int | None = None
    status: str = "ok"
    outcome: str = "complete"
    error: ErrorInfo | None = None
    started_at_us: int = 0
    duration_us: int | None = None
    ttft_us: int | None = None
    last_byte_us: int | None = None
    client_left_us: int | None = None  # from the start to when its departure was noticed
    bytes_sent: int | None = None
    chunk_count: int | None = None
    is_streamed: bool = False
    session_id: str | None = None
    user_id: str | None = None
    feature: str | None = None
    experiment: str | None = None
    environment: str = "default"
    release: str | None = None
    request_id: str | None = None
    service_name: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    feature_flags: Mapping[str, Any] = field(default_factory=dict)
    input: Any = None
    output: Any = None
    received: str | None = None
    input_preview: str | None = None
    output_preview: str | None = None
    models: tuple[str, ...] = ()
    usage: Usage | None = None
    cost_input_nano: int | None = None
    cost_output_nano: int | None = None
    cost_total_nano: int | None = None
    unpriced_count: int = 0  # model calls with usage but without a known price
    observation_count: int = 0
    error_count: int = 0
    keep_reason: str = "all"  # why sampling kept it: all, rate, error, slow, costly, flagged, …
    redaction_failed: int = 0  # fields withheld because redaction failed
    flags: tuple[str, ...] = ()
    depth: int = 0
    overhead_us: int | None = None
    observations: tuple[Observation, ...] = ()
    scores: tuple[Score, ...] = ()
