"""Chat messages of any dialect to one shape.

A message is `{"role", "content", "name"?, "tool_calls"?, "tool_call_id"?}`: content is text, or a list of parts where
there is more than text; a tool call is `{"id", "name", "arguments"}`. Part types nobody knows survive unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from turntrace.pipeline.convert.bag import nested
from turntrace.pipeline.convert.value import items, structured

Message = dict[str, Any]


def tool_call(raw: Any) -> dict[str, Any] | None:
    """One call as `{"id", "name", "arguments"}`, from any spelling; arguments in JSON text are parsed."""
    if not isinstance(raw, dict):
        return None
    inner = raw.get("function")
    function: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    name = raw.get("name") or raw.get("toolName") or function.get("name")
    if not isinstance(name, str):
        return None
    spellings = (raw.get("arguments"), function.get("arguments"), raw.get("args"), raw.get("input"))
    arguments = next((value for value in spellings if value is not None), None)
    return {"id": raw.get("id") or raw.get("toolCallId"), "name": name, "arguments": structured(arguments)}


def tool_calls(raw: Any) -> list[dict[str, Any]]:
    """All readable calls of a list (or of JSON text of one)."""
    return [call for call in map(tool_call, items(raw)) if call is not None]


def calls_in(messages: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """The tool calls of messages in our shape, in order."""
    return tuple(
        call for message in messages if isinstance(message, dict) for call in message.get("tool_calls") or () if call
    )


def from_parts(raw: Any) -> list[Message]:
    """Messages of otel-genai: `[{role, parts: […]}]`; bare parts are taken as one system message's."""
    messages: list[Message] = []
    for entry in items(raw):
        if isinstance(entry, dict) and "parts" in entry:
            messages += _of_parts(entry)
        elif isinstance(entry, dict):
            messages.append(plain(entry))
        elif entry is not None:
            messages.append({"role": "user", "content": entry})
    return messages


def system_message(raw: Any) -> list[Message]:
    """System instructions (parts, one part, or text) as one message, or none."""
    value = structured(raw)
    if isinstance(value, str):
        return [{"role": "system", "content": value}] if value else []
    if isinstance(value, dict) and value:
        value = [value]
    return _of_parts({"role": "system", "parts": value}) if isinstance(value, list) and value else []


def _of_parts(entry: Mapping[str, Any]) -> list[Message]:
    """One message of parts; each response to a tool call becomes a message of its own."""
    content: list[Any] = []
    calls: list[dict[str, Any]] = []
    responses: list[Message] = []
    for part in entry.get("parts") or ():
        kind = part.get("type") if isinstance(part, dict) else None
        call = tool_call(part) if kind == "tool_call" else None
        if call is not None:
            calls.append(call)
        elif kind == "tool_call_response":
            result = part.get("response", part.get("result"))
            responses.append({"role": "tool", "tool_call_id": part.get("id"), "content": structured(result)})
        else:
            content.append(part)
    if not content and not calls and responses:
        return responses
    message = _message(entry, _joined(content), calls)
    return [message, *responses]


def _message(entry: Mapping[str, Any], content: Any, calls: list[dict[str, Any]]) -> Message:
    message: Message = {"role": entry.get("role") or "assistant", "content": content}
    if entry.get("name"):
        message["name"] = entry["name"]
    if entry.get("tool_call_id"):
        message["tool_call_id"] = entry["tool_call_id"]
    if calls:
        message["tool_calls"] = calls
    return message


def _joined(parts: list[Any]) -> Any:
    """Text parts alone become one text; anything richer stays a list."""
    texts = [_text_of(part) for part in parts]
    if all(text is not None for text in texts):
        return "\n".join(text for text in texts if text is not None) if texts else None
    return parts


