"""Values as attributes: texts as they are, anything richer as JSON text, as the conventions want it on spans."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from turntrace import semconv
from turntrace.pipeline.convert.message import from_parts
from turntrace.pipeline.convert.value import structured

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
JSON = "application/json"
TEXT = "text/plain"


def instant(at_us: int) -> str:
    """Microseconds since the Unix epoch as ISO 8601 in UTC."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")


def as_json(value: Any) -> str:
    """JSON text; keys that are no strings become some."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def plain(value: Any) -> Any:
    """Numbers as they are, a text where reading it back gives the same text, else JSON; None stays None."""
    if value is None or isinstance(value, (int, float)):
        return value
    return value if isinstance(value, str) and structured(value) == value else as_json(value)


def given(value: Any) -> dict[str, Any]:
    """`input.value` and its media type."""
    return _value(value, semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE)


def answered(value: Any) -> dict[str, Any]:
    """`output.value` and its media type."""
    return _value(value, semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE)


def _value(value: Any, name: str, mime_type: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {name: value, mime_type: TEXT}
    return {name: as_json(value), mime_type: JSON}


def messages(value: Any, role: str) -> tuple[str | None, bool]:
    """Messages as the conventions have them, and whether reading them back gives `value` again.

    Args:
        role: whose words a bare text is.
    """
    if value is None:
        return None, True
    entries = value if isinstance(value, list) else [{"role": role, "content": value}]
    found = [_message(entry, role) for entry in entries]
    text = as_json(found)
    return text, isinstance(value, list) and from_parts(structured(text)) == value


def _message(entry: Any, role: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {"role": role, "parts": [_part(entry)]}
    told = {"role": entry.get("role") or role}
    if entry.get("name"):
        told["name"] = entry["name"]
    if entry.get("role") == "tool" and entry.get("tool_call_id") is not None:
        response = {"type": "tool_call_response", "id": entry["tool_call_id"], "response": entry.get("content")}
        return {**told, "parts": [response]}
    content = entry.get("content")
    parts = [_part(part) for part in (content if isinstance(content, list) else [content]) if part is not None]
    calls = [{"type": "tool_call", **call} for call in entry.get("tool_calls") or () if isinstance(call, dict)]
    return {**told, "parts": [*parts, *calls]}


def _part(part: Any) -> Any:
    if isinstance(part, dict) and "type" in part:
        return part
    return {"type": "text", "content": part if isinstance(part, str) else as_json(part)}
