"""What a turn needs of the rest: the `Recorder` protocol, and the one door through which frames leave."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from turntrace.records.fragment import FrameKind
from turntrace.settings import Settings
from turntrace.tracing.guard import Guard

if TYPE_CHECKING:
    from turntrace.tracing.turn import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What the recording process is: goes into every turn's header."""

    service_name: str | None = None
    environment: str = "default"
    release: str | None = None


class Recorder(Protocol):
    """Where turns are written to. The runtime implements it over the spool; tests over a list.

    `write` gets one frame's payload (JSON of `records/fragment.py`) and answers False where it was dropped, already
    counted. It may be called from any thread, and only through `emit` below. `open_turns` maps the ids of turns that
    have a START in the spool but no END yet: at a rotation the implementer calls `reemit()` on each.
    """

    @property
    def settings(self) -> Settings: ...
    @property
    def guard(self) -> Guard: ...
    @property
    def resource(self) -> Resource: ...
    @property
    def open_turns(self) -> "MutableMapping[str, Turn]": ...
    def write(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool: ...
    def note_turn(self, overhead_ns: int) -> None:
        """A recorded request is over, and took this much of our own time on its path."""
        ...


class _Writing(threading.local):
    is_active = False


_writing: Final = _Writing()
_deferred: Final[deque[Callable[[], None]]] = deque()


def run_exclusive(write: Callable[..., None], *arguments: Any) -> None:
    """Run `write(*arguments)`, or put it off until the write that this thread is inside of has ended.

    Garbage collection may end a span (a dropped stream, an instrumentation's `__del__`) at any instruction, also while
    this very thread holds the spool's lock: waiting for that lock would never end.
    """
    if _writing.is_active:
        _deferred.append(partial(write, *arguments))
        return
    _writing.is_active = True
    try:
        write(*arguments)
    finally:
        _writing.is_active = False
    if _deferred:
        _drain()


def _drain() -> None:
    while _deferred:
        try:
            write = _deferred.popleft()
        except IndexError:  # another thread was faster
            return
        run_exclusive(write)


def emit(recorder: Recorder, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
    """Write one frame from anywhere (scores, received OTLP) under the same rule; False where dropped."""
    answers: list[bool] = []
    run_exclusive(lambda: answers.append(recorder.write(kind, payload, is_first=is_first)))
    return answers[0] if answers else True


def fault(recorder: Recorder | None, seam: str, error: Exception) -> None:
    """Count a fault of ours where no turn is at hand: against `recorder`, else the process's default one."""
    owner = recorder if recorder is not None else default()
    if owner is not None:
        owner.guard.fault(seam, error)


_default: list["weakref.ref[Recorder]"] = []


def set_default(recorder: Recorder | None) -> None:
    """Name the recorder of observations made by the free `observe` outside any turn (the newest live one wins)."""
    if recorder is None:
        _default.clear()
    else:
        _default.append(weakref.ref(recorder))


def default() -> Recorder | None:
    """The newest recorder that is still alive, or None."""
    while _default:
        recorder = _default[-1]()
        if recorder is not None:
            return recorder
        _default.pop()
    return None
