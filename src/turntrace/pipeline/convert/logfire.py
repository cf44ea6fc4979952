"""What Logfire's own instrumentations add to the GenAI conventions: requests, answers and events as they were."""

from dataclasses import replace
from typing import Any, Final

from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.message import Message, calls_in, plain, plain_list, tool_calls
from turntrace.pipeline.convert.otelgenai import USAGE
from turntrace.pipeline.convert.usage import from_object, set_usage
from turntrace.pipeline.convert.value import items, text
from turntrace.pipeline.convert.vocabulary import parameter
from turntrace.pipeline.draft import Draft

_PARTIAL: Final = "gen_ai.usage.partial."
_CHOICE: Final = "gen_ai.choice"
# Content of a request; the rest of it are parameters.
_CONTENT: Final = frozenset(
    {"messages", "model", "prompt", "input", "system", "instructions", "tools", "metadata", "user"},
)


def read(bag: Bag, draft: Draft) -> None:
    """Fill what the attributes of the conventions left open."""
    asked, said = bag.mapping("request_data"), bag.mapping("response_data")
    bag.take("gen_ai.usage.raw", "raw_input")
    draft.response_id = draft.response_id or bag.text("response_id")
    if isinstance(bag.peek("usage"), (dict, str)):  # of the agents SDK: it has the cached tokens, the attributes do not
        stated = {name: value for name, value in bag.mapping("usage").items() if name != "requests"}
        set_usage(draft, from_object(stated))
    given, answered = _spoken(items(bag.take("events")))
    if draft.input is None:
        draft.input = given or _asked(asked)
    if draft.output is None:
        draft.output = answered or _answer(said)
    if not draft.tool_calls and isinstance(draft.output, list):
        draft.tool_calls = calls_in([message for message in draft.output if isinstance(message, dict)])
    for name, value in asked.items():
        if name not in _CONTENT:
            draft.parameters.setdefault(parameter(name), value)
    _partial_usage(bag, draft)


def _spoken(events: list[Any]) -> tuple[list[Message], list[Message]]:
    """What went in and what came out: choices, else the assistant's words that nobody answered any more."""
    given: list[Message] = []
    answered: list[Message] = []
    for event in events:
        if not isinstance(event, dict):
            continue
        message = event.get("message")
        if event.get("event.name") == _CHOICE or isinstance(message, dict):
            answered += plain_list([message if isinstance(message, dict) else _bare(event)]) or []
        else:
            given += plain_list([_bare(event)]) or []
    if not answered:
        while given and given[-1].get("role") == "assistant":
            answered.insert(0, given.pop())
    return given, answered


def _bare(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event.name"}


def _asked(request: dict[str, Any]) -> Any:
    system = text(request.get("system")) or text(request.get("instructions"))
    messages = plain_list(request.get("messages"))
    if messages:
        return [*([{"role": "system", "content": system}] if system else []), *messages]
    given = request.get("prompt")
    return request.get("input") if given is None else given


def _answer(answer: dict[str, Any]) -> Any:
    message = answer.get("message")
    if isinstance(message, dict):
        return [plain({**message, "tool_calls": tool_calls(message.get("tool_calls"))})]
    said = text(answer.get("combined_chunk_content")) or text(answer.get("text"))
    return [{"role": "assistant", "content": said}] if said else answer.get("images")


def _partial_usage(bag: Bag, draft: Draft) -> None:
    """Counts of a call that was not followed to its end: true for the input, not for the output."""
    stated = bag.under(_PARTIAL)
    if not stated or draft.usage is not None:
        return
    whole = Bag({f"gen_ai.usage.{name}": value for name, value in stated.items()})
    set_usage(draft, {field: whole.take(*names) for field, names in USAGE.items()})
    _estimate(draft)


def _estimate(draft: Draft) -> None:
    if draft.usage is not None:
        draft.usage = replace(draft.usage, is_estimated=True)
