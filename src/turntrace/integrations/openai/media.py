"""Images and audio: what came back is described, never kept; text that was heard is text."""

from typing import Any, Final

from turntrace.integrations.openai.question import Kind, Question
from turntrace.integrations.openai.reading import get, listed, text
from turntrace.integrations.openai.usage import usage_of

MEDIA: Final = frozenset({"image", "transcription", "speech"})
_BY_CHARACTER: Final = "tts-"  # models whose speech is paid for by the character; the others state no usage at all


def media_fields(kind: Kind, answer: Any) -> dict[str, Any]:
    """Output of an answer of images, of a transcription, or of speech."""
    if kind == "speech":
        return {"output": _sound(answer)}
    if isinstance(answer, str):  # a transcription as plain text or subtitles
        return {"output": answer or None}
    images = [_image(image, answer) for image in listed(get(answer, "data"))]
    if images:
        return {"output": images}
    return {"output": text(get(answer, "text")), **_length(answer)}


def spoken_characters(question: Question) -> int | None:
    """How many characters are spoken, where speech is paid for by them."""
    model, given = question.body.get("model"), question.body.get("input")
    if not isinstance(given, str) or not isinstance(model, str) or not model.startswith(_BY_CHARACTER):
        return None
    return len(given)


def _image(image: Any, answer: Any) -> dict[str, Any]:
    encoded = get(image, "b64_json")
    found = {
        "type": "image",
        "url": (text(get(image, "url")) or "").partition("?")[0] or None,  # what follows opens the picture to anybody
        "bytes": len(encoded) * 3 // 4 - encoded[-2:].count("=") if isinstance(encoded, str) else None,
        "format": text(get(answer, "output_format")),
        "revised_prompt": text(get(image, "revised_prompt")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _length(answer: Any) -> dict[str, Any]:
    """Seconds of a verbose answer that states no usage."""
    seconds = get(answer, "duration")
    if get(answer, "usage") is not None or not isinstance(seconds, (int, float)):
        return {}
    return {"usage": {"audio_seconds": round(seconds)}} if 0 <= seconds < 1e9 else {}


def _sound(answer: Any) -> dict[str, Any] | None:
    headers = get(answer, "response", "headers")
    if headers is None:
        return None
    found: dict[str, Any] = {"type": "audio", "format": text(headers.get("content-type"))}
    content = get(answer, "response", "content")
    if isinstance(content, bytes):
        found["bytes"] = len(content)
    return found


class MediaGrowth:
    """Events of an image that is drawn, or of audio that is written down; the last one has the usage."""

    def __init__(self, room: int) -> None:
        self._pieces: list[str] = []
        self._room = room
        self._last: Any = None
        self.count = 0

    def add(self, piece: Any) -> bool:
        """Take an event; whether it held output."""
        self.count += 1
        kind = str(get(piece, "type"))
        if kind.endswith((".completed", ".done")):
            self._last = piece
        delta = text(get(piece, "delta"))
        if delta is not None and self._room > 0:
            self._pieces.append(delta[: self._room])
            self._room -= len(delta)
        return kind.endswith((".delta", ".partial_image", ".completed"))

    def value(self) -> Any:
        """What was written down so far, or the image."""
        if text(get(self._last, "b64_json")) is not None:
            return [_image(self._last, self._last)]
        return text(get(self._last, "text")) or "".join(self._pieces) or None

    def fields(self) -> dict[str, Any]:
        """What was received."""
        found = {"output": self.value(), "usage": usage_of(get(self._last, "usage"))}
        return {name: value for name, value in found.items() if value is not None}

    def is_complete(self) -> bool:
        """The event that ends it has come."""
        return self._last is not None
