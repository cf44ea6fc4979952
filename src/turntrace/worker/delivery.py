"""Batches on their way into the database: an unreachable one is waited for, what it refuses is set aside."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from turntrace.errors import TurntraceError
from turntrace.records.batch import Batch
from turntrace.records.fragment import FrameKind
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.readings import ReadMeanwhile
from turntrace.storage.received import ReceivedMeanwhile

log = logging.getLogger("turntrace.worker")

FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 10.0


class Delivery:
    """Writes batches.

    Args:
        wall: Unix time in microseconds.
        tell: told of every error that is waited out or got around.
    """

    def __init__(self, database: Database, *, wall: Callable[[], int], tell: Callable[[Exception], None]) -> None:
        self._database, self._wall, self._tell = database, wall, tell

    def deliver(self, batch: Batch, stop: threading.Event | None) -> None:
        """Write until it is written.

        Raises:
            ReceivedMeanwhile: the batch has to be made anew.
            ReadMeanwhile: the spool has to be read anew.
            TurntraceError: the database is away, and `stop` is set meanwhile, or None.
        """
        failures = 0
        while True:
            try:
                self._put(batch)
                return
            except (ReceivedMeanwhile, ReadMeanwhile):
                raise
            except TurntraceError as error:
                if stop is None:
                    raise
                log.warning("the database cannot be written to: %s", type(error).__name__)
                self._tell(error)
                if stop.wait(pause(failures)):
                    raise
                failures += 1
            except Exception as error:
                log.error("a batch was refused: %s", type(error).__name__)
                self._tell(error)
                self._deliver_singly(batch)
                return

    def _put(self, batch: Batch) -> None:
        write_batch(self._database, batch, now_us=self._wall())

    def _deliver_singly(self, batch: Batch) -> None:
        """Every turn in a transaction of its own; those that are refused again are counted as poison."""
        poison: Counter[str] = Counter()
        for worked in batch.worked:
            if not self._is_taken(Batch(worked=(worked,))):
                poison.update(as_lost(worked.kind, "poison"))
        for score in batch.scores:
            poison["score:poison"] += not self._is_taken(Batch(scores=(score,)))
        poison.update(batch.loss)
        self._put(
            Batch(
                marks=batch.marks,
                readings=batch.readings,
                processes=batch.processes,
                loss=poison,
                waiting=batch.waiting,
            )
        )

    def _is_taken(self, batch: Batch) -> bool:
        """Write a batch of one thing; False where the database refuses it for what it is."""
        try:
            self._put(batch)
        except (TurntraceError, ReceivedMeanwhile):
            raise
        except Exception as error:
            log.error("a turn or score was set aside: %s", type(error).__name__)
            return False
        return True


def pause(failures: int) -> float:
    """Seconds before the next try, at random so that the workers of several hosts spread."""
    return min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10), LAST_RETRY_SECONDS) * random.uniform(0.5, 1.0)


def as_lost(kind: FrameKind, reason: str) -> list[str]:
    """Under what a turn that is set aside counts: only an END is a turn in the balance, the rest is counted apart."""
    return [f"dropped:{reason}" if kind is FrameKind.END else f"late:{reason}"]
