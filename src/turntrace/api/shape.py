"""Records as the JSON of the contract. An absent value is null; redaction placeholders are numbered per trace."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from turntrace.api.answer import milliseconds, money, time
from turntrace.pipeline.redact import number_tags
from turntrace.records.filter import Page
from turntrace.records.loss import Loss
from turntrace.records.observation import ErrorInfo, Observation
from turntrace.records.score import Score
from turntrace.records.session import Session
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Price, Usage

JSON = dict[str, Any]
T = TypeVar("T")


def paged(shape: Callable[[T], JSON]) -> Callable[[Page[T]], JSON]:
    """Shapes a page of records."""
    return lambda found: {"data": [shape(item) for item in found.items], "next_cursor": found.next_cursor}


def _pick(record: Any, names: str) -> JSON:
    return {name: getattr(record, name) for name in names.split()}


def listed_trace(trace: Trace) -> JSON:
    """A trace of a list: previews for input and output, no content, no observations."""
    content = {"metadata": None, "feature_flags": None, "received": None, "observations": None, "turn_ids": None}
    return _numbered({**_trace(trace), **content, "scores": [score_of(score) for score in trace.scores]})


def whole_trace(turns: Sequence[Trace]) -> JSON:
    """The turns under one id as one trace, with everything.

    The earliest turn gives the names; costs, usage and counts are sums, and the time is from the first start to the
    last end. A turn whose caller was a step of another turn hangs below that step.
    """
    first = turns[0]
    merged = first if len(turns) == 1 else _merged(turns)
    return _numbered(
        {
            **_trace(merged),
            "metadata": dict(first.metadata),
            "feature_flags": dict(first.feature_flags),
            "received": first.received,
            "observations": _linked(turns),
            "turn_ids": [turn.id for turn in turns],
            "scores": [score_of(score) for turn in turns for score in turn.scores],
        }
    )


def _merged(turns: Sequence[Trace]) -> Trace:
    first = turns[0]
    sums: JSON = {name: _sum(getattr(turn, name) for turn in turns) for name in _SUMMED}
    known: JSON = {name: next((getattr(turn, name) for turn in turns if getattr(turn, name)), None) for name in _KNOWN}
    ends = [turn.started_at_us + turn.duration_us for turn in turns if turn.duration_us is not None]
    return replace(
        first,
        status="error" if any(turn.status == "error" for turn in turns) else first.status,
        error=next((turn.error for turn in turns if turn.error), None),
        duration_us=max(ends) - first.started_at_us if ends else None,
        tags=tuple(dict.fromkeys(tag for turn in turns for tag in turn.tags)),
        models=tuple(dict.fromkeys(model for turn in turns for model in turn.models)),
        usage=_summed(turn.usage for turn in turns),
        **sums,
        **known,
    )


_SUMMED = (
    "cost_input_nano",
    "cost_output_nano",
    "cost_total_nano",
    "unpriced_count",
    "observation_count",
    "error_count",
)
_KNOWN = ("session_id", "user_id", "feature", "experiment", "release")
_PARTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _summed(usages: Iterable[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    sums: JSON = {name: _sum(getattr(usage, name) for usage in known) for name in _PARTS}
    return Usage(**sums)


def _linked(turns: Sequence[Trace]) -> list[JSON]:
    found = []
    for turn in turns:
        caller = _caller_of(turn, turns)
        for step in turn.observations:
            shown = whole_observation(step, numbered=False)
            found.append({**shown, "parent_id": caller} if shown["parent_id"] is None else shown)
    return sorted(found, key=lambda step: (step["started_at"], step["id"]))


def _caller_of(turn: Trace, turns: Sequence[Trace]) -> str | None:
    """The step of another turn that called this one."""
    if turn.parent_span_id is None:
        return None
    others = (step for other in turns if other is not turn for step in other.observations)
    return next((step.id for step in others if step.span_id == turn.parent_span_id), None)


_TRACE_PLAIN = (
    "id trace_id name session_id user_id feature experiment environment release status outcome source "
    "method route http_status request_id service_name is_streamed bytes_sent chunk_count input output "
    "observation_count error_count unpriced_count keep_reason redaction_failed"
)


def _trace(trace: Trace) -> JSON:
    cost = None
    if trace.cost_total_nano is not None:
        cost = _amounts(trace.cost_input_nano, trace.cost_output_nano, trace.cost_total_nano)
    return {
        **_pick(trace, _TRACE_PLAIN),
        "tags": list(trace.tags),
        "models": list(trace.models),
        "flags": list(trace.flags),
        "error": _error(trace.error),
        "started_at": time(trace.started_at_us),
        "duration_ms": milliseconds(trace.duration_us),
        "ttft_ms": milliseconds(trace.ttft_us),
        "last_byte_ms": milliseconds(trace.last_byte_us),
        "client_left_ms": milliseconds(trace.client_left_us),
        "usage": _usage(trace.usage),
        "cost": cost,
    }


def listed_observation(step: Observation) -> JSON:
    """An observation of a list: its content is null."""
    return {**_observation(step), **dict.fromkeys(_CONTENT)}


def whole_observation(step: Observation, *, numbered: bool = True) -> JSON:
    """An observation with its content."""
    shown = {
        **_observation(step),
        "parameters": dict(step.parameters),
        "input": step.input,
        "output": step.output,
        "tool_calls": list(step.tool_calls),
        "tool_definitions": list(step.tool_definitions),
        "query": step.query,
        "retrieval": _retrieval(step.retrieval),
        "documents": [dict(document) for document in step.documents],
        "input_documents": [dict(document) for document in step.input_documents],
        "metadata": dict(step.metadata),
    }
    return _numbered(shown) if numbered else shown


_CONTENT = (
    "parameters",
    "input",
    "output",
    "tool_calls",
    "tool_definitions",
    "query",
    "retrieval",
    "documents",
    "input_documents",
    "metadata",
)


_OBSERVATION_PLAIN = (
    "id turn_id trace_id span_id parent_id type name level status status_message is_open model "
    "model_requested provider service_tier response_id tool_name tool_call_id agent_name session_id "
    "user_id scope"
)


def _observation(step: Observation) -> JSON:
    return {
        **_pick(step, _OBSERVATION_PLAIN),
        "error": _error(step.error),
        "started_at": time(step.started_at_us),
        "duration_ms": milliseconds(step.duration_us),
        "ttft_ms": milliseconds(step.ttft_us),
        "usage": _usage(step.usage),
        "cost": _cost(step.cost),
        "price_version": step.cost.price_version or None if step.cost else None,
        "finish_reasons": list(step.finish_reasons),
        "prompt": _prompt(step),
        "tags": list(step.tags),
        "flags": list(step.flags),
    }


def _retrieval(facts: Mapping[str, Any] | None) -> JSON | None:
    if facts is None:
        return None
    names = ("data_source", "top_k", "returned", "score_min", "score_max")
    return {**dict.fromkeys(names), **facts}


def _prompt(step: Observation) -> JSON | None:
    link = step.prompt
    if link is None:
        return None
    return {"name": link.name, "version": link.version, "label": link.label, "variables": dict(link.variables)}


def _error(error: ErrorInfo | None) -> JSON | None:
    return None if error is None else {"type": error.type, "message": error.message, "stack": error.stack}


def _usage(usage: Usage | None) -> JSON | None:
    if usage is None:
        return None
    return {name.removesuffix("_tokens"): getattr(usage, name) for name in _PARTS}


def _cost(cost: Cost | None) -> JSON | None:
    return None if cost is None else _amounts(cost.input_nano, cost.output_nano, cost.total_nano)


def _amounts(into: int | None, out: int | None, total: int | None) -> JSON:
    return {"input": money(into), "output": money(out), "total": money(total)}


_SCORE_OF_PLAIN = (
    "id name value data_type source comment trace_id turn_id observation_id session_id "
    "dataset_item_id run_item_id user_id author evaluator evaluator_version environment"
)


def score_of(score: Score) -> JSON:
    """A score."""
    return {
        **_pick(score, _SCORE_OF_PLAIN),
        "metadata": dict(score.metadata),
        "created_at": time(score.created_at_us),
        "updated_at": time(score.updated_at_us),
    }


_LISTED_SESSION_PLAIN = "user_id environment trace_count error_count input_tokens output_tokens"


def listed_session(session: Session) -> JSON:
    """A session with its totals."""
    return {
        "id": session.session_id,
        **_pick(session, _LISTED_SESSION_PLAIN),
        "first_at": time(session.first_at_us),
        "last_at": time(session.last_at_us),
        "cost": money(session.cost_total_nano),
        "duration_ms": milliseconds(session.duration_us),
        "traces": None,
        "scores": None,
    }


def whole_session(session: Session) -> JSON:
    """A session with its traces in order, and its scores."""
    return {
        **listed_session(session),
        "traces": [whole_trace([trace]) for trace in session.traces],
        "scores": [score_of(score) for score in session.scores],
    }


def loss_of(loss: Loss) -> JSON:
    """The loss balance."""
    return {**_pick(loss, "accepted stored sampled erased in_spool"), "dropped": dict(loss.dropped)}


def price_of(price: Price) -> JSON:
    """A price of the operator's own."""
    return {
        "id": price.id,
        "provider": price.provider,
        "model": price.model,
        "effective_from": time(price.effective_from_us),
        "rates_per_mtok": dict(price.rates_per_mtok),
        "created_at": time(price.created_at_us),
    }


def _numbered(shown: JSON) -> JSON:
    """`<EMAIL_1>` for the first address met, the same in every field: only fields with text of people are walked."""
    numbering: dict[str, str] = {}
    for name in _TEXTS:
        if shown.get(name):
            shown[name] = number_tags(shown[name], numbering)
    return shown


_TEXTS = ("name", "error", *_CONTENT, "received", "observations", "scores")
