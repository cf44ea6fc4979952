"""Generators that nobody reads to their end: where they stood still, not when that was found out, is their end."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest

from tests.unit.tracing.conftest import ListRecorder
from turntrace.tracing import answer as answers
from turntrace.tracing import span as spans
from turntrace.tracing import stepping as steppings
from turntrace.tracing import turn as turns
from turntrace.tracing.observation import observation
from turntrace.tracing.observe import observe
from turntrace.tracing.turn import Turn, activate, deactivate

MS = 1_000_000
HOUR = 3600 * 1000


class Clock:
    """A monotonic clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: int) -> None:
        self.now_ns += ms * MS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (answers, spans, steppings, turns):
        monkeypatch.setattr(module, "perf_counter_ns", made)
    return made


@pytest.fixture
def turn(recorder: ListRecorder, clock: Clock) -> Iterator[Turn]:
    made = Turn(recorder, name="POST /chat", path="/chat")
    activation = activate(made)
    yield made
    deactivate(activation)


def stepped(clock: Clock) -> Iterator[str]:
    for number in count():
        clock.pass_ms(10)
        yield f"{number} "


def observed(clock: Clock) -> Iterator[str]:
    return observe(type="generation", name="answer")(stepped)(clock)


def by_hand(recorder: ListRecorder) -> Callable[[Clock], Iterator[str]]:
    def steps(clock: Clock) -> Iterator[str]:
        with observation(recorder, "answer", type="generation"):
            yield from stepped(clock)

    return steps


def answer(document: dict[str, Any]) -> dict[str, Any]:
    (found,) = document["spans"]
    return {name: found[name] for name in ("duration_us", "seen_us") if name in found}


def read(steps: Iterator[str], turn: Turn, pieces: int) -> None:
    for _ in range(pieces):
        turn.sent(next(steps).encode())


def test_a_stream_that_rests_is_open_at_its_turns_end_and_was_seen_at_its_last_step(
    recorder: ListRecorder, turn: Turn, clock: Clock
) -> None:
    steps = observed(clock)
    read(steps, turn, 3)
    clock.pass_ms(500)
    turn.finish("client_disconnected")
    assert answer(recorder.last("END")) == {"seen_us": 30_000}
    steps.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["dropped", "closed"])
def test_when_a_left_stream_is_cleared_away_does_not_make_it_longer(
    recorder: ListRecorder, turn: Turn, clock: Clock, how: str
) -> None:
    steps = observed(clock)
    read(steps, turn, 3)
    clock.pass_ms(5)
    turn.finish("client_disconnected")
    clock.pass_ms(HOUR)
    if how == "closed":
        steps.close()  # type: ignore[attr-defined]
    del steps
    gc.collect()
    assert answer(recorder.last("AMEND")) == {"duration_us": 30_000, "seen_us": 30_000}


def test_a_generator_of_the_hosts_own_ends_with_the_last_piece(
    recorder: ListRecorder, turn: Turn, clock: Clock
) -> None:
    steps = by_hand(recorder)(clock)
    read(steps, turn, 3)
    clock.pass_ms(5)
    turn.finish("client_disconnected")
    assert answer(recorder.last("END")) == {"seen_us": 35_000}  # nothing says yet that it stands still
    clock.pass_ms(HOUR)
    steps.close()  # type: ignore[attr-defined]
    assert answer(recorder.last("AMEND")) == {"duration_us": 30_000, "seen_us": 30_000}


def test_where_nothing_was_sent_it_ends_with_its_turn(recorder: ListRecorder, turn: Turn, clock: Clock) -> None:
    steps = by_hand(recorder)(clock)
    next(steps)
    clock.pass_ms(5)
    turn.finish()
    clock.pass_ms(HOUR)
    steps.close()  # type: ignore[attr-defined]
    assert answer(recorder.last("AMEND")) == {"duration_us": 15_000, "seen_us": 15_000}


def test_what_goes_on_behind_its_turn_is_as_long_as_it_was(recorder: ListRecorder, turn: Turn, clock: Clock) -> None:
    """A task in the background reads on to the end and stores the answer: that is paid for."""

    @observe(type="generation", name="answer")
    def three() -> Iterator[str]:
        for number in range(3):
            clock.pass_ms(10)
            yield str(number)

    steps = three()
    read(steps, turn, 1)
    turn.finish("client_disconnected")
    clock.pass_ms(100)
    assert list(steps) == ["1", "2"]
    assert answer(recorder.last("AMEND")) == {"duration_us": 130_000}


def test_a_stream_that_is_closed_in_time_ends_then_and_is_incomplete(
    recorder: ListRecorder, turn: Turn, clock: Clock
) -> None:
    steps = observed(clock)
    read(steps, turn, 2)
    clock.pass_ms(7)
    steps.close()  # type: ignore[attr-defined]
    turn.finish()
    assert answer(recorder.last("END")) == {"duration_us": 27_000, "seen_us": 27_000}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_that_is_read_to_its_end_or_fails_is_not_incomplete(
    recorder: ListRecorder, turn: Turn, clock: Clock, is_async: bool, fails: bool
) -> None:
    def two() -> Iterator[str]:
        for number in range(2):
            clock.pass_ms(10)
            yield str(number)
        clock.pass_ms(5)
        if fails:
            raise OSError("broken")

    async def later() -> AsyncIterator[str]:
        for piece in two():
            yield piece

    async def read_all() -> None:
        steps: Any = observe(name="answer")(later)()
        async for _ in steps:
            turn.checkpoint()
            clock.pass_ms(1)
        await steps.aclose()

    def read_on() -> None:
        steps: Any = observe(name="answer")(two)()
        for _ in steps:
            turn.checkpoint()  # a frame that says where it rests
            clock.pass_ms(1)
        steps.close()

    with pytest.raises(OSError, match="broken") if fails else nullcontext():
        asyncio.run(read_all()) if is_async else read_on()
    clock.pass_ms(7)
    turn.finish()
    assert answer(recorder.last("END")) == {"duration_us": 27_000}


def test_a_stream_that_nobody_read_took_no_time(recorder: ListRecorder, turn: Turn, clock: Clock) -> None:
    steps = observed(clock)
    clock.pass_ms(HOUR)
    del steps
    gc.collect()
    turn.finish()
    assert answer(recorder.last("END")) == {"duration_us": 0, "seen_us": 0}


def test_an_async_stream_left_between_two_steps_is_the_same(recorder: ListRecorder, turn: Turn, clock: Clock) -> None:
    @observe(type="generation", name="answer")
    async def steps() -> AsyncIterator[str]:
        for number in count():
            clock.pass_ms(10)
            yield str(number)

    async def leave() -> None:
        stream = steps()
        for _ in range(3):
            turn.sent((await anext(stream)).encode())  # type: ignore[call-overload]
        turn.finish("client_disconnected")
        clock.pass_ms(HOUR)
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert answer(recorder.last("END")) == {"seen_us": 30_000}
    assert answer(recorder.last("AMEND")) == {"duration_us": 30_000, "seen_us": 30_000}


def test_when_the_client_left_is_told_once(recorder: ListRecorder, turn: Turn, clock: Clock) -> None:
    turn.update(name="x")
    clock.pass_ms(40)
    turn.leave()
    clock.pass_ms(40)
    turn.leave()
    turn.finish("client_disconnected")
    header = recorder.last("END")["turn"]
    assert (header["client_left_us"], header["duration_us"]) == (40_000, 80_000)
