"""What a request says about a model call: its kind, and the fields that are known before the answer.

The body is the one that is sent: the client has resolved iterators and classes in it by then, so nothing of the
caller's is consumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from turntrace.integrations.openai.reading import listed, text

Kind = Literal["chat", "completion", "response", "embedding", "image", "transcription", "speech"]
# Paths of the API's endpoints that are model calls; everything else the client sends is none of ours.
_KINDS: Final[Mapping[str, Kind]] = {
    "/chat/completions": "chat",
    "/completions": "completion",
    "/responses": "response",
    "/responses/compact": "response",
    "/embeddings": "embedding",
    "/images/generations": "image",
    "/images/edits": "image",
    "/images/variations": "image",
    "/audio/transcriptions": "transcription",
    "/audio/translations": "transcription",
    "/audio/speech": "speech",
}
_NAMES: Final[Mapping[Kind, str]] = {
    "chat": "chat",
    "completion": "text_completion",
    "response": "responses",
    "embedding": "embeddings",
    "image": "image",
    "transcription": "transcription",
    "speech": "speech",
}
# Content, and what names a person: the rest of a body are parameters.
_NO_PARAMETERS: Final = frozenset(
    {
        *("model", "messages", "input", "instructions", "prompt", "tools", "functions", "metadata"),
        *("user", "safety_identifier", "prompt_cache_key", "stream_options"),
        *("known_speaker_names", "known_speaker_references", "keywords", "svg"),
    }
)


@dataclass(frozen=True, slots=True)
class Question:
    """One model call that is about to be made.

    Args:
        fields: arguments of `open_observation`, unchecked.
    """

    kind: Kind
    name: str
    body: Mapping[str, Any]
    fields: dict[str, Any]

    @property
    def is_streamed_chat(self) -> bool:
        """Whether usage comes only where it is asked for."""
        return self.kind in ("chat", "completion") and self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asks for the usage of the stream."""
        options = self.body.get("stream_options")
        return isinstance(options, Mapping) and options.get("include_usage") is True


def question_of(method: Any, path: Any, body: Any) -> Question | None:
    """The model call of a request, or None where it is none."""
    kind = _KINDS.get(path) if isinstance(path, str) else None
    if kind is None or not isinstance(body, Mapping) or str(method).lower() != "post":
        return None
    model = text(body.get("model"))
    fields = {
        "type": "embedding" if kind == "embedding" else "generation",
        "model": model,
        "model_requested": model,
        "input": _input(kind, body),
        "parameters": {name: value for name, value in body.items() if name not in _NO_PARAMETERS} or None,
        "tool_definitions": listed(body.get("tools")) or listed(body.get("functions")) or None,
        "prompt": _prompt(kind, body),
        "metadata": body["metadata"] if isinstance(body.get("metadata"), Mapping) else None,
    }
    name = f"{_NAMES[kind]} {model}" if model else _NAMES[kind]
    return Question(kind, name, body, {key: value for key, value in fields.items() if value is not None})


def _input(kind: Kind, body: Mapping[str, Any]) -> Any:
    if kind == "chat":
        return body.get("messages")
    if kind in ("completion", "image", "transcription"):  # files are no part of a body, and not recorded
        return body.get("prompt")
    given = body.get("input")
    instructions = text(body.get("instructions"))
    if kind == "embedding" or instructions is None:
        return given
    rest = [{"role": "user", "content": given}] if isinstance(given, str) else listed(given)
    return [{"role": "system", "content": instructions}, *rest]


def _prompt(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The Responses API's stored prompt."""
    stored = body.get("prompt")
    if kind != "response" or not isinstance(stored, Mapping) or not isinstance(stored.get("id"), str):
        return None
    found = {"name": stored["id"], "version": stored.get("version"), "variables": stored.get("variables")}
    return {key: value for key, value in found.items() if value is not None}
