"""Threads that work side by side and keep nobody waiting at the end: a judge may take half a minute to answer, and the
host's process must be able to end at once. The standard library's executor is waited for when the interpreter ends.
"""

import queue
import threading
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Crew(Generic[T, R]):
    """Daemon threads, started when there is work. Given and taken from one thread.

    Args:
        work: done for each task, in a context of its own; it handles its errors itself.
        size: threads at the most.
    """

    def __init__(self, work: Callable[[T], R], size: int) -> None:
        self._work, self.size = work, size
        self._tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[R | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.under_way = 0

    def give(self, tasks: Iterable[T]) -> None:
        """More work."""
        for task in tasks:
            self.under_way += 1
            if len(self._threads) < min(self.size, self.under_way):
                self._start()
            self._tasks.put(task)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="turntrace-evaluation", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            result: R | None = None
            try:
                result = Context().run(self._work, task)
            finally:
                self._done.put(result)

    def take(self, *, seconds: float, gather_seconds: float) -> list[R]:
        """What is done: waits for the first, `seconds` at the most, and then a moment for those that end with it."""
        found: list[R] = []
        wait = seconds
        while self.under_way:
            try:
                result = self._done.get(timeout=wait)
            except queue.Empty:
                break
            self.under_way -= 1
            if result is not None:
                found.append(result)
            wait = gather_seconds
            if len(found) >= self.size:
                break
        return found

    def close(self) -> None:
        """Send the threads home once they are done; nobody waits for them."""
        for _ in self._threads:
            self._tasks.put(None)
        self._threads = []
