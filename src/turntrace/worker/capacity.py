"""The write guard: a database near its limit gets no texts, one at its limit no turns."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from turntrace.errors import StorageFull, TurntraceError
from turntrace.pipeline.mode import FULL, METADATA
from turntrace.storage import meter
from turntrace.storage.database import Database

LOOK_SECONDS: Final = 15.0


class Limited(Protocol):
    """What decides how much is kept of texts; `most` is never exceeded."""

    most: str


class Capacity:
    """Looks at the size of the database now and then.

    Args:
        limit_bytes: that it may take; 0: no limit.
        modes: told how much may be kept of texts.
    """

    def __init__(
        self,
        database: Database,
        limit_bytes: int,
        modes: Limited,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._limit, self._modes, self._clock = database, limit_bytes, modes, clock
        self._look_at = float("-inf")
        self._share = 0.0

    def refresh(self) -> None:
        """Look again, if it is time. An unreachable database leaves it as it was.

        Raises:
            StorageFull: nothing may be stored now; turns wait in the spool.
        """
        if not self._limit:
            return
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_SECONDS
            self._look()
        if self._share >= 1:
            raise StorageFull

    def _look(self) -> None:
        try:
            with self._database.read() as connection:
                used = meter.used_bytes(connection)
        except TurntraceError:
            return
        self._share = (used or 0) / self._limit
        self._modes.most = METADATA if self._share >= meter.FULL_SHARE else FULL
