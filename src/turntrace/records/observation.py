"""One typed step inside a trace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from turntrace.records.construct import quick
from turntrace.records.usage import Cost, Usage

ObservationType = Literal[
    "generation",
    "embedding",
    "retrieval",
    "reranker",
    "tool",
    "agent",
    "chain",
    "guardrail",
    "evaluator",
    "event",
    "span",
]
OBSERVATION_TYPES: tuple[str, ...] = get_args(ObservationType)
Level = Literal["debug", "default", "warning", "error"]
LEVELS: tuple[str, ...] = get_args(Level)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What went wrong: class name without its module, redacted message, stack without locals."""

    type: str
    message: str | None = None
    stack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLink:
    """The prompt version an observation was made from."""

    name: str
    version: int | str | None = None
    label: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A converted span. `id` is the turn's id followed by the span id (48 hex digits).

    Fields under "content" are text of the host's users: they are redacted before storage and are None in lists.
    """

    id: str
    turn_id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None = None  # nearest kept ancestor's span id; None at a root
    type: str = "span"
    name: str = ""
    level: str = "default"
    status: str = "ok"  # ok, error
    status_message: str | None = None
    error: ErrorInfo | None = None
    started_at_us: int = 0
    duration_us: int | None = None
    ttft_us: int | None = None
    is_open: bool = False
    model: str | None = None
    model_requested: str | None = None
    provider: str | None = None
    service_tier: str | None = None
    usage: Usage | None = None
    usage_aggregate: Usage | None = None
    cost: Cost | None = None
    finish_reasons: tuple[str, ...] = ()
    response_id: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    agent_name: str | None = None
    prompt: PromptLink | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    scope: str | None = None
    flags: tuple[str, ...] = ()
    # content
    parameters: Mapping[str, Any] = field(default_factory=dict)
    input: Any = None
    output: Any = None
    tool_calls: tuple[Any, ...] = ()
    tool_definitions: tuple[Any, ...] = ()
    query: str | None = None
    retrieval: Mapping[str, Any] | None = None  # {data_source, top_k, returned, score_min, score_max}
    documents: tuple[Mapping[str, Any], ...] = ()
    input_documents: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parent_id(self) -> str | None:
        """The `id` of the parent observation, or None at a root."""
        return None if self.parent_span_id is None else f"{self.turn_id}{self.parent_span_id}"
