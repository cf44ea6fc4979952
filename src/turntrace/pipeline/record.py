"""A worked-on turn to the record that is stored."""

import re
from dataclasses import replace
from typing import Any, Final

from turntrace.pipeline import received
from turntrace.pipeline.convert.vocabulary import error_type
from turntrace.pipeline.draft import Draft, Work
from turntrace.pipeline.identify import bounded
from turntrace.pipeline.merge import stated
from turntrace.pipeline.preview import input_preview, output_preview
from turntrace.records.fragment import Fragment, FrameKind, TurnHeader
from turntrace.records.observation import ErrorInfo, Observation
from turntrace.records.trace import Trace

# What stays of a document or a call without its text.
_NUMBERED: Final = ("id", "score", "rank")
_NAMED: Final = ("id", "name")
_MEASURED: Final = ("score", "rank")
_WORD: Final = re.compile(r"[A-Za-z0-9_]{1,80}\Z")
# Header fields that name no field of `Trace`, or that no late frame may change.
_NOT_AMENDED: Final = frozenset({"id", "trace_id", "span_id", "content"})


def build(work: Work, *, with_content: bool) -> Trace:
    """The trace of a turn with its observations; without content, texts are left out and numbers stay."""
    turn = work.fragment.turn
    observations = tuple(draft.observation(turn.id, turn.trace_id) for draft in work.drafts)
    trace = Trace(
        id=turn.id,
        trace_id=turn.trace_id,
        span_id=turn.span_id,
        parent_span_id=turn.parent_span_id,
        name=work.name,
        source=turn.source,
        method=bounded(turn.method),
        route=bounded(turn.route),
        http_status=turn.http_status,
        status=work.status,
        outcome=turn.outcome,
        error=_error(turn),
        started_at_us=turn.started_at_us,
        duration_us=turn.duration_us,
        ttft_us=turn.ttft_us,
        last_byte_us=turn.last_byte_us,
        client_left_us=turn.client_left_us,
        bytes_sent=turn.bytes_sent,
        chunk_count=turn.chunk_count,
        is_streamed=turn.is_streamed,
        session_id=work.session_id,
        user_id=work.user_id,
        feature=work.feature,
        experiment=work.experiment,
        environment=work.environment,
        release=work.release,
        request_id=bounded(turn.request_id),
        service_name=bounded(turn.service_name),
        tags=work.tags,
        metadata=_metadata(work),
        feature_flags=turn.feature_flags,
        input=_input(work),
        output=_output(work),
        received=turn.received,
        models=work.models,
        usage=work.usage,
        cost_input_nano=work.cost_input_nano,
        cost_output_nano=work.cost_output_nano,
        cost_total_nano=work.cost_total_nano,
        unpriced_count=work.unpriced_count,
        observation_count=len(observations),
        error_count=sum(1 for draft in work.drafts if draft.status == "error"),
        keep_reason=work.keep_reason,
        flags=turn.flags,
        depth=turn.depth,
        overhead_us=turn.overhead_us,
        observations=observations,
    )
    return trace if with_content else without_content(trace)


def without_content(trace: Trace) -> Trace:
    """The trace with every text of the host's users left out; names, ids and numbers stay."""
    return replace(
        trace,
        input=None,
        output=None,
        received=None,
        input_preview=None,
        output_preview=None,
        metadata={},
        error=_without_text(trace.error),
        observations=tuple(_bare(observation) for observation in trace.observations),
    )


def _bare(observation: Observation) -> Observation:
    prompt = observation.prompt
    return replace(
        observation,
        input=None,
        output=None,
        query=None,
        metadata={},
        parameters={name: value for name, value in observation.parameters.items() if isinstance(value, (int, float))},
        tool_calls=_only(_NAMED, observation.tool_calls),
        tool_definitions=_only(_NAMED, observation.tool_definitions),
        documents=_only(_NUMBERED, observation.documents),
        input_documents=_only(_NUMBERED, observation.input_documents),
        status_message=None,
        error=_without_text(observation.error),
        prompt=None if prompt is None else replace(prompt, variables={}),
    )


