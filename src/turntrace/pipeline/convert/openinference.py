"""OpenInference (Phoenix): `openinference.span.kind`, flattened messages, documents by index."""

from typing import Any, Final

from turntrace.pipeline.convert import otelgenai, response
from turntrace.pipeline.convert.bag import Bag, nested
from turntrace.pipeline.convert.call import query_in
from turntrace.pipeline.convert.document import complete_retrieval, document
from turntrace.pipeline.convert.message import (
    Message,
    calls_in,
    definition,
    from_flat,
    join_assistant,
    tool_call,
)
from turntrace.pipeline.convert.timing import since_start
from turntrace.pipeline.convert.usage import set_cost, set_usage
from turntrace.pipeline.convert.value import mapping, structured, text, texts
from turntrace.pipeline.convert.vocabulary import finish_reasons, kind_of, parameter, provider
from turntrace.pipeline.draft import Draft
from turntrace.records.observation import PromptLink

_USAGE: Final = {
    "input_tokens": ("llm.token_count.prompt",),
    "output_tokens": ("llm.token_count.completion",),
    "cache_read_tokens": (
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
    ),
    "cache_write_tokens": ("llm.token_count.prompt_details.cache_write",),
    "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
    "input_audio_tokens": ("llm.token_count.prompt_details.audio",),
    "output_audio_tokens": ("llm.token_count.completion_details.audio",),
}
_NOT_PARAMETERS: Final = frozenset({"model", "model_name", "tools", "_type", "messages", "functions"})
_FIRST_CHUNK: Final = "First Token Stream Event"


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from OpenInference attributes."""
    draft.type = kind_of(bag.take("openinference.span.kind")) or draft.type
    if draft.type == "generation" and "._" in draft.name and (draft.span.scope or "").endswith(".llama_index"):
        draft.type = "chain"  # a method that prepares a call: llama-index describes every method of a model as one
    given, answered = bag.structured("input.value"), bag.structured("output.value")
    bag.take("input.mime_type", "output.mime_type")
    _names(bag, draft, mapping(given))
    _numbers(bag, draft)
    _content(bag, draft, given, answered)
    _documents(bag, draft, given)
    _tool_and_agent(bag, draft)
    _context(bag, draft)
    draft.ttft_us = draft.ttft_us or since_start(draft, _FIRST_CHUNK)
    if draft.is_model_call:
        response.fill(draft, answered, with_usage=False)
    if any(name.startswith("gen_ai.") for name in bag.rest):
        _conventions(bag, draft)


def _conventions(bag: Bag, draft: Draft) -> None:
    """What the GenAI conventions say on the same span fills gaps: applications add the kind to spans of others."""
    other = Draft(span=draft.span, name=draft.name, started_at_us=draft.started_at_us, duration_us=draft.duration_us)
    other.type = draft.type
    otelgenai.read(bag, other)
    for name in _FILLED:
        if not getattr(draft, name):
            setattr(draft, name, getattr(other, name))
    draft.parameters = {**other.parameters, **draft.parameters}


_FILLED: Final = (
    *("model_requested", "model", "provider", "response_id", "service_tier", "finish_reasons", "usage", "cost"),
    *("ttft_us", "input", "output", "tool_calls", "tool_definitions", "tool_name", "tool_call_id", "query"),
    *("documents", "agent_name", "session_id", "user_id", "prompt", "tags"),
)


def _names(bag: Bag, draft: Draft, given: dict[str, Any]) -> None:
    stated = {
        **bag.mapping("embedding.invocation_parameters"),
        **bag.mapping("llm.invocation_parameters"),
    }
    requested = bag.text("llm.request.model_name", "llm.input_model_name")
    requested = requested or text(stated.get("model")) or (text(given.get("model")) if draft.is_model_call else None)
    answered = bag.text(
        "llm.response.model_name",
        "llm.output_model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    )
    draft.model_requested = requested or answered
    draft.model = answered or requested
    draft.provider = provider(bag.take("llm.provider", "llm.system"))
    for name, value in stated.items():
        if name not in _NOT_PARAMETERS and value is not None:
            draft.parameters.setdefault(parameter(name), value)
    tools = [row.get("tool.json_schema", row.get("")) for row in bag.indexed("llm.tools.")]
    draft.tool_definitions = tuple(definition(tool) for tool in tools or stated.get("tools") or ())


def _numbers(bag: Bag, draft: Draft) -> None:
    stated = {field: bag.take(*names) for field, names in _USAGE.items()}
    bag.under("llm.token_count.")
    set_usage(draft, stated)
    cost = bag.under("llm.cost.")
    set_cost(draft, total=cost.get("total"), input=cost.get("prompt"), output=cost.get("completion"))
    draft.finish_reasons = finish_reasons(texts(bag.take("llm.finish_reason", "llm.stop_reason")))


def _content(bag: Bag, draft: Draft, given: Any, answered: Any) -> None:
    """Messages for model calls; other kinds repeat some of them, their values say more."""
    asked, said = bag.indexed("llm.input_messages."), bag.indexed("llm.output_messages.")
    prompts, choices = bag.indexed("llm.prompts."), bag.indexed("llm.choices.")
    embedded = bag.indexed("embedding.embeddings.")
    if draft.type == "generation":
        draft.input = _messages(asked) or _texts_of(prompts, "prompt.text") or draft.input
        draft.output = join_assistant(_messages(said)) or _texts_of(choices, "completion.text") or draft.output
        _answered(draft, said)
    elif draft.type == "embedding":
        draft.input = _texts_of(embedded, "embedding.text") or draft.input
    if draft.input is None:
        draft.input = given
    if draft.output is None and not (draft.type == "generation" and response.messages_of(answered)):
        draft.output = answered


def _answered(draft: Draft, said: list[dict[str, Any]]) -> None:
    if isinstance(draft.output, list):
        draft.tool_calls = calls_in(draft.output)
    if not draft.finish_reasons:
        draft.finish_reasons = finish_reasons(row.get("message.finish_reason") for row in said)


def _messages(rows: list[dict[str, Any]]) -> list[Message]:
    return [_message(_without(row, "message.")) for row in rows]


def _message(row: dict[str, Any]) -> Message:
    parts = [_part(_without(fields, "message_content.")) for fields in nested(row, "contents.")]
    message = from_flat([row], call_prefix="tool_call.")[0]
    if not parts:
        return message
    # Anthropic repeats a tool call among the contents: it is listed once.
    known = {call["id"] for call in message.get("tool_calls", ())}
    calls = [call for call in (tool_call(part) for part in parts if part.get("type") == "tool_use") if call]
    added = [call for call in calls if call["id"] not in known]
    if added:
        message["tool_calls"] = [*message.get("tool_calls", ()), *added]
    rest = [part for part in parts if part.get("type") != "tool_use"]
    found = [part.get("text") for part in rest]
    is_text = all(isinstance(item, str) for item in found)
    message["content"] = ("\n".join(map(str, found)) or message.get("content")) if is_text else rest
    return message


def _part(fields: dict[str, Any]) -> dict[str, Any]:
    url = fields.pop("image.image.url", None)
    return {**fields, "image_url": {"url": url}} if url is not None else fields


def _without(row: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items()}


def _texts_of(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row.get(name) is not None]


def _documents(bag: Bag, draft: Draft, given: Any) -> None:
    found = bag.indexed("retrieval.documents.") or bag.indexed("reranker.output_documents.")
    draft.documents = tuple(document(_without(row, "document.")) for row in found)
    before = bag.indexed("reranker.input_documents.")
    draft.input_documents = tuple(document(_without(row, "document.")) for row in before)
    query, top_k = bag.text("reranker.query"), bag.take("reranker.top_k")
    if draft.type in ("retrieval", "reranker"):
        draft.query = query or query_in(given)
        complete_retrieval(draft, top_k=top_k)


def _tool_and_agent(bag: Bag, draft: Draft) -> None:
    name, call_id = bag.text("tool.name"), bag.text("tool.id", "tool_call.id")
    agent = bag.text("agent.name", "graph.node.name")
    if draft.type == "tool":
        draft.tool_name, draft.tool_call_id = name or draft.name, call_id
        _tool_result(draft)
    if draft.type == "agent":
        draft.agent_name = agent or draft.name or None
    elif agent is not None:
        draft.agent_name = agent


def _tool_result(draft: Draft) -> None:
    """langchain records the tool message; its content is the result."""
    output = draft.output
    if isinstance(output, dict) and output.get("type") == "tool" and isinstance(output.get("data"), dict):
        draft.output = structured(output["data"].get("content"))
        draft.tool_call_id = draft.tool_call_id or text(output["data"].get("tool_call_id"))


def _context(bag: Bag, draft: Draft) -> None:
    draft.session_id, draft.user_id = bag.text("session.id"), bag.text("user.id", "enduser.id")
    draft.tags = texts(bag.take("tag.tags"))
    draft.metadata = {**draft.metadata, **mapping(bag.take("metadata"))}
    name, version = bag.text("prompt.id"), bag.text("llm.prompt_template.version", "prompt.version")
    template, variables = bag.take("llm.prompt_template.template"), bag.take("llm.prompt_template.variables")
    if name or version:
        draft.prompt = PromptLink(name=name or "", version=version, variables=mapping(variables))
    if template is not None:
        draft.metadata["prompt_template"] = template
