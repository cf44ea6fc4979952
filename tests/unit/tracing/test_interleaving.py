"""What another thread may do in between: tried at every single line, not left to chance."""

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from turntrace.tracing import provider
from turntrace.tracing.observation import turn as explicit_turn
from turntrace.tracing.provider import TurnSpanProcessor
from turntrace.tracing.turn import Turn, activate, deactivate

from .conftest import ListRecorder


class Between:
    """Does something once, before the line of that number in what runs below a function."""

    def __init__(self, function: Callable[..., Any], line: int, act: Callable[[], Any]) -> None:
        self._code: CodeType = function.__code__
        self._line, self._act = line, act
        self._lines = self._depth = 0
        self.has_acted = False

    def __enter__(self) -> "Between":
        self._previous = sys.gettrace()
        sys.settrace(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._previous)

    def _watch(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call" and (self._depth or frame.f_code is self._code):
            self._depth += 1
            return self._watch
        if event == "return":
            self._depth -= 1
        elif event == "line":
            self._lines += 1
            if self._lines == self._line:
                self.has_acted = True
                self._act()
        return self._watch if self._depth else None


def hosts_tracer(recorder: ListRecorder) -> trace.Tracer:
    made = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    made.add_span_processor(TurnSpanProcessor(recorder))  # type: ignore[arg-type]
    return made.get_tracer("host")


def lines_of(attempt: Callable[[int], bool]) -> int:
    """How many lines there were: one attempt for each, until one finds no such line."""
    return next(line for line in range(2_000) if not attempt(line + 1))


@pytest.mark.parametrize("function", [TurnSpanProcessor.on_start, TurnSpanProcessor.on_end])
def test_a_turn_may_end_at_any_line_of_a_hosts_span_and_the_span_is_kept(function: Callable[..., Any]) -> None:
    def attempt(line: int) -> bool:
        recorder = ListRecorder()
        tracer = hosts_tracer(recorder)
        turn = Turn(recorder, name="POST /chat", is_explicit=True)
        activation = activate(turn)
        try:
            with Between(function, line, turn.finish) as between:
                tracer.start_span("chat", attributes={"gen_ai.system": "x"}).end()
        finally:
            deactivate(activation)
        turn.finish()
        told = [span for _, _, document in recorder.frames for span in document["spans"] if "duration_us" in span]
        assert [span["name"] for span in told][:1] == ["chat"], f"line {line}"
        assert not turn._joined
        return between.has_acted

    assert lines_of(attempt) > 10


def test_a_processor_may_be_added_at_any_line_while_a_log_record_is_given_to_all(recorder: ListRecorder) -> None:
    tracer = hosts_tracer(recorder)
    others = [TurnSpanProcessor(recorder) for _ in range(3)]

    def attempt(line: int) -> bool:
        added: list[TurnSpanProcessor] = []
        with explicit_turn(recorder, name="ask"):
            span = tracer.start_span("chat", attributes={"gen_ai.system": "x"})
            place = span.get_span_context()
            with Between(provider.hear, line, lambda: added.append(TurnSpanProcessor(recorder))) as between:
                provider.hear(recorder, place.trace_id, place.span_id, ("gen_ai.choice", {"a": 1}, 5_000))
            span.end()
        assert [event["name"] for event in recorder.spans()["chat"]["events"]] == ["gen_ai.choice"], f"line {line}"
        return between.has_acted

    assert lines_of(attempt) > len(others)
