"""Threads and executors that are started inside a turn."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import anyio
import anyio.to_thread
import pytest

from turntrace.tracing import threads
from turntrace.tracing.context import current_turn
from turntrace.tracing.observation import observation
from turntrace.tracing.turn import Turn, activate, deactivate

from .conftest import ListRecorder


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    threads.install()
    yield
    threads.remove()
    assert ThreadPoolExecutor.submit.__name__ == "submit"
    assert not hasattr(ThreadPoolExecutor.submit, "__wrapped__")
    assert not hasattr(threading.Thread.start, "__wrapped__")


def test_tasks_of_an_executor_belong_to_the_turn_that_submitted_them(recorder: ListRecorder) -> None:
    with ThreadPoolExecutor(1) as pool:
        seen = []
        for _ in range(2):
            turn = Turn(recorder)
            activation = activate(turn)
            seen.append((turn, pool.submit(current_turn).result()))
            deactivate(activation)
        assert all(turn is found for turn, found in seen)
        assert pool.submit(current_turn).result() is None


def test_worker_threads_do_not_keep_the_turn(recorder: ListRecorder, turn: Turn) -> None:
    found: list[object] = []

    def initialise() -> None:
        found.append(current_turn())

    with ThreadPoolExecutor(1, initializer=initialise) as pool:
        assert pool.submit(current_turn).result() is turn
    assert found == [None]


def test_a_thread_belongs_to_the_turn_that_started_it(recorder: ListRecorder, turn: Turn) -> None:
    class Own(threading.Thread):
        def run(self) -> None:
            found.append(current_turn())

    found: list[object] = []
    for thread in (threading.Thread(target=lambda: found.append(current_turn())), Own(), threading.Timer(0, Own().run)):
        thread.start()
        thread.join()
    assert found == [turn] * 3


def test_observations_of_threads_nest_in_the_one_that_started_them(recorder: ListRecorder, turn: Turn) -> None:
    def work(name: str) -> None:
        with observation(recorder, name):
            pass

    with observation(recorder, "parent"), ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["a", "b"]))
    turn.finish()
    spans = recorder.spans()
    assert spans["a"]["parent_span_id"] == spans["b"]["parent_span_id"] == spans["parent"]["span_id"]


async def test_thread_pools_of_asyncio_and_anyio(recorder: ListRecorder, turn: Turn) -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, current_turn) is turn
    assert await asyncio.to_thread(current_turn) is turn
    assert await anyio.to_thread.run_sync(current_turn) is turn


def test_what_is_carried_is_the_turn_and_nothing_of_the_hosts(recorder: ListRecorder) -> None:
    """Frameworks keep their request and its database session in context variables of their own."""

    def look() -> tuple[str, Turn | None]:
        with observation(recorder, "step"):
            return request.get(), current_turn()

    request: ContextVar[str] = ContextVar("request", default="none")
    found: list[object] = []
    with ThreadPoolExecutor(1, initializer=lambda: request.set("the worker's")) as pool:
        turn = Turn(recorder, name="POST /chat")
        activation = activate(turn)
        request.set("mine")
        found.append(pool.submit(look).result())
        thread = threading.Thread(target=lambda: found.append(look()))
        thread.start()
        thread.join()
        deactivate(activation)
        found.append(pool.submit(lambda: (request.get(), current_turn())).result())
    assert found == [("the worker's", turn), ("none", turn), ("the worker's", None)]


def test_outside_a_turn_nothing_is_carried(recorder: ListRecorder) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(current_turn()))
    run = thread.run
    thread.start()
    thread.join()
    assert found == [None]
    assert thread.run == run


def test_it_is_installed_once(recorder: ListRecorder) -> None:
    wrapped = ThreadPoolExecutor.submit
    threads.install()
    assert ThreadPoolExecutor.submit is wrapped
    assert threads.is_installed()


def test_a_wrapper_over_ours_survives_the_removal(monkeypatch: pytest.MonkeyPatch, recorder: ListRecorder) -> None:
    ours = threading.Thread.start
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: ours(self))
        threads.remove()
        turn = Turn(recorder)
        activation = activate(turn)
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(current_turn()))
        thread.start()
        thread.join()
        deactivate(activation)
        assert found == [None]
    threading.Thread.start = ours.__wrapped__  # type: ignore[attr-defined,method-assign]


def test_a_thread_that_could_not_be_started_runs_when_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch, recorder: ListRecorder, turn: Turn
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise RuntimeError("can't start new thread")

    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(current_turn()))
    starts = [name for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)]
    with monkeypatch.context() as patch:
        for name in starts:
            patch.setattr(threading, name, refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            thread.start()
    thread.start()
    thread.join()
    assert found == [turn]
