"""An application under steady load, looked at again and again: shared by the test and by `benchmarks.memory`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Look:
    """What one process held at one moment (s since the start): resident memory (MB), open files, threads."""

    at: float
    memory_mb: float
    files: int
    threads: int


def look(process: psutil.Process, started: float) -> Look:
    """The process as it is now. Memory is its own, pages shared with others left out: those are nobody's leak."""
    with process.oneshot():
        held = process.memory_full_info().uss / (1 << 20)
        return Look(time.monotonic() - started, held, process.num_fds(), process.num_threads())


def watch(find: Callable[[], dict[str, psutil.Process]], *, seconds: float, looks: int) -> dict[str, list[Look]]:
    """Look at the processes, by name, `looks` times within `seconds`; `find` names those of the moment."""
    found: dict[str, list[Look]] = {}
    started = time.monotonic()
    for number in range(1, looks + 1):
        time.sleep(max(0.0, started + seconds * number / looks - time.monotonic()))
        for name, process in find().items():
            found.setdefault(name, []).append(look(process, started))
    return found


def slope_mb_per_hour(looks: list[Look]) -> float:
    """How fast memory grows: the median of the slopes between all pairs, so that single peaks count for nothing."""
    slopes = sorted(_slopes(looks))
    return slopes[len(slopes) // 2] if slopes else 0.0


def _slopes(looks: list[Look]) -> Iterator[float]:
    for number, first in enumerate(looks):
        for later in looks[number + 1 :]:
            yield 3600 * (later.memory_mb - first.memory_mb) / (later.at - first.at)


def spool_bytes(spool: Path) -> int:
    """What the segments below `spool` take on disk."""
    found = 0
    for path in spool.glob("*/p-*/*.seg"):
        try:
            found += path.stat().st_size
        except FileNotFoundError:  # worked off just now
            continue
    return found
