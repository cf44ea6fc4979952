"""Observations that are still entered while a generator yields: they are the generator's, and nobody else's."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from turntrace.tracing.context import current_turn
from turntrace.tracing.observation import observation
from turntrace.tracing.observation import turn as turn_scope
from turntrace.tracing.observe import observe
from turntrace.tracing.turn import Turn

from .conftest import ListRecorder


def _words(recorder: ListRecorder) -> Iterator[str]:
    with observation(recorder, "model", type="generation"):
        yield "one"
        with observation(recorder, "deep"):
            pass
        yield "two"
    with observation(recorder, "after"):
        pass


async def _async_words(recorder: ListRecorder) -> AsyncIterator[str]:
    for word in _words(recorder):
        yield word


words, async_words = observe(_words), observe(_async_words)


def _parents(recorder: ListRecorder) -> dict[str, str]:
    """Names of spans and of what they hang below; empty for the turn itself."""
    spans = recorder.last("END")["spans"]
    names = {span["span_id"]: span["name"] for span in spans}
    return {span["name"]: names.get(span["parent_span_id"], "") for span in spans}


def test_what_the_reader_of_a_generator_does_is_no_part_of_it(recorder: ListRecorder, turn: Turn) -> None:
    before = trace.get_current_span()
    for word in words(recorder):
        assert trace.get_current_span() is before
        with observation(recorder, f"reader {word}"):
            pass
    assert trace.get_current_span() is before
    turn.finish()
    assert _parents(recorder) == {
        **{"_words": "", "model": "_words", "deep": "model", "after": "_words"},
        **{"reader one": "", "reader two": ""},
    }


async def test_nor_of_an_async_one(recorder: ListRecorder, turn: Turn) -> None:
    before = trace.get_current_span()
    async for word in async_words(recorder):
        assert trace.get_current_span() is before
        with observation(recorder, f"reader {word}"):
            pass
    assert trace.get_current_span() is before
    turn.finish()
    parents = _parents(recorder)
    assert (parents["deep"], parents["after"]) == ("model", "_async_words")
    assert parents["reader one"] == parents["reader two"] == ""


@pytest.mark.parametrize("taken", [1, 2])
def test_a_generator_left_early_leaves_nothing_current(recorder: ListRecorder, turn: Turn, taken: int) -> None:
    before = trace.get_current_span()
    steps: Any = words(recorder)
    for _ in range(taken):
        next(steps)
    steps.close()
    assert trace.get_current_span() is before
    turn.finish()
    assert _parents(recorder)["model"] == "_words"


def test_a_span_of_the_hosts_is_as_current_as_without_us(recorder: ListRecorder, turn: Turn) -> None:
    tracer = TracerProvider().get_tracer("host")

    def plain() -> Iterator[trace.Span]:
        with tracer.start_as_current_span("host"):
            yield trace.get_current_span()
            yield trace.get_current_span()

    @contextlib.contextmanager
    @observe
    def entered() -> Iterator[None]:
        with tracer.start_as_current_span("host"):
            yield

    before = trace.get_current_span()
    with entered():
        assert trace.get_current_span() is not before
    assert trace.get_current_span() is before
    steps = iter(observe(plain)())
    assert next(steps) is trace.get_current_span() is not before
    assert next(steps) is trace.get_current_span()
    assert list(steps) == []
    assert trace.get_current_span() is before


@pytest.mark.parametrize("is_observation", [True, False])
def test_a_turn_that_ends_takes_what_is_still_entered_with_it(recorder: ListRecorder, is_observation: bool) -> None:
    """A generator that nobody reads on holds an observation of a turn that is over."""
    scope = observation(recorder, "first") if is_observation else turn_scope(recorder, name="first")
    with scope:
        steps = _words(recorder)
        next(steps)
    assert current_turn() is None
    assert trace.get_current_span() is trace.INVALID_SPAN
    with observation(recorder, "second"):
        pass
    assert recorder.kinds() == ["END", "END"]
    assert _parents(recorder) == {"second": ""}
    del steps


def test_a_turn_inside_another_gives_back_the_outer_one(recorder: ListRecorder, turn: Turn) -> None:
    with turn_scope(recorder, name="inner"):
        steps = _words(recorder)
        next(steps)
    assert current_turn() is turn
    assert trace.get_current_span() is turn.root
    del steps
