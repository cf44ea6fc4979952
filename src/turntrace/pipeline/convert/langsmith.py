"""LangSmith's export to OpenTelemetry: the kind of a run, its metadata, and what langchain recorded as JSON."""

from typing import Any, Final

from turntrace.pipeline.convert import langchain
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.call import query_in
from turntrace.pipeline.convert.document import complete_retrieval, documents
from turntrace.pipeline.convert.message import definitions
from turntrace.pipeline.convert.usage import set_usage
from turntrace.pipeline.convert.value import mapping, structured, text
from turntrace.pipeline.convert.vocabulary import finish_reasons, kind_of, provider
from turntrace.pipeline.draft import Draft

_METADATA: Final = "langsmith.metadata."
_PARAMETERS: Final = {"ls_temperature": "temperature", "ls_max_tokens": "max_tokens", "ls_stop": "stop"}
_USAGE: Final = {"input_tokens": "gen_ai.usage.input_tokens", "output_tokens": "gen_ai.usage.output_tokens"}


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft; `gen_ai.operation.name` is left aside, for a retriever's says `embeddings`."""
    draft.type = kind_of(bag.take("langsmith.span.kind")) or draft.type
    bag.take("gen_ai.operation.name", "langsmith.trace.name", "langsmith.trace.session_name")
    facts = {name: value for name, value in bag.under(_METADATA).items() if not name.startswith("LANGSMITH_")}
    _context(bag, draft, facts)
    given, answered = bag.structured("gen_ai.prompt"), bag.structured("gen_ai.completion")
    if draft.is_model_call:
        _call(bag, draft, facts, given, answered)
    else:
        bag.take("gen_ai.system")
        _step(draft, given, answered)
    draft.tool_name = bag.text("gen_ai.tool.name") or (draft.name if draft.type == "tool" else None)
    draft.tool_call_id = bag.text("gen_ai.tool.call.id")
    draft.metadata = {**draft.metadata, **facts}


def _context(bag: Bag, draft: Draft, facts: dict[str, Any]) -> None:
    sessions = [text(facts.pop(name, None)) for name in ("session_id", "conversation_id", "thread_id")]
    draft.session_id = next(filter(None, sessions), None)
    draft.user_id = text(facts.pop("user_id", None))
    tags = bag.text("langsmith.span.tags")
    # Tags of the framework's own steps (`seq:step:1`, `graph:step:2`) say where a run stood, not what it is.
    draft.tags = tuple(tag for tag in (tags or "").split(", ") if tag and ":step:" not in tag)
    agent = text(facts.get("lc_agent_name"))
    if agent is not None and draft.type == "chain" and draft.name == agent:
        draft.type, draft.agent_name = "agent", agent


def _call(bag: Bag, draft: Draft, facts: dict[str, Any], given: Any, answered: Any) -> None:
    said, told = langchain.answer(answered)
    draft.provider = provider(facts.pop("ls_provider", None)) or provider(bag.take("gen_ai.system"))
    draft.model_requested = bag.text("gen_ai.request.model") or text(facts.get("ls_model_name"))
    draft.model = bag.text("gen_ai.response.model") or text(told.get("model_name")) or draft.model_requested
    draft.response_id = bag.text("gen_ai.response.id") or text(told.get("id"))
    draft.service_tier = text(told.get("service_tier"))
    draft.finish_reasons = finish_reasons([told.get("finish_reason") or told.get("stop_reason")])
    for name, plain in _PARAMETERS.items():
        value = facts.pop(name, None)
        if value is not None:
            draft.parameters[plain] = structured(value)
    draft.tool_definitions = definitions(bag.take("gen_ai.tool.definitions"))
    counts = {name: bag.take(attribute) for name, attribute in _USAGE.items()}
    bag.take("gen_ai.usage.total_tokens")
    detailed = langchain.usage(facts.pop("usage_metadata", None) or told.get("usage_metadata"))
    set_usage(draft, {**counts, **{name: count for name, count in detailed.items() if count is not None}})
    draft.input = langchain.messages(mapping(given).get("messages")) or given
    draft.output = answered if said is None else [said]
    draft.tool_calls = tuple(said.get("tool_calls", ())) if said is not None else ()


def _step(draft: Draft, given: Any, answered: Any) -> None:
    """A chain, tool, agent or retrieval: messages where it passes messages on."""
    asked, said = mapping(given), mapping(answered)
    draft.input = langchain.messages(asked.get("messages")) or given
    passed_on = langchain.messages(said.get("messages"))
    # What a graph hands on begins with what it was given: its answer is the last of them.
    draft.output = passed_on[-1:] if passed_on else said.get("output", answered)
    if draft.type == "tool" and isinstance(draft.output, dict):
        draft.output = draft.output.get("content", draft.output)
    if draft.type == "retrieval":
        draft.query = query_in(asked)
        draft.documents = documents(said.get("documents"))
        complete_retrieval(draft)
