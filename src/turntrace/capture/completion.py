"""When an answer is complete for its reader. Chunks are looked at, never held, changed or parsed."""

from typing import Final

# What ends a stream for its reader although the connection goes on: OpenAI's and Anthropic's last event.
_OPENAI_END: Final = b"[DONE]"
_ANTHROPIC_END: Final = b"message_stop"
_TAIL: Final = 256  # a last event with its data fits
_SEAM: Final = 16  # longer than any marker: one that is cut in two is found all the same
_BODILESS: Final = frozenset({204, 304})


class Completion:
    """Follows one answer: its Content-Length, and the markers that end a stream."""

    __slots__ = ("_left", "_seam")

    def __init__(self) -> None:
        self._left = -1
        self._seam = b""

    def expect(self, length: str, status: int) -> None:
        """Take note of a Content-Length header, unless the answer has no body that it could describe."""
        if status not in _BODILESS and length.isdigit():
            self._left = int(length)

    def is_last(self, chunk: bytes) -> bool:
        """Whether this chunk fills the Content-Length; to be asked once for each, before it is sent."""
        if self._left < 0:
            return False
        self._left -= len(chunk)
        return self._left <= 0

    def ends_stream(self, chunk: bytes) -> bool:
        """Whether this chunk tells the reader of a stream that it was the last; to be asked once for each."""
        tail = self._seam + chunk[-_TAIL:]
        self._seam = tail[-_SEAM:]
        return _OPENAI_END in tail or _ANTHROPIC_END in tail
