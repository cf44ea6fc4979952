"""The shield between Turntrace and its host: faults of ours are counted and swallowed, never the host's own."""

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import Final

logger = logging.getLogger("turntrace")

FAULTS_TO_OPEN: Final = 20
WINDOW_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 300.0
LOG_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 1.0
_QUIET_NS: Final = 1_000_000_000
_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)


class Guard:
    """Counts internal faults by seam and type; pauses recording when they pile up.

    On the hot path: `try: … except Exception as exc: guard.fault("seam", exc)`. `with guard.seam("name"):` does the
    same where nanoseconds do not matter. `BaseException`s that are no `Exception` (CancelledError, KeyboardInterrupt)
    are never touched. 20 faults within 60 s open the breaker: `is_recording()` is False for 5 minutes.

    Args:
        enabled: the kill switch (setting `enabled`); may be changed at any time.
        watch: asked at most once a second whether recording is wanted, by whoever switches several processes at once;
            it must be quick. Only where `enabled` and it agree is anything recorded.
        reraise: tests: let faults through.
        on_fault: called with the seam's name, for counters outside this process.
        on_pause: called when recording pauses, with the seconds it will.
        clock: monotonic seconds.
    """

    __slots__ = (
        "_clock",
        "_enabled",
        "_is_wanted",
        "_logged",
        "_open_until",
        "_recent",
        "_watch",
        "_watch_at",
        "counts",
        "on_fault",
        "on_pause",
        "quiet_until_ns",
        "reraise",
    )

    def __init__(
        self,
        *,
        enabled: bool = True,
        reraise: bool = False,
        on_fault: Callable[[str], None] | None = None,
        on_pause: Callable[[float], None] | None = None,
        watch: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quiet_until_ns = 0  # `perf_counter_ns` up to which `is_recording()` is known to answer True
        self._enabled = enabled
        self.reraise = reraise
        self.on_fault = on_fault
        self.on_pause = on_pause
        self.counts: dict[tuple[str, str], int] = {}
        self._clock = clock
        self._watch = watch
        self._is_wanted = True
        self._watch_at = float("-inf") if watch is not None else float("inf")
        self._recent: deque[float] = deque(maxlen=FAULTS_TO_OPEN)
        self._logged: dict[str, float] = {}
        self._open_until = 0.0

    @property
    def enabled(self) -> bool:
        """The kill switch."""
        return self._enabled

    @enabled.setter
    def enabled(self, is_on: bool) -> None:
        self._enabled = is_on
        self.quiet_until_ns = 0

    def is_recording(self) -> bool:
        """Whether wrappers should do anything at all: the kill switch is off and the breaker closed.

        There is no need to ask again before `quiet_until_ns`: that is at the most a second from here, and nothing once
        it is switched off from this process.
        """
        now = self._clock()
        if now >= self._watch_at:
            self._look(now)
        if self._open_until and now >= self._open_until:
            self._open_until = 0.0
            self._recent.clear()
        is_on = self._enabled and self._is_wanted and not self._open_until
        self.quiet_until_ns = perf_counter_ns() + _QUIET_NS if is_on else 0
        return is_on

    def _look(self, now: float) -> None:
        self._watch_at = now + WATCH_SECONDS
        try:
            if self._watch is not None:
                self._is_wanted = self._watch()
        except Exception as exc:
            self.fault("switch", exc)

    def fault(self, seam: str, error: Exception) -> None:
        """Count `error` against `seam` and log it at most once a minute; raise it again where `reraise` is set."""
        if self.reraise:
            raise error
        try:
            self._count(seam, type(error).__name__)
            self._log(seam, error)
        except Exception:  # the shield itself must hold (a host's logging handler may raise)
            self._recent.append(self._clock())

    def seam(self, name: str) -> "Seam":
        """A context manager that swallows and counts any `Exception` of its body."""
        return Seam(self, name)

    def faults(self) -> dict[str, int]:
        """Faults by seam since the start of the process."""
        sums: dict[str, int] = {}
        for (seam, _), count in list(self.counts.items()):
            sums[seam] = sums.get(seam, 0) + count
        return sums

    def _count(self, seam: str, kind: str) -> None:
        now = self._clock()
        self.counts[seam, kind] = self.counts.get((seam, kind), 0) + 1
        self._recent.append(now)
        is_burst = len(self._recent) == FAULTS_TO_OPEN and now - self._recent[0] <= WINDOW_SECONDS
        if is_burst and not self._open_until:
            self._open_until = now + PAUSE_SECONDS
            self.quiet_until_ns = 0
            logger.error("turntrace: %d internal faults in a minute; recording pauses for 5 minutes", FAULTS_TO_OPEN)
            if self.on_pause is not None:
                self.on_pause(PAUSE_SECONDS)
        if self.on_fault is not None:
            self.on_fault(seam)

    def _log(self, seam: str, error: Exception) -> None:
        now = self._clock()
        if now - self._logged.get(seam, -LOG_SECONDS) < LOG_SECONDS:
            return
        self._logged[seam] = now
        # Never the message of the exception: it may quote the host's data.
        logger.warning("turntrace: fault in %s: %s at %s", seam, type(error).__name__, own_frame(error))


class Seam:
    """`with guard.seam("name")`: see `Guard`."""

    __slots__ = ("_guard", "_name")

    def __init__(self, guard: Guard, name: str) -> None:
        self._guard = guard
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or self._guard.reraise:
            return False
        self._guard.fault(self._name, error)
        return True


def own_frame(error: BaseException) -> str:
    """`module.py:line` of the innermost frame of this package in the traceback, or `?`."""
    found = "?"
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith(_PACKAGE):
            found = f"{Path(frame.f_code.co_filename).name}:{line}"
    return found
