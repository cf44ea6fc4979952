"""Inputs and outputs as people read them: chat messages out of the shapes that libraries use. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function", "model", "human", "ai"})
_SAME_ROLE: Final = {"human": "user", "ai": "assistant", "model": "assistant", "function": "tool"}
_TEXT_KEYS: Final = (
    "question",
    "query",
    "prompt",
    "message",
    "input",
    "text",
    "content",
    "answer",
    "output",
    "response",
)
MAX_MESSAGES: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool as a model asked for it; `arguments` parsed where they are JSON text."""

    name: str
    arguments: Any = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a message: `kind` is text, reasoning, tool_call, tool_result, media or data."""

    kind: str
    text: str = ""
    call: ToolCall | None = None
    value: Any = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: str
    parts: tuple[Part, ...]
    name: str | None = None


def messages_of(value: Any) -> tuple[Message, ...] | None:
    """The messages a value holds, or None where it is something else."""
    if isinstance(value, Mapping):
        nested = value.get("messages")
        if isinstance(nested, Sequence) and not isinstance(nested, str):
            return messages_of(nested)
        return (_message(value),) if _is_message(value) else None
    if isinstance(value, (list, tuple)) and value and all(_is_message(item) for item in value):
        return tuple(_message(item) for item in value[:MAX_MESSAGES])
    return None


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    role = value.get("role")
    has_body = any(key in value for key in ("content", "parts", "tool_calls", "refusal", "function_call"))
    return isinstance(role, str) and role.lower() in ROLES and has_body


def _message(value: Mapping[str, Any]) -> Message:
    role = value["role"].lower()
    body = value.get("parts") if value.get("parts") is not None else value.get("content")
    parts = list(_parts(body))
    if role == "tool" and all(part.kind == "text" for part in parts):
        label = str(value.get("name") or value.get("tool_call_id") or "")
        parts = [Part(kind="tool_result", value=_parsed(part.text), label=label) for part in parts]
    for call in value.get("tool_calls") or ():
        parts.append(Part(kind="tool_call", call=tool_call(call)))
    if value.get("refusal"):
        parts.append(Part(kind="text", text=str(value["refusal"]), label="refusal"))
    name = value.get("name")
    return Message(role=_SAME_ROLE.get(role, role), parts=tuple(parts), name=name if isinstance(name, str) else None)


def _parts(body: Any) -> list[Part]:
    if body is None:
        return []
    if isinstance(body, str):
        return [Part(kind="text", text=body)] if body else []
    if isinstance(body, Mapping):
        return [_part(body)]
    if isinstance(body, (list, tuple)):
        return [_part(item) for item in body]
    return [Part(kind="data", value=body)]


def _part(item: Any) -> Part:
    if isinstance(item, str):
        return Part(kind="text", text=item)
    if not isinstance(item, Mapping):
        return Part(kind="data", value=item)
    kind = str(item.get("type", "text"))
    text = item.get("text") if isinstance(item.get("text"), str) else item.get("content")
    if kind in ("text", "input_text", "output_text", "refusal") and isinstance(text, str):
        return Part(kind="text", text=text, label="refusal" if kind == "refusal" else "")
    if kind in ("thinking", "reasoning"):
        return Part(kind="reasoning", text=str(item.get("thinking") or text or ""))
    if kind in ("tool_call", "tool_use", "function_call"):
        return Part(kind="tool_call", call=tool_call(item))
    if kind in ("tool_call_response", "tool_result", "function_call_output"):
        result = next((item[key] for key in ("response", "result", "content", "output") if key in item), None)
        return Part(
            kind="tool_result", value=_parsed(result), label=str(item.get("id") or item.get("tool_use_id") or "")
        )
    if kind in ("image", "image_url", "input_image", "audio", "input_audio", "file", "blob", "uri", "video"):
        return Part(kind="media", value=dict(item), label=str(item.get("modality") or kind))
    return Part(kind="data", value=dict(item), label=kind)


def tool_call(value: Any) -> ToolCall:
    """A tool call out of the shapes of OpenAI, Anthropic and the OTel conventions."""
    if not isinstance(value, Mapping):
        return ToolCall(name=str(value))
    nested = value.get("function")
    function: Mapping[str, Any] = nested if isinstance(nested, Mapping) else value
    arguments = next((function[key] for key in ("arguments", "input", "args") if key in function), None)
    identifier = value.get("id") or value.get("call_id") or value.get("tool_call_id")
    return ToolCall(
        name=str(function.get("name") or value.get("tool_name") or "tool"),
        arguments=_parsed(arguments),
        id=str(identifier) if identifier else None,
    )


def _parsed(value: Any) -> Any:
    """JSON text as what it says; everything else unchanged."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def said(value: Any, role: str = "user") -> str:
    """What a person said or read: the last message of `role`, a well-known text field, or the text itself."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    messages = messages_of(value)
    if messages:
        chosen = [message for message in messages if message.role == role] or list(messages)
        return "\n".join(part.text for part in chosen[-1].parts if part.kind == "text").strip()
    if isinstance(value, Mapping):
        for key in _TEXT_KEYS:
            if isinstance(value.get(key), str):
                return str(value[key])
    return json.dumps(value, ensure_ascii=False, default=str)
