"""Langfuse's SDK: `langfuse.observation.*` and `langfuse.trace.*`, values as JSON."""

from typing import Any, Final

from turntrace.pipeline.convert import otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.call import query_in, unwrap
from turntrace.pipeline.convert.document import complete_retrieval, documents, looks_like_documents
from turntrace.pipeline.convert.message import calls_in, definitions, plain_list
from turntrace.pipeline.convert.usage import from_object, set_cost, set_usage
from turntrace.pipeline.convert.value import instant_us, json_value, number, structured, text, texts
from turntrace.pipeline.convert.vocabulary import finish_reasons, kind_of, parameter
from turntrace.pipeline.draft import Draft, TraceHints
from turntrace.records.observation import PromptLink

_OWN: Final = "langfuse.observation."
_TRACE: Final = "langfuse.trace."
_LEVELS: Final = {"DEBUG": "debug", "DEFAULT": "default", "WARNING": "warning", "ERROR": "error"}


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from Langfuse attributes, gaps from GenAI ones."""
    kind = kind_of(bag.take(f"{_OWN}type"))
    _content(bag, draft)
    _model(bag, draft)
    _numbers(bag, draft)
    _context(bag, draft)
    otelgenai.read(bag, draft)
    draft.type = kind or draft.type
    _by_type(draft)
    _level(bag, draft)


def _content(bag: Bag, draft: Draft) -> None:
    given, answered = bag.structured(f"{_OWN}input"), bag.structured(f"{_OWN}output")
    given = unwrap(given)
    if isinstance(given, dict) and "tools" in given:
        draft.tool_definitions = definitions(given["tools"])
    asked: Any = given.get("messages") if isinstance(given, dict) else given
    draft.input = plain_list(asked) or given
    said: Any = [answered] if isinstance(answered, dict) and "role" in answered else answered
    messages = plain_list(said)
    draft.output = messages or answered
    draft.tool_calls = calls_in(messages or ())
    draft.metadata.update({name: json_value(value) for name, value in bag.under(f"{_OWN}metadata.").items()})
    draft.finish_reasons = finish_reasons(texts(draft.metadata.get("finish_reason")))


def _model(bag: Bag, draft: Draft) -> None:
    draft.model = bag.text(f"{_OWN}model.name")
    draft.model_requested = draft.model
    for name, value in bag.mapping(f"{_OWN}model.parameters").items():
        # The callback writes what was not set as this word.
        if value is not None and value != "Infinity":
            draft.parameters[parameter(name)] = value
    prompt, version = bag.text(f"{_OWN}prompt.name"), bag.take(f"{_OWN}prompt.version")
    if prompt is not None:
        draft.prompt = PromptLink(name=prompt, version=version if isinstance(version, int) else text(version))


def _numbers(bag: Bag, draft: Draft) -> None:
    stated = bag.mapping(f"{_OWN}usage_details")
    if stated:
        set_usage(draft, counts(stated))
    cost = bag.mapping(f"{_OWN}cost_details")
    if not (draft.span.status == "error" and not any(number(value) for value in cost.values())):
        set_cost(draft, total=cost.get("total"), input=cost.get("input"), output=cost.get("output"))
    first = instant_us(bag.take(f"{_OWN}completion_start_time"))
    if first is not None:
        draft.ttft_us = max(0, first - draft.started_at_us)


def counts(stated: dict[str, Any]) -> dict[str, Any]:
    """Counts of `usage_details`: a provider's own object, or buckets that exclude each other."""
    if "prompt_tokens" in stated or "completion_tokens" in stated:
        return from_object(stated)
    into = [value for name, value in stated.items() if name.startswith(("input", "cache_")) and _is_count(value)]
    out = [value for name, value in stated.items() if name.startswith("output") and _is_count(value)]
    found = {
        "input_tokens": sum(into) if into else None,
        "output_tokens": sum(out) if out else None,
        "cache_read_tokens": _pick(stated, "input_cache_read", "input_cached_tokens", "cache_read_input_tokens"),
        "cache_write_tokens": _pick(stated, "input_cache_creation", "cache_creation_input_tokens"),
        "reasoning_tokens": _pick(stated, "output_reasoning", "output_reasoning_tokens"),
        "input_audio_tokens": _pick(stated, "input_audio", "input_audio_tokens"),
        "output_audio_tokens": _pick(stated, "output_audio", "output_audio_tokens"),
    }
    by_ttl = [stated.get("input_cache_creation_5m"), stated.get("input_cache_creation_1h")]
    if any(_is_count(value) for value in by_ttl):
        written = sum(value for value in (found["cache_write_tokens"], *by_ttl) if _is_count(value))
        found["cache_write_tokens"], found["cache_write_1h_tokens"] = written, by_ttl[1]
    return found


def _is_count(value: Any) -> bool:
    return type(value) is int


def _pick(stated: dict[str, Any], *names: str) -> Any:
    return next((stated[name] for name in names if stated.get(name) is not None), None)


def _context(bag: Bag, draft: Draft) -> None:
    draft.session_id = bag.text("session.id", "langfuse.session.id")
    draft.user_id = bag.text("user.id", "langfuse.user.id")
    draft.tags = texts(bag.take(f"{_TRACE}tags"))
    shared = {name: json_value(value) for name, value in bag.under(f"{_TRACE}metadata.").items()}
    draft.metadata = {**shared, **draft.metadata}
    draft.hints = TraceHints(
        name=bag.text(f"{_TRACE}name"),
        input=bag.structured(f"{_TRACE}input"),
        output=bag.structured(f"{_TRACE}output"),
        environment=bag.text("langfuse.environment"),
        release=bag.text("langfuse.release"),
        metadata=shared,
    )
    bag.under("langfuse.internal.")


def _by_type(draft: Draft) -> None:
    if draft.type == "tool" and draft.tool_name is None:
        draft.tool_name = draft.name or None
    elif draft.type == "agent" and draft.agent_name is None:
        draft.agent_name = draft.name or None
    elif draft.type == "retrieval":
        draft.query = draft.query or query_in(draft.input)
        if not draft.documents and looks_like_documents(draft.output):
            draft.documents = documents(draft.output)
        complete_retrieval(draft)


def _level(bag: Bag, draft: Draft) -> None:
    level = bag.take(f"{_OWN}level")
    draft.level = _LEVELS.get(structured(level) if isinstance(level, str) else "", draft.level)
    draft.status_message = bag.text(f"{_OWN}status_message") or draft.status_message
    if draft.level == "error":
        draft.status = "error"