def nameless(observation: Observation) -> Observation:
    """A step without its texts, and without the names inside of it, which ids of documents are, too."""
    bare, retrieval = _bare(observation), observation.retrieval
    return replace(
        bare,
        name=bare.type,
        tags=(),
        parameters={name: value for name, value in bare.parameters.items() if _WORD.match(name)},
        tool_calls=_only(("id",), observation.tool_calls),
        tool_definitions=(),
        documents=_only(_MEASURED, observation.documents),
        input_documents=_only(_MEASURED, observation.input_documents),
        retrieval=retrieval and {n: value for n, value in retrieval.items() if isinstance(value, (int, float))},
        error=classed(observation.error),
    )


def classed(error: ErrorInfo | None) -> ErrorInfo | None:
    """An error without its text, and without a sentence where its class belongs."""
    return error and ErrorInfo(type=error.type if _WORD.match(error.type) else "Error")


def _only(names: tuple[str, ...], entries: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    return tuple({name: entry.get(name) for name in names} for entry in entries if isinstance(entry, dict))


def _without_text(error: ErrorInfo | None) -> ErrorInfo | None:
    return None if error is None else ErrorInfo(type=error.type)


def with_previews(trace: Trace) -> Trace:
    """The trace with its two previews, taken from content as it is stored."""
    given, answered = input_preview(trace.input), output_preview(trace.output)
    if given is None and answered is None:
        return trace
    return replace(trace, input_preview=given, output_preview=answered)


def amended(fragment: Fragment) -> frozenset[str]:
    """Names of the trace fields that a late fragment states."""
    if fragment.kind is not FrameKind.AMEND:
        return frozenset()
    found = set(stated(fragment.turn)) - _NOT_AMENDED
    if found & {"error", "http_status"}:
        found.add("status")
    return frozenset(found | {f"{name}_preview" for name in ("input", "output") if name in found})


def _error(turn: TurnHeader) -> ErrorInfo | None:
    if turn.error is None:
        return None
    message, stack = turn.error.get("message"), turn.error.get("stack")
    return ErrorInfo(
        type=error_type(turn.error.get("type")) or "Error",
        message=message if isinstance(message, str) else None,
        stack=stack if isinstance(stack, str) else None,
    )


def _metadata(work: Work) -> dict[str, Any]:
    hinted = {name: value for draft in work.drafts if draft.hints for name, value in draft.hints.metadata.items()}
    return {**hinted, **work.fragment.turn.metadata} if hinted else work.fragment.turn.metadata


def _input(work: Work) -> Any:
    """The header's, else a span's word about the turn, else the first root's that has any."""
    turn = work.fragment.turn
    if turn.input is not None:
        return turn.input
    hinted = _hinted(work.drafts, "input")
    return hinted if hinted is not None else _of_roots(work, "input")


def _output(work: Work) -> Any:
    """The header's, else a span's word about the turn, else the last root's, else what the client was streamed."""
    turn = work.fragment.turn
    if turn.output is not None:
        return turn.output
    found = _hinted(work.drafts, "output")
    if found is None:
        found = _of_roots(work, "output")
    if found is None and turn.received:
        return received.text_of(turn.received)
    return found


def _hinted(drafts: list[Draft], name: str) -> Any:
    found = (getattr(draft.hints, name) for draft in drafts if draft.hints is not None)
    return next((value for value in found if value is not None), None)


def _of_roots(work: Work, name: str) -> Any:
    """Input of the first root or output of the last; a late fragment's roots are not the turn's."""
    if work.fragment.kind is FrameKind.AMEND:
        return None
    roots = work.roots if name == "input" else list(reversed(work.roots))
    preferred = [root for root in roots if root.type in _SPEAKING] or roots
    return next((value for root in preferred if (value := getattr(root, name)) is not None), None)


_SPEAKING: Final = frozenset({"generation", "agent", "chain", "span"})
