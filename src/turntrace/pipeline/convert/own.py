"""Our own spans: typed fields as the public interface names them."""

from collections.abc import Mapping
from typing import Any

from turntrace.pipeline.convert.document import complete_retrieval, documents
from turntrace.pipeline.convert.message import tool_calls
from turntrace.pipeline.convert.usage import from_object, set_cost, set_usage
from turntrace.pipeline.convert.value import text
from turntrace.pipeline.convert.vocabulary import finish_reasons, provider
from turntrace.pipeline.draft import Draft
from turntrace.records.observation import LEVELS, OBSERVATION_TYPES, PromptLink

_TEXTS = ("response_id", "service_tier", "tool_name", "tool_call_id", "agent_name", "query", "status_message")
_HANDLED = frozenset(
    (
        *_TEXTS,
        *("type", "level", "input", "output", "metadata", "tags", "model", "model_requested", "provider"),
        *("parameters", "usage", "cost", "finish_reason", "finish_reasons", "prompt", "tool_calls"),
        *("tool_definitions", "documents", "input_documents", "retrieval", "completion_started_us"),
    )
)


def read(own: Mapping[str, Any], draft: Draft) -> None:
    """Fill the draft from our own fields; a value of a wrong type is kept in the metadata and flagged."""
    for name, value in own.items():
        if value is None:
            continue
        reader = _READERS.get(name)
        if reader is None or not reader(draft, value):
            draft.metadata = {**draft.metadata, name: value}
            if name in _HANDLED:
                draft.flag(f"field_invalid:{name}")
    _complete(draft)


def _complete(draft: Draft) -> None:
    if draft.type == "tool" and draft.tool_name is None:
        draft.tool_name = draft.name or None
    if draft.type == "agent" and draft.agent_name is None:
        draft.agent_name = draft.name or None
    if draft.type in ("retrieval", "reranker"):
        if draft.query is None and isinstance(draft.input, str):
            draft.query = draft.input
        if not draft.documents and isinstance(draft.output, list):
            draft.documents = documents(draft.output)
        complete_retrieval(draft)
    if draft.model_requested is None:
        draft.model_requested = draft.model
    if draft.usage is not None and not draft.is_model_call:
        draft.usage_aggregate, draft.usage, draft.cost = draft.usage, None, None


def _text_into(name: str) -> Any:
    def read_text(draft: Draft, value: Any) -> bool:
        if text(value) is None:
            return False
        setattr(draft, name, text(value))
        return True

    return read_text


def _into(name: str, kind: type) -> Any:
    def read_value(draft: Draft, value: Any) -> bool:
        if not isinstance(value, kind):
            return False
        setattr(draft, name, value)
        return True

    return read_value


def _type(draft: Draft, value: Any) -> bool:
    if value not in OBSERVATION_TYPES:
        return False
    draft.type = value
    return True


def _level(draft: Draft, value: Any) -> bool:
    if value not in LEVELS:
        return False
    draft.level = value
    return True


def _provider(draft: Draft, value: Any) -> bool:
    draft.provider = provider(value)
    return draft.provider is not None


def _metadata(draft: Draft, value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    draft.metadata = {**draft.metadata, **value} if draft.metadata else value
    return True


def _tags(draft: Draft, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    draft.tags = tuple(str(item) for item in value)
    return True


def _usage(draft: Draft, value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    set_usage(draft, from_object(value), is_estimated=value.get("is_estimated") is True)
    return True


def _cost(draft: Draft, value: Any) -> bool:
    if isinstance(value, dict):
        set_cost(draft, total=value.get("total"), input=value.get("input"), output=value.get("output"))
    else:
        set_cost(draft, total=value)
    return True


def _finish(draft: Draft, value: Any) -> bool:
    draft.finish_reasons = finish_reasons(value if isinstance(value, list) else [value])
    return bool(draft.finish_reasons)


def _prompt(draft: Draft, value: Any) -> bool:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return False
    version, label, variables = value.get("version"), value.get("label"), value.get("variables")
    draft.prompt = PromptLink(
        name=value["name"],
        version=version if isinstance(version, (int, str)) else None,
        label=label if isinstance(label, str) else None,
        variables=variables if isinstance(variables, dict) else {},
    )
    return True


def _calls(draft: Draft, value: Any) -> bool:
    calls = tool_calls(value)
    draft.tool_calls = tuple(calls)
    return bool(calls) or value == []


def _definitions(draft: Draft, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    draft.tool_definitions = tuple(value)
    return True


def _documents_into(name: str) -> Any:
    def read_documents(draft: Draft, value: Any) -> bool:
        if not isinstance(value, list):
            return False
        setattr(draft, name, documents(value))
        return True

    return read_documents


def _anything_into(name: str) -> Any:
    def read_anything(draft: Draft, value: Any) -> bool:
        setattr(draft, name, value)
        return True

    return read_anything


def _completion_started(draft: Draft, value: Any) -> bool:
    """A length from the span's start; an instant since the epoch is taken as well."""
    if type(value) is not int:
        return False
    draft.ttft_us = value - draft.started_at_us if value >= draft.started_at_us > 0 else value
    return draft.ttft_us >= 0


_READERS: Mapping[str, Any] = {
    **{name: _text_into(name) for name in _TEXTS},
    "type": _type,
    "level": _level,
    "input": _anything_into("input"),
    "output": _anything_into("output"),
    "metadata": _metadata,
    "tags": _tags,
    "model": _text_into("model"),
    "model_requested": _text_into("model_requested"),
    "provider": _provider,
    "parameters": _into("parameters", dict),
    "usage": _usage,
    "cost": _cost,
    "finish_reason": _finish,
    "finish_reasons": _finish,
    "prompt": _prompt,
    "tool_calls": _calls,
    "tool_definitions": _definitions,
    "documents": _documents_into("documents"),
    "input_documents": _documents_into("input_documents"),
    "retrieval": _into("retrieval", dict),
    "completion_started_us": _completion_started,
}
