"""Streams of the client, step by step: one observation each, ended once however the stream ends.

The stream object stays the client's own. Its iterator is replaced by one that passes every chunk on, and the `close`
of its response tells us where the application stops reading.
"""

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from functools import wraps
from time import perf_counter_ns
from typing import Any, Final

from turntrace.integrations.openai.growth import Growth, is_usage_only
from turntrace.tracing.span import Span
from turntrace.tracing.stepping import ObservedAsyncGenerator, ObservedGenerator, Stepping

# How a stream can end before its answer is complete, and what is said of it; an error speaks for itself.
_REASONS: Final = {
    "cut": "the provider ended the stream before the answer was complete",
    "left": "the application stopped reading before the answer was complete",
    "cancelled": "cancelled before the answer was complete",
}


class StreamStepping(Stepping):
    """The observation of one stream.

    Args:
        hides_usage: the chunk with nothing but the usage was asked for by us, and is kept from the application.
    """

    __slots__ = ("_growth", "_is_finished", "hides_usage", "is_inside", "release")

    def __init__(self, span: Span, growth: Growth, *, hides_usage: bool) -> None:
        super().__init__(span, capture_output=False)
        self._growth = growth
        self._is_finished = False
        self.hides_usage = hides_usage
        self.is_inside = False
        self.release: Callable[[], None] | None = None
        span.partial = growth

    def attach(self) -> Any:
        """A step begins. It only reads from a connection: the observation need not be current for that."""
        self.is_inside = True
        self._rest(0)
        return self

    def detach(self, attached: Any) -> None:
        """The step is over."""
        self._rest(perf_counter_ns())
        self.is_inside = False

    def keep(self, item: Any) -> None:
        """Take one chunk; the first with output is the time to first token."""
        span = self._span
        try:
            if self._growth.add(item):
                span.first_token()
            span.is_dirty = True
        except Exception as exc:
            span.turn.recorder.guard.fault("openai.chunk", exc)

    def hides(self, item: Any) -> bool:
        """Whether this chunk is there because of us alone."""
        try:
            return self.hides_usage and is_usage_only(item)
        except Exception as exc:
            self._span.turn.recorder.guard.fault("openai.chunk", exc)
            return False

    def finish(self, error: BaseException | None = None, **how: Any) -> None:
        """The iteration is over: at its end, closed, or broken by `error`."""
        if error is None:
            self.finish_as("left" if how else "cut")
        elif isinstance(error, GeneratorExit):
            self.finish_as("left")
        elif isinstance(error, Exception):
            self.finish_as("failed", error)
        else:  # of the loop, or of the interpreter
            self.finish_as("cancelled", error)

    def finish_as(self, how: str, error: BaseException | None = None) -> None:
        """End the observation with what was received; only the first call counts."""
        if self._is_finished:
            return
        self._is_finished = True
        span = self._span
        try:
            self._tell(how)
            if self.release is not None:
                self.release()
                self.release = None
        except Exception as exc:
            span.turn.recorder.guard.fault("openai.finish", exc)
        if error is not None:
            span.fail(error)
        span.end()

    def _tell(self, how: str) -> None:
        span, growth = self._span, self._growth
        span.partial = None
        span.is_whole = growth.is_complete()
        fields = growth.fields()
        metadata: dict[str, Any] = {"stream_chunks": growth.count}
        span.is_whole = how != "failed" and growth.is_complete()
        if not span.is_whole:
            metadata["incomplete"] = how
        if "incomplete" in metadata and how in _REASONS:
            fields.setdefault("level", "warning")
            fields.setdefault("status_message", _REASONS[how])
        span.update(**fields, metadata=metadata)


class ObservedStream(ObservedGenerator):
    """The iterator inside a `Stream`."""

    __slots__ = ()
    _stepping: StreamStepping

    def __init__(self, steps: Any, stepping: StreamStepping) -> None:
        self._steps = steps
        self._stepping = stepping

    def __next__(self) -> Any:
        while True:
            item = super().__next__()
            if not self._stepping.hides(item):
                return item

    def __del__(self) -> None:
        stepping = getattr(self, "_stepping", None)
        if stepping is not None:
            stepping.finish_as("left")


class ObservedAsyncStream(ObservedAsyncGenerator):
    """The iterator inside an `AsyncStream`."""

    __slots__ = ()
    _stepping: StreamStepping

    def __init__(self, steps: Any, stepping: StreamStepping) -> None:
        self._steps = steps
        self._stepping = stepping

    async def __anext__(self) -> Any:
        while True:
            item = await super().__anext__()
            if not self._stepping.hides(item):
                return item

    def __del__(self) -> None:
        stepping = getattr(self, "_stepping", None)
        if stepping is not None:
            stepping.finish_as("left")


def observe_stream(stream: Any, stepping: StreamStepping) -> bool:
    """Follow a stream of the client; False where it is not made as we know it."""
    steps = stream._iterator
    if isinstance(steps, AsyncGenerator):
        stream._iterator = ObservedAsyncStream(steps, stepping)
        _watch_close(stream.response, "aclose", stepping)
    elif isinstance(steps, Generator):
        stream._iterator = ObservedStream(steps, stepping)
        _watch_close(stream.response, "close", stepping)
    else:
        return False
    return True


def _watch_close(response: Any, name: str, stepping: StreamStepping) -> None:
    """`Stream.close()`, a `with` block and the client's stream helpers all end in the response's own method."""
    close = getattr(response, name)

    def ended() -> None:
        if not stepping.is_inside:  # else the step that is going on tells how it ends
            stepping.finish_as("left")

    if inspect.iscoroutinefunction(close):

        @wraps(close)
        async def closed_later() -> None:
            try:
                await close()
            finally:
                ended()

        setattr(response, name, closed_later)
    else:

        @wraps(close)
        def closed() -> None:
            try:
                close()
            finally:
                ended()

        setattr(response, name, closed)
    # The original method is found on the class again: the cycle through our closure is gone.
    stepping.release = lambda: vars(response).pop(name, None) and None
