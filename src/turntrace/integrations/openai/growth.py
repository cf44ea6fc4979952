"""Answers that come in pieces: what was received so far, in bounded memory, and whether it was all."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from turntrace.integrations.openai.answer import Fields, answer_fields, said
from turntrace.integrations.openai.media import MEDIA, MediaGrowth
from turntrace.integrations.openai.question import Kind
from turntrace.integrations.openai.reading import extra, get, listed, text
from turntrace.integrations.openai.usage import usage_of

_MOST_CHOICES: Final = 64
_MOST_CALLS: Final = 256
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Growth(Protocol):
    """One streamed answer. `add` answers whether the piece held output (not just a role or an envelope)."""

    count: int

    def add(self, piece: Any) -> bool: ...
    def value(self) -> Any:
        """The output so far."""
        ...

    def fields(self) -> Fields:
        """Arguments of `update` for what was received."""
        ...

    def is_complete(self) -> bool:
        """Whether the provider said that this was all."""
        ...


class Text:
    """Text in pieces, as much of it as there is room for."""

    __slots__ = ("_pieces", "_room")

    def __init__(self, room: int) -> None:
        self._pieces: list[str] = []
        self._room = room

    def add(self, piece: Any) -> bool:
        """Keep a piece; whether it was text that is not empty."""
        if not isinstance(piece, str) or not piece:
            return False
        if self._room > 0:
            self._pieces.append(piece[: self._room])
            self._room -= len(piece)
            if len(self._pieces) > 512:  # a piece is a token: joined now and then they take less
                self._pieces = ["".join(self._pieces)]
        return True

    def __str__(self) -> str:
        return "".join(self._pieces)


class Choice:
    """One choice of a streamed chat or text completion."""

    __slots__ = ("_calls", "_content", "_reasoning", "_refusal", "_room", "finish_reason", "role")

    def __init__(self, room: int) -> None:
        self._room = room
        self._content, self._refusal, self._reasoning = Text(room), Text(room), Text(room)
        self._calls: dict[Any, dict[str, Any]] = {}
        self.role = "assistant"
        self.finish_reason: str | None = None

    def add(self, choice: Any) -> bool:
        """Take a choice of a chunk."""
        delta = get(choice, "delta")
        self.role = text(get(delta, "role")) or self.role
        self.finish_reason = text(get(choice, "finish_reason")) or self.finish_reason
        found = self._content.add(get(delta, "content"))
        if delta is None:
            found |= self._content.add(get(choice, "text"))  # the older completions
        found |= self._refusal.add(get(delta, "refusal"))
        found |= self._reasoning.add(extra(delta, "reasoning_content") or extra(delta, "reasoning"))
        for call in listed(get(delta, "tool_calls")):
            found |= self._add_call(call)
        older = get(delta, "function_call")
        if older is not None:
            found |= self._add_call({"function": older})
        return found

    def _add_call(self, piece: Any) -> bool:
        index = get(piece, "index")
        call = self._calls.get(index)
        if call is None:
            if len(self._calls) >= _MOST_CALLS:
                return True
            call = self._calls[index] = {"id": None, "name": None, "arguments": Text(self._room)}
        function = get(piece, "function") or get(piece, "custom")
        call["id"] = text(get(piece, "id")) or call["id"]
        call["name"] = text(get(function, "name")) or call["name"]
        call["arguments"].add(get(function, "arguments") or get(function, "input"))
        return True

    def message(self) -> dict[str, Any]:
        """The assistant message so far."""
        message: dict[str, Any] = {"role": self.role, "content": str(self._content) or None}
        for name, part in (("refusal", self._refusal), ("reasoning_content", self._reasoning)):
            if str(part):
                message[name] = str(part)
        if self._calls:
            message["tool_calls"] = [{**call, "arguments": str(call["arguments"])} for call in self._calls.values()]
        return message

    def text(self) -> str:
        """The text so far."""
        return str(self._content)


class ChatGrowth:
    """Chunks of `chat.completions`, and of the older `completions`."""

    def __init__(self, kind: Kind, room: int) -> None:
        self._kind = kind
        self._room = room
        self._choices: dict[Any, Choice] = {}
        self._facts: Fields = {}
        self.count = 0

    def add(self, piece: Any) -> bool:
        """Take a chunk."""
        self.count += 1
        if self.count == 1 or not self._facts.get("model"):
            self._note(piece, "model", "id")
        usage = usage_of(get(piece, "usage")) or usage_of(get(extra(piece, "x_groq"), "usage"))  # Groq's own place
        if usage is not None:
            self._facts["usage"] = usage
            self._note(piece, "service_tier")
        return any([self._choice(choice).add(choice) for choice in listed(get(piece, "choices"))])

    def _note(self, piece: Any, *names: str) -> None:
        for name in names:
            value = text(get(piece, name))
            if value is not None:
                self._facts["response_id" if name == "id" else name] = value

    def _choice(self, piece: Any) -> Choice:
        index = get(piece, "index")
        found = self._choices.get(index)
        if found is None:
            found = Choice(self._room)
            if len(self._choices) < _MOST_CHOICES:
                self._choices[index] = found
        return found

    def value(self) -> Any:
        """Messages, or texts of the older API."""
        choices = list(self._choices.values())
        if self._kind == "chat":
            return [choice.message() for choice in choices] or None
        texts = [choice.text() for choice in choices]
        return texts[0] if len(texts) == 1 else texts or None

    def fields(self) -> Fields:
        """What was received."""
        reasons = [choice.finish_reason for choice in self._choices.values()]
        output = self.value()
        if self._kind == "chat":
            return {**self._facts, **_present(said(output or [], reasons))}
        return {**self._facts, **_present({"output": output, "finish_reasons": [r for r in reasons if r] or None})}

    def is_complete(self) -> bool:
        """Every choice has told why it ended."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())


