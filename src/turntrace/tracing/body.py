"""The text of an answer as the client was given it, bounded; kept as bytes until a frame needs it."""

from codecs import IncrementalDecoder, getincrementaldecoder
from functools import lru_cache
from typing import Final

_TEXTUAL: Final = ("text/", "application/json", "application/x-ndjson", "application/jsonl", "application/xml")
_new_decoder = getincrementaldecoder("utf-8")


@lru_cache(maxsize=256)
def is_textual(content_type: str | None) -> bool:
    """Whether a body of this media type is text worth keeping."""
    kind = (content_type or "").lower()
    return kind.startswith(_TEXTUAL) or "+json" in kind or "+xml" in kind


class BodyText:
    """Pieces of one body, decoded when asked for: characters are never split between two frames.

    Args:
        room: bytes that are kept.
    """

    __slots__ = ("_chunks", "_decoder", "_room", "_text")

    def __init__(self, room: int) -> None:
        self._room = room
        self._chunks: list[bytes] = []
        self._text: list[str] = []
        self._decoder: IncrementalDecoder | None = None

    def add(self, chunk: bytes) -> None:
        """Take one piece, or as much of it as there is room for."""
        if self._room > 0:
            self._chunks.append(bytes(chunk if len(chunk) <= self._room else chunk[: self._room]))
            self._room -= len(chunk)

    def growth(self, *, is_whole: bool = False) -> str:
        """The text since the last call; `is_whole`: nothing more will come, half a character is one nobody knows."""
        chunks, self._chunks = self._chunks, []
        if self._decoder is None:
            self._decoder = _new_decoder("replace")
        text = self._decoder.decode(b"".join(chunks), is_whole)
        self._text.append(text)
        return text

    def all(self, *, is_whole: bool = False) -> str:
        """The text so far."""
        self.growth(is_whole=is_whole)
        self._text = ["".join(self._text)]
        return self._text[0]
