"""Content blocks of Bedrock's Converse API, as Strands and AWS SDKs write them, to parts of the GenAI conventions."""

from typing import Any, Final

_BLOCKS: Final = frozenset({"text", "toolUse", "toolResult"})


def parts(value: Any) -> list[Any] | None:
    """Parts of a list of content blocks; None where the value is none."""
    if not isinstance(value, list) or not value or not all(map(_is_block, value)):
        return None
    if not any(_BLOCKS & block.keys() for block in value):
        return None
    return [_part(block) for block in value]


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and "type" not in value and "role" not in value


def _part(block: dict[str, Any]) -> Any:
    if isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    used, result = block.get("toolUse"), block.get("toolResult")
    if isinstance(used, dict):
        named = {"id": used.get("toolUseId"), "name": used.get("name"), "arguments": used.get("input")}
        return {"type": "tool_call", **named}
    if isinstance(result, dict):
        return {"type": "tool_call_response", "id": result.get("toolUseId"), "response": _plain(result.get("content"))}
    return block


def _plain(content: Any) -> Any:
    """Texts alone as one text."""
    found = content if isinstance(content, list) else []
    texts = [block.get("text") for block in found if isinstance(block, dict)]
    said = [text for text in texts if isinstance(text, str)]
    return "\n".join(said) if said and len(said) == len(found) else content
