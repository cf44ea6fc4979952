"""The memory of a process that does nothing but work on turns: seldom searched for cycles, and given back.

For processes of our own only: in the host's, all of this is the host's to decide.
"""

import ctypes
import gc
import time
from collections.abc import Callable
from typing import Any, Final

_THRESHOLDS: Final = (50_000, 20, 50)
COLLECT_SECONDS: Final = 5.0
TRIM_SECONDS: Final = 15.0
_ARENA_MAX: Final = -8  # M_ARENA_MAX of glibc's malloc.h


class Heap:
    """Keeps the memory of this process flat at no cost for the batches.

    A batch makes some hundred thousand objects that live until it is stored; to look through them again and again for
    cycles took a fifth of the worker's time. So Python's collector is made a hundred times lazier, and called between
    two steps, when next to nothing is alive. What was loaded at the start is never looked at again.

    glibc gives every thread an arena of its own, whose holes no other thread can use: with a dozen threads they grew by
    100 MB an hour. One arena is enough where the interpreter lets one thread run at a time.

    Args:
        clock: monotonic seconds.
        trim: gives unused memory back to the system; None: this platform's, where there is one.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, trim: Callable[[], object] | None = None
    ) -> None:
        self._clock = clock
        self._trim = trim if trim is not None else _system_trim()
        self._is_frozen = False
        self._collected_at = self._trimmed_at = clock()

    def relax(self) -> None:
        """Call it once, before threads begin."""
        gc.set_threshold(*_THRESHOLDS)
        _use_one_arena()

    def tidy(self) -> None:
        """Call it between two steps: every few seconds cycles are cleared away, every quarter of a minute memory
        is given back. A few milliseconds at the most."""
        now = self._clock()
        if not self._is_frozen:
            self._is_frozen = True
            gc.collect()
            gc.freeze()
        elif now - self._collected_at >= COLLECT_SECONDS:
            self._collected_at = now
            gc.collect()
        if now - self._trimmed_at >= TRIM_SECONDS:
            self._trimmed_at = now
            self._trim()


def _allocator() -> Any:
    """The functions of the C library, or None where it cannot be asked."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows
        return None


def _use_one_arena() -> None:
    mallopt = getattr(_allocator(), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)


def _system_trim() -> Callable[[], object]:
    trim = getattr(_allocator(), "malloc_trim", None)  # glibc only
    return (lambda: None) if trim is None else (lambda: trim(0))
