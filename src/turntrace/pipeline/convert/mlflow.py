"""MLflow tracing: every attribute value is JSON text, content is the recorded call and its answer."""

from typing import Any, Final

from turntrace.pipeline.convert import response
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.call import query_in
from turntrace.pipeline.convert.document import complete_retrieval, documents, looks_like_documents
from turntrace.pipeline.convert.message import definitions, plain_list
from turntrace.pipeline.convert.timing import since_start
from turntrace.pipeline.convert.usage import from_object, set_cost, set_usage
from turntrace.pipeline.convert.value import json_value, mapping, text
from turntrace.pipeline.convert.vocabulary import kind_of, parameter, provider
from turntrace.pipeline.draft import Draft, TraceHints

_NOT_PARAMETERS: Final = frozenset({"model", "messages", "input", "prompt", "system", "tools", "self", "contents"})


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from MLflow attributes."""
    bag.decode = json_value
    draft.type = kind_of(bag.take("mlflow.spanType")) or draft.type
    given, answered = bag.take("mlflow.spanInputs"), bag.take("mlflow.spanOutputs")
    if draft.is_model_call:
        _model(bag, draft, mapping(given), answered)
    if draft.input is None:
        draft.input = given
    if draft.output is None:
        draft.output = answered
    _by_type(draft)
    _context(bag, draft)


def _model(bag: Bag, draft: Draft, given: dict[str, Any], answered: Any) -> None:
    draft.model_requested = bag.text("model") or text(given.get("model"))
    draft.model = bag.text("mlflow.llm.model") or text(mapping(answered).get("model")) or draft.model_requested
    draft.provider = provider(bag.take("mlflow.llm.provider"))
    for name, value in given.items():
        if name not in _NOT_PARAMETERS and value is not None:
            bag.take(name)
            draft.parameters[parameter(name)] = value
    draft.tool_definitions = definitions(bag.take("mlflow.chat.tools") or given.get("tools"))
    draft.input = plain_list(given.get("messages"))
    set_usage(draft, _counts(bag.take("mlflow.chat.tokenUsage")))
    cost = mapping(bag.take("mlflow.llm.cost"))
    set_cost(
        draft,
        total=cost.get("total_cost", cost.get("total")),
        input=cost.get("input_cost", cost.get("input")),
        output=cost.get("output_cost", cost.get("output")),
    )
    # An embedding's answer states usage too, but MLflow itself does not count it as the call's.
    response.fill(draft, answered, with_usage=draft.type == "generation")
    draft.ttft_us = since_start(draft, "mlflow.chunk.item.0")


def _counts(stated: Any) -> dict[str, Any]:
    return from_object(mapping(stated))


def _by_type(draft: Draft) -> None:
    if draft.type == "tool":
        draft.tool_name = draft.name or None
    elif draft.type == "agent":
        draft.agent_name = draft.name or None
    elif draft.type in ("retrieval", "reranker"):
        draft.query = query_in(draft.input)
        if looks_like_documents(draft.output):
            draft.documents = documents(draft.output)
        complete_retrieval(draft)


def _context(bag: Bag, draft: Draft) -> None:
    draft.session_id, draft.user_id = bag.text("mlflow.trace.session"), bag.text("mlflow.trace.user")
    tagged = {name: value for name, value in bag.under("mlflow.traceTag.").items() if not name.startswith("mlflow.")}
    draft.tags = tuple(f"{name}:{value}" for name, value in tagged.items())
    # A sum over the trace, the same on every one of its roots.
    aggregate = bag.take("mlflow.trace.tokenUsage")
    if aggregate is not None and not draft.is_model_call:
        set_usage(draft, _counts(aggregate))
    name = bag.text("mlflow.traceName")
    draft.hints = TraceHints(name=name) if name else None
    for unread in ("mlflow.traceRequestId", "mlflow.spanLogLevel", "mlflow.spanFunctionName", "mlflow.message.format"):
        bag.take(unread)
    bag.rest = {name: json_value(value) for name, value in bag.rest.items()}
