"""What travels through the spool: fragments of turns, as written by capture and read by the pipeline.

The wire form is one JSON object per frame, `{"turn": {…}, "spans": [{…}, …]}`; its keys are the field names of
`TurnHeader` and `RawSpan` below, absent where they hold their default. Times are integers of microseconds: `_at_us`
since the Unix epoch, `_us` a length.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from turntrace.records.construct import quick


class FrameKind(IntEnum):
    """Kind of a spool frame. Numbers are on disk: never renumber."""

    START = 1  # a long turn begins: header with what is known so far
    DELTA = 2  # spans ended, outputs grown and bytes sent since the last frame of this turn
    END = 3  # the whole turn, self-contained: supersedes START and DELTA
    AMEND = 4  # late spans and late fields of a turn that has ended
    OTLP = 5  # spans received over OTLP/HTTP (their own grouping by trace id)
    LOGS = 6  # log records received over OTLP/HTTP
    SCORE = 7  # a score given in the application: {"score": {…}}; belongs to no turn's balance


# Capture keeps values within bounds. Key of what stands for a structure that was cut, and how the mark in a text begins
# and ends: `…[turntrace: 1234 of 300000 characters cut]…`.
CUT: Final = "turntrace.cut"
CUT_BEGINS: Final = "…[turntrace: "
CUT_ENDS: Final = " cut]…"

# Flag of an END that states next to nothing: what was written before it is all there is of the turn.
END_LOST: Final = "end_lost"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHeader:
    """One turn as capture saw it."""

    id: str  # 32 hex digits, UUIDv7 minted at the start
    trace_id: str  # 32 hex digits, W3C
    span_id: str  # 16 hex digits of the turn's own (root) span
    parent_span_id: str | None = None  # of the caller, when its context was continued
    name: str = ""
    source: str = "http"  # http, websocket, manual, otlp
    method: str | None = None
    route: str | None = None  # template where the framework tells it, else the path
    http_status: int | None = None
    started_at_us: int = 0
    duration_us: int | None = None
    ttft_us: int | None = None  # from the start to the first body byte given to the client
    last_byte_us: int | None = None
    client_left_us: int | None = None  # from the start to when the client was found gone
    bytes_sent: int | None = None
    chunk_count: int | None = None
    is_streamed: bool = False
    outcome: str = "complete"  # complete, client_disconnected, interrupted, in_progress
    error: dict[str, Any] | None = None  # {"type", "message", "stack"}
    session_id: str | None = None
    user_id: str | None = None
    feature: str | None = None
    experiment: str | None = None
    environment: str | None = None
    release: str | None = None
    request_id: str | None = None
    service_name: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    feature_flags: dict[str, Any] = field(default_factory=dict)
    input: Any = None
    output: Any = None
    received: str | None = None  # text of the streamed body that the client was given, bounded
    content: str | None = None  # content mode of this turn, where it differs from the setting
    flags: tuple[str, ...] = ()  # facts about the recording itself, e.g. "spans_dropped:12", "unsampled_host_span"
    depth: int = 0  # causality depth of recordings that evaluators make
    overhead_us: int | None = None  # time Turntrace itself took on the request path


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """A timed event on a span."""

    name: str
    at_us: int
    attributes: dict[str, Any] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RawSpan:
    """One span before conversion: ours (`own` holds typed fields) or any instrumentation's (`attributes`).

    `own` has the keys of the public interface: type, level, status_message, input, output, metadata, tags, model,
    provider, parameters, usage, cost, finish_reason(s), response_id, service_tier, prompt, tool_name, tool_call_id,
    tool_calls, tool_definitions, agent_name, query, documents, input_documents, retrieval, completion_started_us.
    """

    span_id: str
    trace_id: str | None = None  # only where it differs from the turn's
    parent_span_id: str | None = None
    name: str = ""
    scope: str | None = None  # instrumentation scope; None is our own
    scope_version: str | None = None
    kind: str = "internal"  # internal, server, client, producer, consumer
    started_at_us: int = 0
    duration_us: int | None = None  # None: still open
    seen_us: int | None = None  # open, or never brought to its end: from the start to its last sign of life
    status: str = "unset"  # unset, ok, error
    status_message: str | None = None
    error: dict[str, Any] | None = None  # {"type", "message", "stack"} of an exception, own spans
    own: dict[str, Any] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    resource: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One decoded frame: a part of one turn."""

    kind: FrameKind
    turn: TurnHeader
    spans: tuple[RawSpan, ...] = ()
