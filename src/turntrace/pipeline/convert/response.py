"""Recorded answers of provider APIs (OpenAI chat and Responses, Anthropic): messages, reasons, ids, usage."""

from collections.abc import Mapping
from typing import Any

from turntrace.pipeline.convert.message import Message, calls_in, join_assistant, plain, tool_call
from turntrace.pipeline.convert.usage import from_object, set_usage
from turntrace.pipeline.convert.vocabulary import finish_reasons
from turntrace.pipeline.draft import Draft


def messages_of(answer: Any) -> list[Message]:
    """The assistant messages of a recorded answer, or none where it is no known shape."""
    if not isinstance(answer, Mapping):
        return []
    choices = answer.get("choices")
    if isinstance(choices, list):
        found = [choice.get("message") for choice in choices if isinstance(choice, dict)]
        return [plain(message) for message in found if isinstance(message, dict)]
    if isinstance(answer.get("content"), list) and answer.get("role") == "assistant":
        return [plain(dict(answer))]
    items = answer.get("output")
    return join_assistant([_item(item) for item in items if isinstance(item, dict)]) if isinstance(items, list) else []


def _item(item: dict[str, Any]) -> Message:
    if item.get("type") == "function_call":
        call = tool_call({**item, "id": item.get("call_id")})
        return {"role": "assistant", "content": None, "tool_calls": [call] if call else []}
    if "role" in item:
        return plain(item)
    return {"role": "assistant", "content": [item]}


def fill(draft: Draft, answer: Any, *, with_usage: bool) -> None:
    """Fill what the draft lacks from a recorded answer."""
    if not isinstance(answer, Mapping):
        return
    messages = messages_of(answer)
    if messages and draft.output is None:
        draft.output = messages
    if not draft.tool_calls:
        draft.tool_calls = calls_in(messages)
    if not draft.finish_reasons:
        draft.finish_reasons = finish_reasons(_reasons(answer))
    draft.response_id = draft.response_id or _text(answer.get("id"))
    draft.service_tier = draft.service_tier or _text(answer.get("service_tier"))
    usage = answer.get("usage")
    if with_usage and draft.usage is None and isinstance(usage, dict):
        set_usage(draft, _known(from_object(usage)))


def _reasons(answer: Mapping[str, Any]) -> list[Any]:
    choices = answer.get("choices")
    if isinstance(choices, list):
        return [choice.get("finish_reason") for choice in choices if isinstance(choice, dict)]
    return [answer.get("stop_reason")]


def _known(counts: dict[str, Any]) -> dict[str, Any]:
    """Provider objects hold more than counts of tokens: only integers under token names are taken."""
    return {name: count for name, count in counts.items() if name.endswith("_tokens") and isinstance(count, int)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
