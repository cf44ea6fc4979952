"""The text a client was streamed: the deltas of server-sent events joined, anything else as it was."""

from collections.abc import Iterator
from typing import Any

import orjson


def text_of(received: str) -> str | None:
    """What the stream said, for a turn whose output nobody stated; None where it said nothing."""
    if "data:" not in received:
        return received.strip() or None
    pieces = list(_pieces(received))
    return "".join(pieces) or None


def _pieces(received: str) -> Iterator[str]:
    for event in received.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        data = _data(event)
        if data is None or data.strip() == "[DONE]":
            continue
        try:
            document = orjson.loads(data)
        except ValueError:
            yield data
            continue
        piece = document if isinstance(document, str) else _delta(document)
        if piece is not None:
            yield piece


def _data(event: str) -> str | None:
    """The data of one event: its `data:` lines joined, one leading space of each left out."""
    lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
    return "\n".join(lines) if lines else None


def _delta(document: Any) -> str | None:
    """The text one event adds: OpenAI chat and Responses, Anthropic, or one of the usual home-made fields."""
    if not isinstance(document, dict):
        return None
    choices = document.get("choices")
    if isinstance(choices, list):
        return "".join(filter(None, map(_choice, choices))) or None
    delta = document.get("delta")
    if isinstance(delta, str):
        return delta if document.get("type") in (None, "response.output_text.delta") else None
    if isinstance(delta, dict):
        return _text(delta)
    return None if "type" in document and str(document["type"]).startswith("response.") else _text(document)


def _choice(choice: Any) -> str | None:
    if not isinstance(choice, dict):
        return None
    delta = choice.get("delta")
    return _text(delta) if isinstance(delta, dict) else _text(choice)


def _text(fields: dict[str, Any]) -> str | None:
    for name in ("content", "text", "token", "answer", "message"):
        value = fields.get(name)
        if isinstance(value, str):
            return value
    return None
