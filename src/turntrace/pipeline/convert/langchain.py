"""Messages and results as langchain writes them down: constructors, plain dictionaries, pairs of role and text."""

from collections.abc import Mapping
from typing import Any, Final

from turntrace.pipeline.convert.message import Message, tool_calls
from turntrace.pipeline.convert.value import items, structured

_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}


def message(raw: Any) -> Message | None:
    """One message in our shape, or None where it is none."""
    if isinstance(raw, (list, tuple)) and len(raw) == 2 and all(isinstance(part, str) for part in raw):
        return {"role": _ROLES.get(raw[0], raw[0]), "content": raw[1]}
    fields = _fields(raw)
    kind = fields.get("type")
    role = fields.get("role") or (_ROLES.get(kind, kind) if isinstance(kind, str) else None)
    if not isinstance(role, str) or "content" not in fields:
        return None
    found: Message = {"role": role, "content": fields["content"]}
    for name in ("name", "tool_call_id"):
        if isinstance(fields.get(name), str):
            found[name] = fields[name]
    calls = tool_calls(fields.get("tool_calls"))
    return {**found, "tool_calls": calls} if calls else found


def _fields(raw: Any) -> Mapping[str, Any]:
    """What a message holds; a constructor has it under `kwargs`."""
    if not isinstance(raw, dict):
        return {}
    inner = raw.get("kwargs")
    return inner if raw.get("type") == "constructor" and isinstance(inner, dict) else raw


def messages(raw: Any) -> list[Message] | None:
    """All messages of a list (or of a list of one list), or None where something in it is no message."""
    entries = items(raw)
    if len(entries) == 1 and isinstance(entries[0], list):
        entries = entries[0]
    found = [message(entry) for entry in entries]
    return None if not found or None in found else [item for item in found if item is not None]


def answer(raw: Any) -> tuple[Message | None, Mapping[str, Any]]:
    """The first message of a recorded `LLMResult` and what the provider said about it (`response_metadata`, usage)."""
    generation = _first(_first(structured(raw).get("generations"))) if isinstance(structured(raw), dict) else None
    if not isinstance(generation, dict):
        return None, {}
    fields = _fields(generation.get("message"))
    info = generation.get("generation_info")
    told = fields.get("response_metadata")
    facts = {**(info if isinstance(info, dict) else {}), **(told if isinstance(told, dict) else {})}
    said = message(generation.get("message")) if fields else {"role": "assistant", "content": generation.get("text")}
    return said, {**facts, "usage_metadata": fields.get("usage_metadata")}


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def usage(raw: Any) -> dict[str, Any]:
    """Counts of a `usage_metadata`, by our names."""
    stated = structured(raw)
    if not isinstance(stated, dict):
        return {}
    given, said = stated.get("input_token_details"), stated.get("output_token_details")
    given, said = given if isinstance(given, dict) else {}, said if isinstance(said, dict) else {}
    return {
        "input_tokens": stated.get("input_tokens"),
        "output_tokens": stated.get("output_tokens"),
        "cache_read_tokens": given.get("cache_read"),
        "cache_write_tokens": given.get("cache_creation"),
        "input_audio_tokens": given.get("audio"),
        "reasoning_tokens": said.get("reasoning"),
        "output_audio_tokens": said.get("audio"),
    }
