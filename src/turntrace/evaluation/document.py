"""What an evaluator sees: one JSON document per target, the same for checks, code and judges.

At its root stand the fields of the target itself, named as in the REST API, and beside them `question`, `answer` and
`context` (texts), `trace` (the whole tree), `session` (its turns, where it is the target), and `expected`: the latest
correction, or `metadata.expected`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from turntrace.records.observation import Observation
from turntrace.records.trace import Trace

JSON = dict[str, Any]

_OBSERVATION: Final = (
    *("id", "type", "name", "level", "status", "model", "provider", "input", "output", "query"),
    *("tool_name", "tool_call_id", "agent_name", "response_id", "session_id", "user_id", "parent_id"),
)
_TRACE: Final = (
    *("id", "trace_id", "name", "status", "outcome", "route", "session_id", "user_id", "feature", "experiment"),
    *("environment", "release", "input", "output"),
)
_SOURCES: Final = ("reranker", "retrieval")


def expected_of(trace: Trace, span_id: str | None = None) -> Any:
    """What an answer should have been: the latest correction of a person, else what the host said in `metadata`."""
    corrections = [score for score in trace.scores if score.data_type == "correction" and score.span_id == span_id]
    if corrections:
        return max(corrections, key=lambda score: score.created_at_us).value
    return trace.metadata.get("expected")


def of_trace(trace: Trace) -> JSON:
    """The document of a turn."""
    tree = _trace(trace)
    return {
        **tree,
        "question": last_user_text(trace.input),
        "answer": said(_output(trace)),
        "context": _context(trace.observations),
        "tool_calls": [call for item in trace.observations for call in item.tool_calls],
        "tool_definitions": _tools(trace.observations),
        "trace": tree,
        "expected": expected_of(trace),
    }


def of_observation(observation: Observation, trace: Trace) -> JSON:
    """The document of one step; its context is what was found before it began."""
    before = [item for item in trace.observations if item.started_at_us <= observation.started_at_us]
    own = _texts(observation.documents) or _texts(observation.input_documents)
    return {
        **_observation(observation),
        "question": last_user_text(observation.input) or last_user_text(trace.input),
        "answer": said(observation.output),
        "context": own or _context([item for item in before if item.id != observation.id]),
        "trace": _trace(trace),
        "expected": expected_of(trace, observation.span_id),
    }


def of_session(session_id: str, user_id: str | None, traces: Sequence[Trace]) -> JSON:
    """The document of a conversation, its turns oldest first."""
    turns = [{"question": last_user_text(t.input), "answer": said(_output(t)), "status": t.status} for t in traces]
    return {
        "id": session_id,
        "user_id": user_id,
        "input": [turn["question"] for turn in turns],
        "output": [turn["answer"] for turn in turns],
        "question": turns[0]["question"] if turns else "",
        "answer": turns[-1]["answer"] if turns else "",
        "context": [text for trace in traces for text in _context(trace.observations)],
        "transcript": transcript(turns),
        "traces": [_trace(trace) for trace in traces],
        "session": {"id": session_id, "turns": turns},
        "expected": expected_of(traces[-1]) if traces else None,
    }


def transcript(turns: Iterable[Mapping[str, Any]]) -> str:
    """A conversation as text."""
    return "\n".join(f"User: {turn['question']}\nAssistant: {turn['answer']}" for turn in turns)


def _trace(trace: Trace) -> JSON:
    return {
        **{name: getattr(trace, name) for name in _TRACE},
        "output": _output(trace),
        "tags": list(trace.tags),
        "metadata": dict(trace.metadata),
        "models": list(trace.models),
        "error": {"type": trace.error.type, "message": trace.error.message} if trace.error else None,
        "duration_ms": _ms(trace.duration_us),
        "ttft_ms": _ms(trace.ttft_us),
        "cost": _dollars(trace.cost_total_nano),
        "usage": _usage(trace.usage),
        "observations": [_observation(item) for item in trace.observations],
        "documents": _documents(trace.observations),
    }


def _observation(item: Observation) -> JSON:
    return {
        **{name: getattr(item, name) for name in _OBSERVATION},
        "error": {"type": item.error.type, "message": item.error.message} if item.error else None,
        "duration_ms": _ms(item.duration_us),
        "ttft_ms": _ms(item.ttft_us),
        "cost": _dollars(item.cost.total_nano if item.cost else None),
        "usage": _usage(item.usage),
        "parameters": dict(item.parameters),
        "metadata": dict(item.metadata),
        "tags": list(item.tags),
        "finish_reasons": list(item.finish_reasons),
        "tool_calls": list(item.tool_calls),
        "tool_definitions": list(item.tool_definitions),
        "documents": [dict(document) for document in item.documents],
        "input_documents": [dict(document) for document in item.input_documents],
        "prompt": {"name": item.prompt.name, "version": item.prompt.version} if item.prompt else None,
    }


def _output(trace: Trace) -> Any:
    return trace.output if trace.output is not None else trace.received


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _dollars(nano: int | None) -> float | None:
    """For limits only: money is kept exact elsewhere."""
    return None if nano is None else nano / 1e9


def _usage(usage: Any) -> JSON | None:
    if usage is None:
        return None
    return {"input": usage.input_tokens, "output": usage.output_tokens, "cache_read": usage.cache_read_tokens}


def _documents(observations: Sequence[Observation]) -> list[JSON]:
    """The documents that were last put before a model: those a reranker kept, else those a search found."""
    for kind in _SOURCES:
        found = [item for item in observations if item.type == kind and item.documents]
        if found:
            return [dict(document) for document in found[-1].documents]
    return []


def _context(observations: Sequence[Observation]) -> list[str]:
    """Texts that an answer may rest on: documents, and what tools said."""
    tools = [said(item.output) for item in observations if item.type == "tool" and item.output is not None]
    return [text for text in (*_texts(_documents(observations)), *tools) if text]


def _texts(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    found = (document.get("content", document.get("text")) for document in documents)
    return [said(text) for text in found if text]


def _tools(observations: Sequence[Observation]) -> list[Any]:
    return next((list(item.tool_definitions) for item in observations if item.tool_definitions), [])


def said(value: Any) -> str:
    """The text of an output: of a message, of a list of messages or parts, or the JSON of anything else."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping):
        for name in ("content", "text", "answer", "output", "message"):
            if value.get(name):
                return said(value[name])
        if "parts" in value:
            return said(value["parts"])
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, Mapping)) for item in value):
        return "\n".join(filter(None, (said(item) for item in value)))
    return json.dumps(value, ensure_ascii=False, default=str)


def last_user_text(value: Any) -> str:
    """What the user asked: the last user message of a list of messages, else the text itself."""
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, (list, tuple)):
        asked = [item for item in value if isinstance(item, Mapping) and item.get("role") == "user"]
        return said(asked[-1]) if asked else said(value)
    if isinstance(value, Mapping):
        for name in ("question", "query", "prompt", "input", "message", "text"):
            if isinstance(value.get(name), str):
                return str(value[name])
    return said(value)