def _text_of(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") in ("text", "input_text", "output_text"):
        found = part.get("content", part.get("text"))
        return found if isinstance(found, str) else None
    return None


def plain(entry: Any) -> Message:
    """A message of the providers' own kind (`content`, `tool_calls`, Anthropic's blocks) in our shape."""
    if not isinstance(entry, dict):
        return {"role": "user", "content": entry}
    content = structured(entry.get("content")) if _looks_like_blocks(entry.get("content")) else entry.get("content")
    calls = tool_calls(entry.get("tool_calls"))
    if isinstance(content, list):
        calls += [call for call in map(_block_call, content) if call and call["id"] not in {c["id"] for c in calls}]
        content = _joined([part for part in content if _block_call(part) is None])
    tool_call_id = entry.get("tool_call_id") or (entry.get("id") if entry.get("role") == "tool" else None)
    return _message({**entry, "tool_call_id": tool_call_id}, content, calls)


def _looks_like_blocks(content: Any) -> bool:
    return isinstance(content, str) and content.startswith('[{"')


def _block_call(part: Any) -> dict[str, Any] | None:
    if isinstance(part, dict) and part.get("type") in ("tool_use", "tool-call", "tool_call"):
        return tool_call(part)
    return None


def plain_list(raw: Any) -> list[Message] | None:
    """A list of messages in our shape, or None where the value is no such list."""
    entries = structured(raw)
    if not isinstance(entries, list) or not entries:
        return None
    if not all(isinstance(entry, dict) and "role" in entry for entry in entries):
        return None
    return [message for entry in entries for message in (from_parts([entry]) if "parts" in entry else [plain(entry)])]


def from_flat(rows: Iterable[dict[str, Any]], *, call_prefix: str = "") -> list[Message]:
    """Messages whose fields were flattened to `<n>.role`, `<n>.content`, `<n>.tool_calls.<m>.<field>`.

    Args:
        rows: one mapping per message.
        call_prefix: what stands between `tool_calls.<m>.` and the field, e.g. `tool_call.function.`.
    """
    return [_flat(row, call_prefix) for row in rows]


def _flat(row: dict[str, Any], call_prefix: str) -> Message:
    calls = []
    for fields in nested(row, "tool_calls."):
        short = {name.removeprefix(call_prefix).removeprefix("function."): value for name, value in fields.items()}
        call = tool_call(short)
        if call is not None:
            calls.append(call)
    content = row.get("content")
    if _looks_like_blocks(content):
        content = plain({"content": content})["content"]
    return _message(row, content, calls)


def join_assistant(messages: list[Message]) -> list[Message]:
    """Consecutive assistant messages as one (the Responses API gives one per output item)."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if last and last["role"] == message["role"] == "assistant":
            last["content"] = _concatenated(last.get("content"), message.get("content"))
            calls = [*last.get("tool_calls", ()), *message.get("tool_calls", ())]
            if calls:
                last["tool_calls"] = calls
        else:
            joined.append(dict(message))
    return joined


def _concatenated(left: Any, right: Any) -> Any:
    if not left or not right:
        return left or right
    if isinstance(left, str) and isinstance(right, str):
        return f"{left}\n{right}"
    return [*(left if isinstance(left, list) else [left]), *(right if isinstance(right, list) else [right])]


def definitions(raw: Any) -> tuple[Any, ...]:
    """Tool definitions as `{"name", "description", "parameters"}`, from any spelling."""
    found = structured(raw)
    if isinstance(found, dict):
        found = found.get("tools") or found.get("function_tools") or [found]
    return tuple(map(definition, items(found)))


def definition(raw: Any) -> Any:
    """One tool definition in our shape; unreadable ones survive unchanged."""
    raw = structured(raw)
    inner = raw.get("function") if isinstance(raw, dict) else None
    source = inner if isinstance(inner, dict) else raw
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        return raw
    schemas = ("parameters", "input_schema", "inputSchema", "parameters_json_schema")
    schema = next((source[key] for key in schemas if source.get(key) is not None), None)
    return {"name": source["name"], "description": source.get("description"), "parameters": structured(schema)}
