"""Keeps one worker running per host and application: started beside the web process, elected by a file lock.

Nothing here runs on a request: a look costs a clock reading, and what is slow happens in a thread of its own.
"""

import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("turntrace")

LOOK_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
# Exit code of a worker process that found another one at work.
NOT_ELECTED = 75


class Supervised(Protocol):
    """One way to run the worker."""

    def is_needed(self) -> bool:
        """Whether nobody works on this spool at the moment, as far as can be told cheaply."""
        ...

    def run(self, stop: threading.Event) -> bool:
        """Run until the worker ends; False when another one holds the lock."""
        ...


class Lock(Protocol):
    """The worker's lock, as `spool.directory.WorkerLock` has it."""

    def acquire(self) -> bool: ...
    def descriptor(self) -> int: ...
    def is_held_elsewhere(self) -> bool: ...
    def release(self) -> None: ...


class ProcessWorker:
    """A worker in a process of its own, told its settings through its standard input.

    The pipe stays open as long as this process lives: its end is the worker's sign to drain and go. The election is
    over before the process is made, which costs a second of CPU: the lock is taken here and inherited there.

    Args:
        wire: settings of the worker as JSON, given the descriptor of the lock that it inherits.
    """

    def __init__(self, wire: Callable[[int], bytes], lock: Lock, drain_seconds: float) -> None:
        self._wire, self._lock, self._drain_seconds = wire, lock, drain_seconds

    def is_needed(self) -> bool:
        return not self._lock.is_held_elsewhere()

    def run(self, stop: threading.Event) -> bool:
        if not self._lock.acquire():
            return False
        process, told = self._start()
        try:
            self._tell(process, told)
            while process.poll() is None and not stop.wait(0.25):
                pass
        finally:
            self._end(process)
        return process.returncode != NOT_ELECTED

    def _start(self) -> "tuple[subprocess.Popen[bytes], bytes]":
        """The process, which holds the lock from now on, and what it is to be told."""
        command = [sys.executable, "-m", "turntrace.cli", "worker", "--from-pipe"]
        try:
            descriptor = self._lock.descriptor()
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[descriptor],
            )
            return process, self._wire(descriptor)
        finally:
            self._lock.release()

    def _tell(self, process: "subprocess.Popen[bytes]", told: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(told + b"\n")
            process.stdin.flush()
        except OSError:
            log.warning("the worker process ended while it was started")

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Close the pipe and leave the worker to drain: what it does not manage stays in the spool."""
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(self._drain_seconds)
        except (OSError, subprocess.TimeoutExpired):
            log.debug("the worker process is still draining")


class ThreadWorker:
    """A worker in a thread of this process.

    Args:
        work: runs the worker until the event is set.
        acquire, release: the worker's lock.
    """

    def __init__(
        self, work: Callable[[threading.Event], None], acquire: Callable[[], bool], release: Callable[[], None]
    ) -> None:
        self._work, self._acquire, self._release = work, acquire, release

    def is_needed(self) -> bool:
        return True

    def run(self, stop: threading.Event) -> bool:
        if not self._acquire():
            return False
        try:
            self._work(stop)
        finally:
            self._release()
        return True


class Supervisor:
    """Starts the worker where none runs, again when it ends, and stops it within bounds."""

    def __init__(self, supervised: Supervised, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._supervised = supervised
        self._clock = clock
        self._look_at = 0.0
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ensure(self) -> None:
        """Called on every recorded turn: at most once a second it looks whether a worker is needed."""
        now = self._clock()
        if now < self._look_at or self._stop.is_set():
            return
        self._look_at = now + LOOK_SECONDS
        if self._thread is not None and self._thread.is_alive():
            return
        if self._starting.acquire(blocking=False):
            try:
                self._start()
            finally:
                self._starting.release()

    def _start(self) -> None:
        thread = threading.Thread(target=self._keep_running, name="turntrace-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends: what is spooled is the next one's
            return
        self._thread = thread

    def is_running(self) -> bool:
        """Whether this process runs or watches over the worker."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, seconds: float) -> bool:
        """Ask the worker to drain and end; False when it took longer than `seconds` and was left behind."""
        self._stop.set()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(seconds)
        return not thread.is_alive()

    def _keep_running(self) -> None:
        """Look and run for as long as this process lives: who held the lock may end while nobody records a turn."""
        pause, delay = FIRST_PAUSE_SECONDS, 0.0
        while not self._stop.wait(delay):
            started = self._clock()
            if not self._has_run():
                delay = LOOK_SECONDS * random.uniform(0.5, 1.5)  # processes that start together look apart
                continue
            if self._clock() - started > LAST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            delay, pause = pause, min(pause * 2, LAST_PAUSE_SECONDS)

    def _has_run(self) -> bool:
        """Run the worker if one is needed; says whether it ran, or tried to."""
        try:
            return self._supervised.is_needed() and self._supervised.run(self._stop)
        except Exception as error:
            log.error("the worker ended: %s", type(error).__name__)
            return True
