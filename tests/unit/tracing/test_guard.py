"""The shield: swallows and counts, says little, opens its breaker, and steps aside in tests."""

import asyncio
import logging

import pytest

from turntrace.tracing.guard import Guard


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_faults_are_counted_by_seam_and_type() -> None:
    told: list[str] = []
    guard = Guard(on_fault=told.append)
    with guard.seam("a"):
        raise ValueError("x")
    with guard.seam("a"):
        raise KeyError("x")
    guard.fault("b", ValueError("x"))
    assert guard.counts == {("a", "ValueError"): 1, ("a", "KeyError"): 1, ("b", "ValueError"): 1}
    assert guard.faults() == {"a": 2, "b": 1}
    assert told == ["a", "a", "b"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_is_never_swallowed(error: type[BaseException]) -> None:
    with pytest.raises(error), Guard().seam("a"):
        raise error


def test_a_seam_logs_once_a_minute_and_never_the_message(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    guard = Guard(clock=clock)
    with caplog.at_level(logging.WARNING, "turntrace"):
        for _ in range(3):
            guard.fault("seam", ValueError("canary of a user"))
        assert len(caplog.records) == 1
        clock.now += 61
        guard.fault("seam", ValueError("canary of a user"))
    assert len(caplog.records) == 2
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


def test_the_breaker_opens_after_twenty_faults_and_closes_after_five_minutes() -> None:
    clock = Clock()
    guard = Guard(clock=clock)
    for _ in range(19):
        guard.fault("s", ValueError())
    assert guard.is_recording()
    guard.fault("s", ValueError())
    assert not guard.is_recording()
    clock.now += 299
    assert not guard.is_recording()
    clock.now += 2
    assert guard.is_recording()


def test_faults_spread_over_time_do_not_open_it() -> None:
    clock = Clock()
    guard = Guard(clock=clock)
    for _ in range(100):
        guard.fault("s", ValueError())
        clock.now += 4
    assert guard.is_recording()


def test_the_kill_switch_and_reraise() -> None:
    assert not Guard(enabled=False).is_recording()
    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as caught:
        Guard(reraise=True).fault("s", error)
    assert caught.value is error
    with pytest.raises(ValueError, match="x"), Guard(reraise=True).seam("s"):
        raise error


def test_a_failing_counter_does_not_escape() -> None:
    def fail(seam: str) -> None:
        raise OSError

    Guard(on_fault=fail).fault("s", ValueError())
