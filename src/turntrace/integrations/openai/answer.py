"""What an answer says about a model call, whether it came as an object of the client's or as JSON."""

from collections.abc import Mapping
from typing import Any

from turntrace.integrations.openai.media import MEDIA, media_fields
from turntrace.integrations.openai.question import Kind
from turntrace.integrations.openai.reading import get, listed, plain, text
from turntrace.integrations.openai.usage import usage_of

Fields = dict[str, Any]


def answer_fields(kind: Kind, answer: Any) -> Fields:
    """Arguments of `update` for a whole answer."""
    fields = {
        "model": text(get(answer, "model")),
        "response_id": text(get(answer, "id")),
        "service_tier": text(get(answer, "service_tier")),
        "usage": usage_of(get(answer, "usage")),
    }
    if kind == "chat":
        fields |= _chat(answer)
    elif kind == "completion":
        fields |= _completion(answer)
    elif kind == "response":
        fields |= _response(answer)
    elif kind in MEDIA:
        fields |= media_fields(kind, answer)
    return {name: value for name, value in fields.items() if value is not None}


def _chat(answer: Any) -> Fields:
    choices = listed(get(answer, "choices"))
    messages = [message_of(plain(get(choice, "message"))) for choice in choices]
    return said([message for message in messages if message], [get(choice, "finish_reason") for choice in choices])


def _completion(answer: Any) -> Fields:
    choices = listed(get(answer, "choices"))
    texts = [found for choice in choices if (found := get(choice, "text")) is not None]
    return {
        "output": texts[0] if len(texts) == 1 else texts or None,
        "finish_reasons": [reason for choice in choices if (reason := text(get(choice, "finish_reason")))] or None,
    }


def said(messages: list[dict[str, Any]], reasons: list[Any]) -> Fields:
    """Output, tool calls and finish reasons of assistant messages."""
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    return {
        "output": messages or None,
        "tool_calls": calls or None,
        "finish_reasons": [reason for reason in reasons if text(reason)] or None,
    }


def message_of(raw: Any) -> dict[str, Any] | None:
    """An assistant message of the chat API; what is empty is left out, tool calls are `{"id", "name", "arguments"}`."""
    if not isinstance(raw, Mapping):
        return None
    message = {name: value for name, value in raw.items() if value is not None and name not in _REWRITTEN}
    message.setdefault("role", "assistant")
    message["content"] = raw.get("content")
    calls = [tool_call(call) for call in listed(raw.get("tool_calls"))]
    older = raw.get("function_call")
    if isinstance(older, Mapping):
        calls.append(tool_call({"function": older}))
    if calls:
        message["tool_calls"] = calls
    return message


_REWRITTEN = frozenset({"content", "tool_calls", "function_call", "parsed"})


def tool_call(raw: Any) -> dict[str, Any]:
    """One call of the chat API, function or custom."""
    function = get(raw, "function") or get(raw, "custom")
    given = get(function, "arguments")
    arguments = get(function, "input") if given is None else given
    return {"id": get(raw, "id"), "name": get(function, "name"), "arguments": arguments}


def _response(answer: Any) -> Fields:
    items = [plain(item) for item in listed(get(answer, "output"))]
    calls = [_called(item) for item in items if _is_call(item)]
    fields: Fields = {
        "output": [_message(item) for item in items] or None,
        "tool_calls": calls or None,
        "finish_reasons": _reasons(answer, calls),
    }
    error = get(answer, "error")
    if get(answer, "status") == "failed":
        fields["level"] = "error"
        fields["status_message"] = ": ".join(filter(text, (get(error, "code"), get(error, "message")))) or "failed"
    return fields


def _is_call(item: Any) -> bool:
    return get(item, "type") in ("function_call", "custom_tool_call")


def _called(item: Any) -> dict[str, Any]:
    given = get(item, "arguments")
    arguments = get(item, "input") if given is None else given
    return {"id": get(item, "call_id") or get(item, "id"), "name": get(item, "name"), "arguments": arguments}


def _message(item: Any) -> dict[str, Any]:
    """An output item as an assistant message: text alone as text, a call as a tool call, anything else as it is."""
    if _is_call(item):
        return {"role": "assistant", "content": None, "tool_calls": [_called(item)]}
    texts = [get(part, "text") for part in listed(get(item, "content"))]
    if get(item, "type") == "message" and texts and all(isinstance(found, str) for found in texts):
        return {"role": get(item, "role") or "assistant", "content": "\n".join(texts)}
    return {"role": "assistant", "content": [item]}


def _reasons(answer: Any, calls: list[Any]) -> list[str] | None:
    reason = text(get(answer, "incomplete_details", "reason"))
    if reason is None:
        status = text(get(answer, "status"))
        reason = "tool_calls" if status == "completed" and calls else status
    return [reason] if reason else None
