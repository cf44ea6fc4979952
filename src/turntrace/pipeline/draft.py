"""Turns and observations while they are being worked on: mutable, so that no stage copies whole records."""

from dataclasses import dataclass, field
from typing import Any, Final

from turntrace.records.fragment import Fragment, RawSpan
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.rollup import RollupFact
from turntrace.records.usage import Cost, Usage

# Types whose usage and cost are a model call's own; on any other type they are sums over children.
MODEL_CALLS: Final = frozenset({"generation", "embedding", "reranker"})


@dataclass(slots=True)
class TraceHints:
    """What a span says about the whole turn (any span may, often not the root)."""

    name: str | None = None
    input: Any = None
    output: Any = None
    environment: str | None = None
    release: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """One observation on its way from a raw span; the fields are those of `Observation`."""

    span: RawSpan
    parent_span_id: str | None = None
    dialect: str = ""
    type: str = "span"
    name: str = ""
    level: str = "default"
    status: str = "ok"
    status_message: str | None = None
    error: ErrorInfo | None = None
    started_at_us: int = 0
    duration_us: int | None = None
    ttft_us: int | None = None
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
    flags: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    input: Any = None
    output: Any = None
    tool_calls: tuple[Any, ...] = ()
    tool_definitions: tuple[Any, ...] = ()
    query: str | None = None
    retrieval: dict[str, Any] | None = None
    documents: tuple[dict[str, Any], ...] = ()
    input_documents: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    hints: TraceHints | None = None

    @property
    def is_model_call(self) -> bool:
        """Whether usage and cost are this observation's own."""
        return self.type in MODEL_CALLS

    def flag(self, text: str) -> None:
        """Note a fact about the recording itself, once."""
        if text not in self.flags:
            self.flags += (text,)

    def observation(self, turn_id: str, trace_id: str) -> Observation:
        """The finished record."""
        span = self.span
        return Observation(
            id=turn_id + span.span_id,
            turn_id=turn_id,
            trace_id=span.trace_id or trace_id,
            span_id=span.span_id,
            parent_span_id=self.parent_span_id,
            type=self.type,
            name=self.name,
            level=self.level,
            status=self.status,
            status_message=self.status_message,
            error=self.error,
            started_at_us=self.started_at_us,
            duration_us=self.duration_us,
            ttft_us=self.ttft_us,
            is_open=span.duration_us is None,
            model=self.model,
            model_requested=self.model_requested,
            provider=self.provider,
            service_tier=self.service_tier,
            usage=self.usage,
            usage_aggregate=self.usage_aggregate,
            cost=self.cost,
            finish_reasons=self.finish_reasons,
            response_id=self.response_id,
            tool_name=self.tool_name,
            tool_call_id=self.tool_call_id,
            agent_name=self.agent_name,
            prompt=self.prompt,
            session_id=self.session_id,
            user_id=self.user_id,
            tags=self.tags,
            scope=span.scope,
            flags=self.flags,
            parameters=self.parameters,
            input=self.input,
            output=self.output,
            tool_calls=self.tool_calls,
            tool_definitions=self.tool_definitions,
            query=self.query,
            retrieval=self.retrieval,
            documents=self.documents,
            input_documents=self.input_documents,
            metadata=self.metadata,
        )


@dataclass(slots=True)
class Work:
    """One fragment between decoding and storage, as the stages fill it in."""

    fragment: Fragment
    drafts: list[Draft] = field(default_factory=list)
    name: str = ""
    session_id: str | None = None
    user_id: str | None = None
    feature: str | None = None
    experiment: str | None = None
    environment: str = "default"
    release: str | None = None
    tags: tuple[str, ...] = ()
    status: str = "ok"
    usage: Usage | None = None
    cost_input_nano: int | None = None
    cost_output_nano: int | None = None
    cost_total_nano: int | None = None
    unpriced_count: int = 0
    models: tuple[str, ...] = ()
    facts: tuple[RollupFact, ...] = ()
    is_kept: bool = True
    keep_reason: str = "all"

    @property
    def roots(self) -> list[Draft]:
        """Observations without a parent among those of this fragment, in start order."""
        known = {draft.span.span_id for draft in self.drafts}
        return [draft for draft in self.drafts if draft.parent_span_id not in known]
