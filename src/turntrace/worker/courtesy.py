"""The worker gives way: where tasks of this machine wait for a processor, it rests between two steps.

Its niceness already lets the host go first at every instant; resting also leaves caches and memory bandwidth to it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

# Pressure stall information of the Linux kernel: that of our own container where there is one, else of the machine.
_PRESSURE: Final = (Path("/sys/fs/cgroup/cpu.pressure"), Path("/proc/pressure/cpu"))
BUSY_SHARE: Final = 0.25  # of the time in which somebody waited for a processor
MOST_SECONDS: Final = 0.5  # of one rest


class Courtesy:
    """How long to rest after some work.

    Args:
        waited: seconds, ever growing, in which somebody waited for a processor; None where that cannot be known.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, waited: Callable[[], float | None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._waited = waited if waited is not None else cpu_waited
        self._clock = clock
        self._last = self._look()

    def _look(self) -> tuple[float, float | None]:
        return self._clock(), self._waited()

    def rest_seconds(self, worked_seconds: float, *, is_behind: bool) -> float:
        """Seconds to rest after `worked_seconds` of work; none while the machine is idle, or too much waits for us.

        Args:
            is_behind: the spool holds more than one step takes: resting would only fill it.
        """
        (before, waited_before), (now, waited) = self._last, self._look()
        self._last = now, waited
        if is_behind or waited is None or waited_before is None or now <= before:
            return 0.0
        share = (waited - waited_before) / (now - before)
        return min(worked_seconds * min(share, 1.0), MOST_SECONDS) if share > BUSY_SHARE else 0.0


def cpu_waited() -> float | None:
    """Seconds in which at least one task waited for a processor; where the kernel does not count it, None."""
    for path in _PRESSURE:
        try:
            return _total(path.read_text("ascii"))
        except (OSError, ValueError):
            continue
    return None


def _total(text: str) -> float:
    """The total of the line `some avg10=… avg60=… avg300=… total=<microseconds>`."""
    line = next(line for line in [*text.splitlines(), ""] if line.startswith("some") or not line)
    return int(line.partition("total=")[2]) / 1e6
