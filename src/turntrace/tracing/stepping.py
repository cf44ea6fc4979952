"""Observations of generators, whose work is done in steps.

The observation begins with the call and ends exactly once: exhausted, closed, failed, or dropped. What is yielded is
its output. OpenTelemetry's context is attached around each step and never across a `yield`: between two steps another
task, or another thread, may be running. Observations that the generator has entered then are current again with its
next step.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Final

from turntrace.records.fragment import CUT_BEGINS, CUT_ENDS
from turntrace.tracing import encode
from turntrace.tracing.context import activate, attach, current_span, deactivate, get_current, with_span
from turntrace.tracing.span import Span

_MAX_PIECES: Final = 10_000


class Pieces:
    """What a generator has yielded so far, encoded piece by piece: texts joined to one, other values as a list."""

    __slots__ = ("_is_text", "_items", "_room", "count")

    def __init__(self, room: int) -> None:
        self._items: list[Any] = []
        self._room = room
        self._is_text = True
        self.count = 0

    def add(self, item: Any) -> None:
        """Keep one piece, while there is room."""
        self.count += 1
        if self._room <= 0 or len(self._items) >= _MAX_PIECES:
            return
        if type(item) is bytes:  # a streamed body
            item = item[: self._room].decode("utf-8", "replace")
        wire, size = encode.capture(item, max(self._room, 256))
        self._room -= size
        self._is_text = self._is_text and type(wire) is str
        self._items.append(wire)

    def value(self) -> Any:
        """One text, or the list of pieces; None where nothing was yielded."""
        items = self._items[:]
        if not items:
            return None
        if self.count > len(items):
            items.append(f"{CUT_BEGINS}{self.count - len(items)} more pieces{CUT_ENDS}")
        return "".join(items) if self._is_text else items


class Stepping:
    """One observation whose function runs in steps: attached around each, finished once."""

    __slots__ = ("_left", "_outer", "_pieces", "_span", "is_closing")

    def __init__(self, span: Span, capture_output: bool) -> None:
        self._span = span
        self._left: Any = None  # the context of what it had entered when it yielded
        self._outer: Any = None  # and what was current around that step
        self.is_closing = False
        span.is_one_step = False
        span.rested_ns = perf_counter_ns()  # until its first step
        self._pieces: Pieces | None = None
        if capture_output:
            self._pieces = Pieces(span.turn.field_limit)
            span.partial = self._pieces

    def attach(self) -> Any:
        """Make the span current for one step; None where that failed."""
        try:
            return self._attach()
        except Exception as exc:
            self._span.turn.recorder.guard.fault("observe.attach", exc)
            return None

    def _attach(self) -> Any:
        self._rest(0)
        previous, left = get_current(), self._left
        if left is not None and previous is left:
            previous = self._outer
        activation = activate(self._span.turn) if self._span.owns_turn else None
        own = with_span(self._span, get_current()) if left is None else left
        attach(own)
        return previous, own, activation

    def detach(self, attached: Any) -> None:
        """Put back what was current before the step."""
        if attached is None:
            return
        previous, own, activation = attached
        try:
            if activation is not None:
                deactivate(activation)
            self._part(own, previous)
            self._rest(perf_counter_ns())
        except Exception as exc:
            self._span.turn.recorder.guard.fault("observe.detach", exc)

    def _part(self, own: Any, previous: Any) -> None:
        """Take what is entered out of the caller's way, until the next step; spans of the host's own tracing stay
        current, as they would without us."""
        current = get_current()
        if current is own and self._left is None:
            attach(previous)
            return
        self._left, self._outer = current, previous
        if getattr(current_span(current), "turn", None) is self._span.turn:
            attach(previous)

    def _rest(self, since_ns: int) -> None:
        """Note that it stands still from now on, or goes on (0). That it is closed after its turn's end says nothing
        of when it was left: there its last step stays its end."""
        span = self._span
        if not (self.is_closing and span.turn.is_finished):
            span.rested_ns = since_ns

    def keep(self, item: Any) -> None:
        """Note one yielded piece; the first one is the time to first token of a generation."""
        span = self._span
        try:
            if span.own is not None and "completion_started_us" not in span.own:
                span.first_token()
            if self._pieces is not None:
                self._pieces.add(item)
                span.is_dirty = True
        except Exception as exc:
            span.turn.recorder.guard.fault("observe.piece", exc)

    def exhaust(self) -> None:
        """Its function has come to its end."""
        self._span.is_whole = True
        self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """End the observation; only the first call counts."""
        if error is not None and self._span.duration_us is None:
            self._span.fail(error)
            self._span.is_whole = isinstance(error, Exception)  # a failure is an end, too; no closing, no cancelling
        self._span.end()


class ObservedGenerator(Generator[Any, Any, Any]):
    """A generator whose iteration is one observation."""

    __slots__ = ("_stepping", "_steps")

    def __init__(self, steps: Generator[Any, Any, Any], span: Span, capture_output: bool) -> None:
        self._steps = steps
        self._stepping = Stepping(span, capture_output)

    def __next__(self) -> Any:
        return self._step(self._steps.__next__)

    def send(self, value: Any, /) -> Any:
        """Resume with a value."""
        return self._step(self._steps.send, value)

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        """Resume with an exception."""
        error = kind if value is None and traceback is None else _as_error(kind, value, traceback)
        return self._step(self._steps.throw, error)

    def close(self) -> None:
        """Close the inner generator and end the observation."""
        stepping = self._stepping
        stepping.is_closing = True
        attached = stepping.attach()
        try:
            self._steps.close()
        except BaseException as error:
            stepping.finish(error)
            raise
        finally:
            stepping.detach(attached)
        stepping.finish()

    def _step(self, resume: Callable[..., Any], *value: Any) -> Any:
        stepping = self._stepping
        attached = stepping.attach()
        try:
            item = resume(*value)
        except StopIteration:
            stepping.exhaust()
            raise
        except BaseException as error:
            stepping.finish(error)
            raise
        finally:
            stepping.detach(attached)
        stepping.keep(item)
        return item

    def __del__(self) -> None:
        # Dropped before its end, or never iterated. The inner generator is closed by its own finaliser.
        stepping = getattr(self, "_stepping", None)
        if stepping is not None:
            stepping.finish()


class ObservedAsyncGenerator(AsyncGenerator[Any, Any]):
    """An async generator whose iteration is one observation."""

    __slots__ = ("_stepping", "_steps")

    def __init__(self, steps: AsyncGenerator[Any, Any], span: Span, capture_output: bool) -> None:
        self._steps = steps
        self._stepping = Stepping(span, capture_output)

    async def __anext__(self) -> Any:
        return await self._step(self._steps.__anext__)

    async def asend(self, value: Any, /) -> Any:
        """Resume with a value."""
        return await self._step(self._steps.asend, value)

    async def athrow(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        """Resume with an exception."""
        error = kind if value is None and traceback is None else _as_error(kind, value, traceback)
        return await self._step(self._steps.athrow, error)

    async def aclose(self) -> None:
        """Close the inner generator and end the observation."""
        stepping = self._stepping
        stepping.is_closing = True
        attached = stepping.attach()
        try:
            await self._steps.aclose()
        except BaseException as error:
            stepping.finish(error)
            raise
        finally:
            stepping.detach(attached)
        stepping.finish()

    async def _step(self, resume: Callable[..., Any], *value: Any) -> Any:
        stepping = self._stepping
        attached = stepping.attach()
        try:
            item = await resume(*value)
        except StopAsyncIteration:
            stepping.exhaust()
            raise
        except BaseException as error:
            stepping.finish(error)
            raise
        finally:
            stepping.detach(attached)
        stepping.keep(item)
        return item

    def __del__(self) -> None:
        stepping = getattr(self, "_stepping", None)
        if stepping is not None:
            stepping.finish()


def _as_error(kind: Any, value: Any, traceback: TracebackType | None) -> BaseException:
    """The three-argument form of `throw` as one exception, as the language reference defines it."""
    error = value if isinstance(value, BaseException) else (kind() if value is None else kind(value))
    return error.with_traceback(traceback) if traceback is not None else error
