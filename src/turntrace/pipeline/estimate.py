"""Usage of calls whose provider stated none, counted by a tokenizer and flagged as an estimate.

The tokenizer is given: this knows no library. What templates, tools, pictures and sound add to a prompt is no text of
its messages, and a model's own tokenizer may differ: the numbers are near, never exact.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from turntrace.pipeline.draft import Draft, Work
from turntrace.pipeline.mediatype import is_text, stated_type
from turntrace.records.fragment import CUT, CUT_BEGINS, CUT_ENDS, FrameKind
from turntrace.records.usage import Usage

CountTokens = Callable[[str, str], int]  # model, text
TOKENS_A_MESSAGE: Final = 3  # what a chat template adds to each, by and large
MOST_CHARACTERS: Final = 4 << 20  # of one call; a longer one is not counted
_GENERATION: Final = "generation"
_ESTIMATED: Final = frozenset({_GENERATION, "embedding"})
_TEXTS: Final = ("content", "text", "parts", "input_text", "output_text", "arguments", "function", "tool_calls", "name")
_BYTES: Final = ("blob", "binary", "file", "uri", "image", "audio", "video")  # types of parts
_TEXT_ALONE: Final = ("text",)
_ARGUMENTS: Final = "arguments"  # of a tool, which the model writes as JSON: names and all
_DEEPEST: Final = 8
# What was said cannot be read: counts or tool calls of a kind that nobody knows.
_UNREADABLE: Final = frozenset({"usage_invalid", "field_invalid:tool_calls"})


class TextIsCut(Exception):
    """Only a part of a text was kept: what can be counted says nothing about the whole."""


class Estimator:
    """The stage `estimate`: gives model calls without usage an estimated one.

    Args:
        count: tokens of a text for a model; what it raises leaves the call without usage.
    """

    def __init__(self, count: CountTokens) -> None:
        self._count = count

    def __call__(self, work: Work) -> None:
        """Estimate where a call has ended with an answer and nobody said what it used."""
        if work.fragment.kind in (FrameKind.START, FrameKind.DELTA):
            return
        for draft in work.drafts:
            if _is_wanted(draft):
                draft.usage = self._estimate(draft)

    def _estimate(self, draft: Draft) -> Usage | None:
        model = draft.model or ""
        try:
            given, answered = list(texts(draft.input)), list(texts(_answer(draft)))
        except TextIsCut:
            return None
        if sum(map(len, given)) + sum(map(len, answered)) > MOST_CHARACTERS:
            return None
        try:
            messages = len(draft.input) if isinstance(draft.input, (list, tuple)) else 1
            extra = TOKENS_A_MESSAGE * messages if draft.type == _GENERATION else 0
            return Usage(
                input_tokens=sum(self._count(model, text) for text in given) + extra,
                output_tokens=sum(self._count(model, text) for text in answered),
                is_estimated=True,
            )
        except Exception:  # a tokenizer that fails must not keep a turn from being stored
            return None


def _is_wanted(draft: Draft) -> bool:
    """A call that failed before its answer was not charged; counts that cannot be are not guessed anew.

    One that is still open is told anew when it ends, often with what the provider counted: two usages of one call.
    """
    if draft.span.duration_us is None:
        return False
    if draft.type not in _ESTIMATED or not draft.model or draft.usage is not None or draft.cost is not None:
        return False
    if not _UNREADABLE.isdisjoint(draft.flags):
        return False
    return bool(draft.input) and (draft.type == "embedding" or bool(draft.output or draft.tool_calls))


def _answer(draft: Draft) -> Any:
    """What the model wrote: vectors are no tokens."""
    return [draft.output, list(draft.tool_calls)] if draft.type == _GENERATION else None


def texts(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts that a model reads or writes in messages of any dialect: what stands under `content` and the like.

    Raises:
        TextIsCut: one of them was cut, or a structure in which they stood.
    """
    if isinstance(value, str):
        yield _whole(value)
    elif depth >= _DEEPEST:
        return
    elif isinstance(value, dict):
        if CUT in value:
            raise TextIsCut
        for name in _TEXT_ALONE if _is_media(value) else _TEXTS:
            if name in value:
                yield from texts(_written(name, value[name]), depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item, depth + 1)


def _written(name: str, value: Any) -> Any:
    """A tool's arguments as the model wrote them, where they were parsed since.

    Raises:
        TextIsCut: a part of them was cut.
    """
    if name != _ARGUMENTS or not isinstance(value, dict) or CUT in value:
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    if f'"{CUT}": ' in text:  # a quote inside a value is escaped
        raise TextIsCut
    return text


def _whole(text: str) -> str:
    start = text.find(CUT_BEGINS)
    if start >= 0 and CUT_ENDS in text[start:]:
        raise TextIsCut
    return text


def _is_media(part: dict[str, Any]) -> bool:
    """Whether base64 may stand under `content`, as the GenAI conventions and Pydantic AI have it; `text` is text."""
    if part.get("type") in _BYTES:
        return True
    stated = stated_type(part)
    return stated is not None and not is_text(stated)
