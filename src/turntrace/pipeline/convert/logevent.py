"""Content that arrives as events: on the span itself, or as log records joined to it (see `otlp.join_logs`)."""

from typing import Any

from turntrace import semconv
from turntrace.pipeline.convert import bedrock
from turntrace.pipeline.convert.message import Message, calls_in, definitions, from_parts, plain, plain_list
from turntrace.pipeline.convert.message import system_message as system_of
from turntrace.pipeline.convert.value import structured
from turntrace.pipeline.convert.vocabulary import finish_reasons
from turntrace.pipeline.draft import Draft
from turntrace.records.fragment import SpanEvent

# The attribute under which the body of a joined log record travels.
BODY = semconv.LOG_BODY
_DETAILS = "gen_ai.client.inference.operation.details"
_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}


def read_events(draft: Draft) -> None:
    """Fill input and output from events, where the attributes left them empty."""
    if not draft.span.events:
        return
    events = sorted(draft.span.events, key=lambda event: event.at_us)
    given: list[Message] = []
    answered: list[Message] = []
    for event in events:
        _collect(event, given, answered, draft)
    if draft.type == "tool":  # the one message each way is what it was given and what it said
        _unwrap(draft, given, answered)
    if draft.input is None and given:
        draft.input = given
    if draft.output is None and answered:
        draft.output = answered
    if not draft.tool_calls:
        draft.tool_calls = calls_in(answered)


def _unwrap(draft: Draft, given: list[Message], answered: list[Message]) -> None:
    if draft.input is None and len(given) == 1:
        draft.input = given.pop().get("content")
    if draft.output is None and len(answered) == 1:
        draft.output = answered.pop().get("content")


def _collect(event: SpanEvent, given: list[Message], answered: list[Message], draft: Draft) -> None:
    if event.name == _DETAILS:
        _details(event, given, answered, draft)
    elif event.name == "gen_ai.choice":
        _choice(event, answered, draft)
    elif event.name in _ROLES:
        given += _said(_ROLES[event.name], _body(event))
    elif event.name == "gen_ai.content.prompt":
        given += _content(event.attributes.get("gen_ai.prompt"), "user")
    elif event.name == "gen_ai.content.completion":
        answered += _content(event.attributes.get("gen_ai.completion"), "assistant")


def _said(role: str, body: dict[str, Any]) -> list[Message]:
    blocks = bedrock.parts(structured(body.get("content")))
    return [plain({"role": role, **body})] if blocks is None else from_parts([{"role": role, "parts": blocks}])


def _body(event: SpanEvent) -> dict[str, Any]:
    """The body of a log record; older instrumentations put its fields on a span event."""
    body = structured(event.attributes.get(BODY))
    if isinstance(body, dict):
        return body
    fields = {name: structured(value) for name, value in event.attributes.items() if name != BODY}
    return {**fields, "content": body} if body is not None else fields


def _details(event: SpanEvent, given: list[Message], answered: list[Message], draft: Draft) -> None:
    values = {**event.attributes, **_body(event)}
    given += system_of(values.get("gen_ai.system_instructions"))
    given += from_parts(values.get("gen_ai.input.messages"))
    answered += from_parts(values.get("gen_ai.output.messages"))
    if not draft.tool_definitions:
        draft.tool_definitions = definitions(values.get("gen_ai.tool.definitions"))


def _choice(event: SpanEvent, answered: list[Message], draft: Draft) -> None:
    body = _body(event)
    message = structured(body.get("message"))
    blocks = bedrock.parts(message)
    if blocks is not None:
        answered += from_parts([{"role": "assistant", "parts": blocks}])
    elif isinstance(message, str):
        answered.append({"role": "assistant", "content": message})
    else:
        answered.append(plain({"role": "assistant", **message} if isinstance(message, dict) else body))
    if not draft.finish_reasons:
        draft.finish_reasons = finish_reasons([body.get("finish_reason")])


def _content(value: Any, role: str) -> list[Message]:
    if value is None:
        return []
    return plain_list(value) or [{"role": role, "content": structured(value)}]
