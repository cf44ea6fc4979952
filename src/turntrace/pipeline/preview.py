"""One line of a turn's input and output for lists: of what the user asked last, and of what the model answered."""

import re
from collections.abc import Iterable
from typing import Any, Final

from turntrace.pipeline.convert.value import render

MOST_CHARACTERS: Final = 200
# Enough text to fill a preview after white space is folded.
_ENOUGH: Final = 2_000
_SPACE: Final = re.compile(r"[\s\0]+")
_TEXT_KEYS: Final = ("content", "text", "query", "question", "message", "input", "prompt", "answer", "output")


def input_preview(value: Any) -> str | None:
    """The last user message of a chat, else the text that the value holds."""
    messages = _messages(value)
    if messages:
        asked = [message for message in messages if message.get("role") in ("user", "human")]
        return shorten(text_in(asked[-1].get("content") if asked else messages[-1].get("content")))
    return shorten(text_in(value))


def output_preview(value: Any) -> str | None:
    """The last assistant text, else the names of the tools called, else the text that the value holds."""
    messages = _messages(value)
    if not messages:
        return shorten(text_in(value))
    for message in reversed(messages):
        text = text_in(message.get("content"))
        if text:
            return shorten(text)
    names = [str(call.get("name")) for message in messages for call in _calls(message)]
    return shorten(", ".join(f"{name}()" for name in names))


def shorten(text: str | None) -> str | None:
    """At most 200 characters on one line; None for nothing."""
    if not text:
        return None
    line = _SPACE.sub(" ", text[:_ENOUGH]).strip()
    if len(line) > MOST_CHARACTERS:
        line = line[: MOST_CHARACTERS - 1].rstrip() + "…"
    return line or None


def text_in(value: Any) -> str | None:
    """The text a value stands for: itself, its parts' texts, its telling field, or its JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return " ".join(_texts(value)) or None
    if isinstance(value, dict):
        found = _telling(value)
        return found if found is not None else render(value)
    return str(value)


def _texts(values: Iterable[Any]) -> list[str]:
    texts: list[str] = []
    room = _ENOUGH
    for value in values:
        text = text_in(value)
        if text:
            texts.append(text)
            room -= len(text)
        if room < 0:
            break
    return texts


def _telling(value: dict[str, Any]) -> str | None:
    for key in _TEXT_KEYS:
        found = value.get(key)
        if isinstance(found, str) and found:
            return found
        if isinstance(found, (list, tuple)) and found:
            return text_in(found)
    return None


def _messages(value: Any) -> list[dict[str, Any]]:
    """The value as chat messages; also those under `messages` of a request body."""
    if isinstance(value, dict):
        value = [value] if "role" in value else value.get("messages")
    if not isinstance(value, (list, tuple)) or not value:
        return []
    messages = [message for message in value if isinstance(message, dict) and "role" in message]
    return messages if len(messages) == len(value) else []


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    if not isinstance(calls, (list, tuple)):
        return []
    return [_called(call) for call in calls if isinstance(call, dict)]


def _called(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    return function if isinstance(function, dict) else call
