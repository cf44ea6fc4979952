"""OpenLLMetry (Traceloop): flat indexed content in older releases, GenAI conventions in newer ones, SDK decorators."""

from typing import Any, Final

from turntrace.pipeline.convert import otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.call import query_in, unwrap
from turntrace.pipeline.convert.document import complete_retrieval, document
from turntrace.pipeline.convert.message import calls_in, definition, from_flat
from turntrace.pipeline.convert.timing import since_start
from turntrace.pipeline.convert.value import structured, text
from turntrace.pipeline.convert.vocabulary import finish_reasons, kind_of
from turntrace.pipeline.draft import Draft, TraceHints
from turntrace.pipeline.noise import is_vector_query
from turntrace.records.observation import PromptLink

_REQUEST_TYPES: Final = {
    "chat": "generation",
    "completion": "generation",
    "embedding": "embedding",
    "rerank": "reranker",
}
_PARAMETERS: Final = ("llm.top_k", "llm.frequency_penalty", "llm.presence_penalty", "llm.chat.stop_sequences")
_CHUNKS: Final = ("gen_ai.content.completion.chunk", "llm.content.completion.chunk")
_PROPERTIES: Final = "traceloop.association.properties."


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from Traceloop's own attributes, then from the GenAI conventions it follows."""
    request_type = kind_of(bag.take("llm.request.type"), _REQUEST_TYPES)
    kind = kind_of(bag.take("traceloop.span.kind"))
    bag.take("llm.headers")
    _flat(bag, draft)
    _entity(bag, draft, kind or request_type)
    otelgenai.read(bag, draft)
    # The operation is the more exact word; the kind of a decorator is the less so.
    if draft.type == "span":
        draft.type = request_type or kind or ("retrieval" if is_vector_query(draft.span) else "span")
    draft.ttft_us = draft.ttft_us or since_start(draft, *_CHUNKS)
    if draft.type == "retrieval":
        _retrieval(bag, draft)


def _flat(bag: Bag, draft: Draft) -> None:
    """`gen_ai.prompt.<n>.…` and `gen_ai.completion.<n>.…`; names without an index are left for other readers."""
    kept: dict[str, Any] = {name: bag.rest.pop(name) for name in _UNINDEXED if name in bag.rest}
    asked, said = bag.indexed("gen_ai.prompt."), bag.indexed("gen_ai.completion.")
    bag.rest.update(kept)
    if asked:
        draft.input = from_flat(asked)
    if said:
        answered = from_flat(said)
        draft.output, draft.tool_calls = answered, calls_in(answered)
        draft.finish_reasons = finish_reasons(row.get("finish_reason") for row in said)
    functions = bag.indexed("llm.request.functions.")
    draft.tool_definitions = tuple(definition(function) for function in functions)
    for name in _PARAMETERS:
        value = bag.take(name)
        if value is not None:
            plain = "stop" if name.endswith("stop_sequences") else name.rpartition(".")[2]
            draft.parameters[plain] = structured(value) if plain == "stop" else value


_UNINDEXED: Final = ("gen_ai.prompt.name", "gen_ai.prompt.version")


def _entity(bag: Bag, draft: Draft, kind: str | None) -> None:
    name = bag.text("traceloop.entity.name")
    given, answered = bag.structured("traceloop.entity.input"), bag.structured("traceloop.entity.output")
    if given is not None and draft.input is None:
        draft.input = unwrap(given)
    if answered is not None and draft.output is None:
        draft.output = answered
    if kind == "tool":
        draft.tool_name = name
    elif kind == "agent":
        draft.agent_name = name
    workflow = bag.text("traceloop.workflow.name")
    draft.hints = TraceHints(name=workflow) if workflow else None
    _properties(bag, draft)
    key, version = bag.text("traceloop.prompt.key"), bag.take("traceloop.prompt.version")
    if key is not None:
        draft.prompt = PromptLink(name=key, version=version if isinstance(version, int) else text(version))


def _properties(bag: Bag, draft: Draft) -> None:
    properties: dict[str, Any] = bag.under(_PROPERTIES)
    draft.user_id = text(properties.pop("user_id", None)) or bag.text("gen_ai.user")
    session = text(properties.pop("session_id", None))
    draft.session_id = session or text(properties.pop("thread_id", None))
    draft.metadata = {**draft.metadata, **properties}


def _retrieval(bag: Bag, draft: Draft) -> None:
    events = [event for event in draft.span.events if event.name in ("db.query.result", "db.search.result")]
    if events and not draft.documents:
        draft.documents = tuple(document(_plain(event.name, event.attributes)) for event in events)
    draft.query = draft.query or query_in(draft.input)
    complete_retrieval(draft, top_k=bag.take("db.vector.query.top_k"))


def _plain(prefix: str, attributes: dict[str, Any]) -> dict[str, Any]:
    short = {name.removeprefix(f"{prefix}."): value for name, value in attributes.items()}
    short.pop("vector", None)
    if "document" in short:
        short["content"] = short.pop("document")
    return short