class ResponseGrowth:
    """Events of the Responses API: the last one holds the whole answer, the others what there is until then."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._texts: dict[Any, Text] = {}
        self._calls: dict[Any, dict[str, Any]] = {}
        self._envelope: Any = None
        self._ended = False
        self._failure: Fields = {}
        self.count = 0

    def add(self, piece: Any) -> bool:
        """Take an event."""
        self.count += 1
        kind = str(get(piece, "type"))
        if (envelope := get(piece, "response")) is not None:
            self._envelope = envelope
        self._ended = self._ended or kind in _ENDS
        if kind == "error":
            message = ": ".join(filter(text, (get(piece, "code"), get(piece, "message"))))
            self._failure = {"level": "error", "status_message": message or "error"}
        if kind == "response.output_item.added":
            self._add_item(piece)
        return kind.endswith(".delta") and self._add_delta(kind, piece)

    def _add_item(self, piece: Any) -> None:
        item = get(piece, "item")
        if get(item, "type") in ("function_call", "custom_tool_call") and len(self._calls) < _MOST_CALLS:
            named = {"id": get(item, "call_id"), "name": get(item, "name")}
            self._calls[get(piece, "output_index")] = {**named, "arguments": Text(self._room)}

    def _add_delta(self, kind: str, piece: Any) -> bool:
        delta, index = get(piece, "delta"), get(piece, "output_index")
        if kind.endswith(("call_arguments.delta", "tool_call_input.delta")):
            call = self._calls.get(index)
            return call["arguments"].add(delta) if call is not None else isinstance(delta, str)
        if kind == "response.output_text.delta" or kind == "response.refusal.delta":
            if index not in self._texts and len(self._texts) >= _MOST_CHOICES:
                return True
            return self._texts.setdefault(index, Text(self._room)).add(delta)
        return isinstance(delta, str) and bool(delta)

    def value(self) -> Any:
        """Messages so far."""
        messages = [{"role": "assistant", "content": str(found)} for found in self._texts.values()]
        calls = self._finished_calls()
        return [*messages, *([{"role": "assistant", "content": None, "tool_calls": calls}] if calls else [])] or None

    def _finished_calls(self) -> list[dict[str, Any]]:
        return [{**call, "arguments": str(call["arguments"])} for call in self._calls.values()]

    def fields(self) -> Fields:
        """Of the whole answer where it came, else what there was."""
        fields = answer_fields("response", self._envelope) if self._envelope is not None else {}
        if not self._ended:
            fields.pop("finish_reasons", None)  # it says `in_progress`
            fields |= _present({"output": self.value(), "tool_calls": self._finished_calls() or None})
        return {**fields, **self._failure}

    def is_complete(self) -> bool:
        """The event that ends a response has come."""
        return self._ended


def growth_of(kind: Kind, room: int) -> Growth:
    """What collects a streamed answer of this kind."""
    if kind in MEDIA:
        return MediaGrowth(room)
    return ResponseGrowth(room) if kind == "response" else ChatGrowth(kind, room)


def is_usage_only(piece: Any) -> bool:
    """The chunk that a stream has only because its usage was asked for."""
    choices = get(piece, "choices")
    return isinstance(choices, list) and not choices and get(piece, "usage") is not None


def _present(fields: Mapping[str, Any]) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}
