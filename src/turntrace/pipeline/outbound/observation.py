"""One observation as a span: name and attributes by the GenAI conventions, the rest under `turntrace.observation.`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from turntrace import semconv
from turntrace.pipeline.convert.message import calls_in, definitions
from turntrace.pipeline.convert.value import structured
from turntrace.pipeline.convert.vocabulary import parameter
from turntrace.pipeline.outbound.text import answered, as_json, given, instant, messages, plain
from turntrace.pipeline.outbound.wire import Event, Span
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.trace import Trace
from turntrace.records.usage import Usage, to_decimal

Attributes = dict[str, Any]

_OPERATIONS: Final[Mapping[str, str]] = {
    "generation": "chat",
    "embedding": "embeddings",
    "retrieval": "retrieval",
    "reranker": "rerank",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "chain": "invoke_workflow",
}
# The conventions have no operation for some types, and backends know these names for all.
_KINDS: Final[Mapping[str, str]] = {
    "generation": "LLM",
    "embedding": "EMBEDDING",
    "retrieval": "RETRIEVER",
    "reranker": "RERANKER",
    "tool": "TOOL",
    "agent": "AGENT",
    "chain": "CHAIN",
    "guardrail": "GUARDRAIL",
    "evaluator": "EVALUATOR",
}
# Those that call out of the process; everything else happens inside.
_CLIENTS: Final = frozenset({"generation", "embedding", "reranker"})
_REQUEST_NAMES: Final = {"stop": "stop_sequences", "n": "choice.count"}


def span_of(item: Observation, trace: Trace) -> Span:
    """The span of an observation of this turn."""
    attributes = {**_identity(item, trace), **_call(item), **_own(item), **_CONTENT.get(item.type, _step)(item)}
    error = error_event(item.error, item.started_at_us + (item.duration_us or 0))
    if item.error is not None:
        attributes[semconv.ERROR_TYPE] = item.error.type
    return Span(
        trace_id=item.trace_id,
        span_id=item.span_id,
        parent_span_id=item.parent_span_id or trace.span_id,
        name=span_name(item),
        kind="client" if item.type in _CLIENTS else "internal",
        started_at_us=item.started_at_us,
        ended_at_us=item.started_at_us + (item.duration_us or 0),
        status="error" if item.status == "error" else "unset",
        status_message=item.status_message if item.status == "error" else None,
        attributes=attributes,
        events=(error,) if error else (),
    )


def span_name(item: Observation) -> str:
    """`{operation} {what}`, or the observation's own name where the conventions have no operation for it."""
    operation = _OPERATIONS.get(item.type)
    if operation is None:
        return item.name or item.type
    whats = {
        "retrieval": (item.retrieval or {}).get("data_source"),
        "tool": item.tool_name,
        "agent": item.agent_name,
        "chain": item.name,
    }
    what = whats.get(item.type, item.model_requested or item.model)
    return f"{operation} {what}" if what else operation


def error_event(error: ErrorInfo | None, at_us: int) -> Event | None:
    """An error as the exception event of a span."""
    if error is None:
        return None
    described = {
        semconv.EXCEPTION_TYPE: error.type,
        semconv.EXCEPTION_MESSAGE: error.message,
        semconv.EXCEPTION_STACKTRACE: error.stack,
    }
    return Event(name=semconv.EXCEPTION_EVENT, at_us=at_us, attributes=described)


def _identity(item: Observation, trace: Trace) -> Attributes:
    session_id, user_id = item.session_id or trace.session_id, item.user_id or trace.user_id
    return {
        semconv.OPERATION_NAME: _OPERATIONS.get(item.type),
        semconv.OPENINFERENCE_KIND: _KINDS.get(item.type),
        semconv.CONVERSATION_ID: session_id,
        semconv.SESSION_ID: session_id,
        semconv.USER_ID: user_id,
        semconv.AGENT_NAME: item.agent_name,
        semconv.TOOL_NAME: item.tool_name,
        semconv.TOOL_CALL_ID: item.tool_call_id,
        **_prompt(item.prompt),
    }


def _prompt(prompt: PromptLink | None) -> Attributes:
    if prompt is None or not prompt.name:
        return {}
    variables = {semconv.PROMPT_VARIABLE + name: plain(value) for name, value in prompt.variables.items()}
    return {semconv.PROMPT_NAME: prompt.name, semconv.PROMPT_VERSION: prompt.version, **variables}


def _call(item: Observation) -> Attributes:
    """What there is to say of a model call, whatever the type of the step that made it."""
    ttft_us = item.ttft_us
    return {
        semconv.PROVIDER_NAME: item.provider,
        semconv.REQUEST_MODEL: item.model_requested or item.model,
        semconv.RESPONSE_MODEL: item.model,
        semconv.RESPONSE_ID: item.response_id,
        semconv.RESPONSE_TIER: item.service_tier,
        semconv.RESPONSE_FINISH_REASONS: list(item.finish_reasons) or None,
        semconv.TIME_TO_FIRST_CHUNK: None if ttft_us is None else ttft_us / 1_000_000,
        semconv.LANGFUSE_FIRST_AT: None if ttft_us is None else instant(item.started_at_us + ttft_us),
        semconv.TOOL_DEFINITIONS: as_json(list(item.tool_definitions)) if item.tool_definitions else None,
        **_parameters(item),
        **_usage(item.usage, semconv.USAGE),
        **_usage(item.usage_aggregate, _AGGREGATED),
        semconv.USAGE_COST: float(to_decimal(item.cost.total_nano) or 0) if item.cost else None,
    }


