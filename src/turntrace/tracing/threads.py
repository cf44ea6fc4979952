"""Threads and executors started inside a turn belong to it (setting `thread_context`).

Two methods of the standard library are wrapped while this is switched on: `ThreadPoolExecutor.submit` and
`threading.Thread.start`. Both act only where a turn is current, and carry the turn and OpenTelemetry's context alone:
context variables of the host and its frameworks are in a thread what they are without us. The worker threads of pools
never inherit: they live longer than the turn whose task happened to start them.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import Any, Final

from turntrace.tracing.context import Place, current_turn, move, place
from turntrace.tracing.recorder import fault

# Pools that carry contexts by themselves, task by task.
_POOLS: Final = ("anyio.", "concurrent.futures.", "asyncio.")


class _Submitting(threading.local):
    is_active = False


_submitting: Final = _Submitting()
_lock: Final = threading.Lock()
_installed: dict[str, tuple[Any, Any]] = {}


def install() -> None:
    """Wrap both methods; does nothing when they are wrapped already."""
    with _lock:
        if not _installed:
            _replace(ThreadPoolExecutor, "submit", _submit)
            _replace(threading.Thread, "start", _start)


def remove() -> None:
    """Put the original methods back, except where somebody has wrapped them since: those pass through."""
    with _lock:
        for name, (owner, wrapper) in list(_installed.items()):
            if getattr(owner, name) is wrapper:
                setattr(owner, name, wrapper.__wrapped__)
        _installed.clear()


def is_installed() -> bool:
    """Whether contexts are carried into threads."""
    return bool(_installed)


def _replace(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    wrapper = make(getattr(owner, name))
    _installed[name] = (owner, wrapper)
    setattr(owner, name, wrapper)


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        here = _carried()
        if here is None:
            return original(self, fn, *args, **kwargs)  # type: ignore[no-any-return]
        _submitting.is_active = True
        try:
            return original(self, _run, here, fn, *args, **kwargs)  # type: ignore[no-any-return]
        finally:
            _submitting.is_active = False

    return submit


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def start(self: threading.Thread) -> None:
        _inherit(self)
        original(self)

    return start


def _inherit(thread: threading.Thread) -> None:
    """Let a thread that is about to start run in the turn of here, where there is one."""
    try:
        here = None if _submitting.is_active or _is_pooled(thread) else _carried()
        if here is not None:
            _carry(thread, here)
    except Exception as exc:
        fault(None, "threads.start", exc)


def _carried() -> Place | None:
    """What is started now inherits this; None outside any turn."""
    try:
        return place() if _installed and current_turn() is not None else None
    except Exception as exc:
        fault(None, "threads", exc)
        return None


def _is_pooled(thread: threading.Thread) -> bool:
    return type(thread).__module__.startswith(_POOLS)


def _run(there: Place, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    former = _enter(there)
    try:
        return function(*args, **kwargs)
    finally:
        _leave(former)


def _enter(there: Place) -> Place | None:
    """Make the turn current; answers what has been, None where that failed."""
    try:
        return move(there)
    except Exception as exc:
        fault(None, "threads.enter", exc)
        return None


def _leave(former: Place | None) -> None:
    try:
        if former is not None:
            move(former)
    except Exception as exc:
        fault(None, "threads.leave", exc)


def _carry(thread: threading.Thread, here: Place) -> None:
    run = thread.run

    def run_inside() -> None:
        # Else thread and function hold each other. It is gone already where the thread could not be started at first
        # and was started again.
        vars(thread).pop("run", None)
        _run(here, run)

    thread.run = run_inside  # type: ignore[method-assign]
