"""How many verdicts of evaluators people have judged as well: every list of turns asks, so it is read once a minute."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from turntrace.panel.standing import DAYS
from turntrace.storage.database import Database
from turntrace.storage.queries import quality
from turntrace.storage.queries.rollups import DAY_US

EVERY_SECONDS: Final = 60


class Labelled:
    """The counts of one process. They are sums about the installation, the same for everybody who looks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._found: Mapping[tuple[str, str], int] = {}
        self._read_at: float | None = None

    def counts(self, database: Database, *, now_us: int) -> Mapping[tuple[str, str], int]:
        """By name of the score and of the evaluator, of the last 90 days; a minute old at the most."""
        with self._lock:  # of several lists at once one reads, the others wait for it
            if self._read_at is None or self._clock() - self._read_at >= EVERY_SECONDS:
                with database.whole.read() as c:
                    self._found = quality.label_counts(c, from_us=now_us - DAYS * DAY_US)
                self._read_at = self._clock()
            return self._found