_AGGREGATED: Final = {
    field: semconv.USAGE_AGGREGATED + name.removeprefix("gen_ai.usage.") for field, name in semconv.USAGE.items()
}


def _parameters(item: Observation) -> Attributes:
    found: Attributes = {}
    for name, value in item.parameters.items():
        if parameter(name) == "output_type":
            found[semconv.OUTPUT_TYPE] = value
        elif parameter(name) not in ("model", "model_requested"):
            found[semconv.REQUEST + _REQUEST_NAMES.get(name, name)] = value
    return found


def _usage(usage: Usage | None, names: Mapping[str, str]) -> Attributes:
    return {name: getattr(usage, field) for field, name in names.items()} if usage is not None else {}


def _own(item: Observation) -> Attributes:
    """What no convention names."""
    usage, prompt, cost = item.usage, item.prompt, item.cost
    told = {
        "type": item.type,
        "name": item.name if item.name != span_name(item) else None,
        "level": item.level if item.level not in ("default", item.status) else None,
        "status_message": item.status_message if item.status != "error" else None,
        "model_requested": "" if item.model_requested is None and item.model is not None else None,
        "is_open": item.is_open or None,
        "scope": item.scope,
        "tags": list(item.tags) or None,
        "metadata": as_json(dict(item.metadata)) if item.metadata else None,
        "prompt": as_json(asdict(prompt)) if prompt and not prompt.name else None,
        "prompt_label": prompt.label if prompt and prompt.name else None,
        "usage_details": as_json(dict(usage.details)) if usage and usage.details else None,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens if usage else None,
        "is_usage_estimated": (usage.is_estimated or None) if usage else None,
        "cost": as_json(asdict(cost)) if cost else None,
    }
    if definitions(list(item.tool_definitions)) != item.tool_definitions:
        told["tool_definitions"] = as_json(list(item.tool_definitions))
    if not all(map(_is_canonical, item.parameters.items())):
        told["parameters"] = as_json(dict(item.parameters))
    if item.tool_calls and calls_in(item.output if isinstance(item.output, list) else ()) != item.tool_calls:
        told["tool_calls"] = as_json(list(item.tool_calls))
    return {semconv.OWN_PREFIX + name: value for name, value in told.items()}


def _is_canonical(stated: tuple[str, Any]) -> bool:
    """Whether a parameter comes back as it went: under its own name, and not taken apart."""
    name, value = stated
    is_plain = isinstance(value, (list, tuple)) if name == "stop" else not isinstance(value, (str, dict))
    return parameter(name) == name and (is_plain or (isinstance(value, str) and structured(value) == value))


def _spoken(item: Observation) -> Attributes:
    """Messages in and out; where one of them is none, or would not come back the same, both as they are, too.

    Both, because backends that find one of the two values (Langfuse) look for no messages any more.
    """
    asked, is_exact = messages(item.input, "user")
    said, is_said = messages(item.output, "assistant")
    found = {semconv.INPUT_MESSAGES: asked, semconv.OUTPUT_MESSAGES: said}
    return found if is_exact and is_said else {**found, **given(item.input), **answered(item.output)}


def _called(item: Observation) -> Attributes:
    return {semconv.TOOL_CALL_ARGUMENTS: plain(item.input), semconv.TOOL_CALL_RESULT: plain(item.output)}


def _found(item: Observation) -> Attributes:
    facts = dict(item.retrieval or {})
    source, top_k = facts.pop("data_source", None), facts.pop("top_k", None)
    counted = {f"{semconv.OWN_PREFIX}retrieval.{name}": value for name, value in facts.items()}
    offered = as_json(list(item.input_documents)) if item.input_documents else None
    return {
        **_step(item),
        **counted,
        semconv.DATA_SOURCE_ID: source,
        semconv.RETRIEVAL_TOP_K: top_k,
        semconv.RETRIEVAL_QUERY: item.query,
        semconv.RETRIEVAL_DOCUMENTS: as_json(list(item.documents)) if item.documents else None,
        f"{semconv.OWN_PREFIX}input_documents": offered,
    }


def _step(item: Observation) -> Attributes:
    workflow = {semconv.WORKFLOW_NAME: item.name} if item.type == "chain" else {}
    return {**given(item.input), **answered(item.output), **workflow}


_CONTENT: Final[Mapping[str, Callable[[Observation], Attributes]]] = {
    "generation": _spoken,
    "agent": _spoken,
    "tool": _called,
    "retrieval": _found,
    "reranker": _found,
}
