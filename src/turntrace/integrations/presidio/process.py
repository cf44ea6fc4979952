"""A handle on the analysing process: starts it, talks to it with a time limit for each text, kills and replaces it."""

import json
import os
import selectors
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from sys import intern
from time import monotonic
from typing import Any, Final

from turntrace.pipeline.redact import Entity, Failure

_LENGTH: Final = struct.Struct("!I")
_CHUNK: Final = 64 << 10
_MODULE: Final = "turntrace.integrations.presidio.child"
_START_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 30.0
_LONGEST_ANSWER: Final = 256 << 20

Question = tuple[str, int]  # a text and its signs


class Gone(Exception):
    """The analysing process ended or broke the protocol."""


class TooSlow(Exception):
    """The analysing process did not answer in time."""


class AnalyzerProcess:
    """One analysing process at a time, started when first needed and again after it was lost.

    Args:
        order: plain values of `EngineConfig`, sent as the first frame.
        seconds: wall-clock limit for one text; past it the process is killed and the text is a `Failure`.

    Not for several threads at once. After a fork the child of the fork starts a process of its own.
    """

    def __init__(self, order: dict[str, Any], *, seconds: float) -> None:
        self._order = {"engine": order, "seconds": max(seconds * 2, seconds + 1)}
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._owner = 0
        self._buffer = bytearray()
        self._not_before = 0.0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the analysing process, or None where there is none."""
        return self._process.pid if self._process else None

    def start(self) -> bool:
        """Start the process without waiting for it; False where it cannot be started now."""
        if self._owner != os.getpid():
            self._process, self._is_ready, self._owner = None, False, os.getpid()
        if self._process is not None:
            return True
        if monotonic() < self._not_before:
            return False
        try:
            self._process = self._spawn()
        except OSError:
            self._not_before = monotonic() + _RETRY_SECONDS
            return False
        self._is_ready = False
        self._buffer.clear()
        return True

    def ask(self, questions: Sequence[Question]) -> list[list[Entity] | Failure]:
        """The findings for each text; what cannot be had in time, or at all, is a `Failure`."""
        answers: list[list[Entity] | Failure] = []
        while len(answers) < len(questions):
            if not self._open():
                return answers + [Failure("analyser unavailable")] * (len(questions) - len(answers))
            rest = questions[len(answers) :]
            try:
                for answer in self._exchange([_frame(text, signs) for text, signs in rest]):
                    answers.append(_findings(answer))
            except TooSlow:
                self.kill()
                answers.append(Failure("time limit", is_lasting=True))
            except (Gone, OSError, ValueError):
                self.kill()
                answers.append(Failure("analyser died"))
        return answers

    def kill(self) -> None:
        """End the process at once; the next question starts another."""
        process, self._process, self._is_ready = self._process, None, False
        if process is None or self._owner != os.getpid():
            return
        self.restarts += 1
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe and pipe.close()
        process.wait()

    close = kill

    def _spawn(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "REGEX_TIMEOUT_SECONDS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        process = subprocess.Popen(  # noqa: S603 - our own module, under the interpreter that runs us
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            close_fds=True,
        )
        for pipe in (process.stdin, process.stdout):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        return process

    def _open(self) -> bool:
        """Whether a process is there and ready; the time it takes to start is not charged to any text."""
        if not self.start():
            return False
        if self._is_ready:
            return True
        try:
            first = next(self._exchange([_pack(json.dumps(self._order).encode())], seconds=_START_SECONDS))
        except (TooSlow, Gone, OSError):
            first = None
        if first != "ready":
            self.kill()
            self._not_before = monotonic() + _RETRY_SECONDS
            return False
        self._is_ready = True
        return True

    def _exchange(self, frames: Sequence[bytes], seconds: float | None = None) -> Iterator[Any]:
        """Write the frames and yield their answers as they come, each within the limit after the one before."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise Gone
        limit = self._seconds if seconds is None else seconds
        waiting = memoryview(b"".join(frames))
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stdin, selectors.EVENT_WRITE)
            for _ in frames:
                deadline = monotonic() + limit
                while (answer := self._take()) is None:
                    waiting = self._pump(selector, process, waiting, deadline)
                yield answer

    def _pump(
        self, selector: selectors.BaseSelector, process: "subprocess.Popen[bytes]", waiting: memoryview, deadline: float
    ) -> memoryview:
        """Wait until something can be written or read, and do so."""
        left = deadline - monotonic()
        events = selector.select(left) if left > 0 else []
        if not events:
            raise TooSlow
        for key, _ in events:
            if key.fileobj is process.stdin:
                waiting = waiting[os.write(key.fd, waiting[:_CHUNK]) :]
                if not waiting:
                    selector.unregister(key.fileobj)
            else:
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    raise Gone
                self._buffer += chunk
        return waiting

    def _take(self) -> Any:
        """The next whole answer in the buffer, or None."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > _LONGEST_ANSWER:
            raise Gone
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return json.loads(body)


def _pack(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def _frame(text: str, signs: int) -> bytes:
    return _pack(_LENGTH.pack(signs) + text.encode("utf-8", "surrogatepass"))


def _findings(answer: Any) -> list[Entity] | Failure:
    if isinstance(answer, dict):
        return Failure(str(answer["failure"]), is_lasting=bool(answer["lasting"]))
    return [
        Entity(int(start), int(end), intern(kind), float(score), intern(source))
        for start, end, kind, score, source in answer
    ]
