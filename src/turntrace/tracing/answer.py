"""What capture sees of a turn's answer, piece by piece."""

from time import perf_counter_ns

from turntrace.tracing.body import BodyText, is_textual
from turntrace.tracing.header import Header
from turntrace.tracing.recorder import Recorder


class Answer(Header):
    """The part of a turn that follows what the client is given."""

    __slots__ = ("_body", "_is_text", "recorder", "started_ns")

    recorder: Recorder
    started_ns: int
    _body: BodyText | None  # of a streamed answer of text
    _is_text: bool

    def begin_response(self, status: int, content_type: str | None = None) -> None:
        """The answer begins. Its text is kept (bounded by `max_received_bytes`) where `content_type` is text-like."""
        self.http_status = status
        self._body = None
        self._is_text = is_textual(content_type)

    def sent(self, chunk: bytes, *, more: bool = True) -> None:
        """A piece of the body is about to be given to the client; `more`: it is not known to be the last.

        Call `checkpoint()` after it when `is_due()`, and `finish()` before handing on the last piece.
        """
        if not chunk:
            return
        length_us = (perf_counter_ns() - self.started_ns) // 1000
        if self.ttft_us is None:
            self.ttft_us = length_us
            if more:
                self.is_streamed = True
        else:
            self.is_streamed = True
        self.last_byte_us = length_us
        self.bytes_sent = (self.bytes_sent or 0) + len(chunk)
        self.chunk_count = (self.chunk_count or 0) + 1
        if self._is_text and self.is_streamed:  # what comes in one piece is nobody's stream
            self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        if self._body is None:
            self._body = BodyText(self.recorder.settings.max_received_bytes)
        self._body.add(chunk)

    def leave(self) -> None:
        """The client is found gone; the first call counts."""
        if self.client_left_us is None:
            self.client_left_us = (perf_counter_ns() - self.started_ns) // 1000
