"""Lets go of turns that sampling left out, when the time for late scores is over."""

import time
from collections.abc import Mapping
from typing import Final

from turntrace.storage import sampling
from turntrace.storage.database import Database

HOUR_US: Final = 3_600_000_000
BATCH: Final = 200
GUEST_BATCH: Final = 10  # a host's SQLite file is not locked for long
ROUNDS: Final = 500


def let_go(
    database: Database, *, hold_hours: float, always: sampling.Always, now_us: int | None = None
) -> Mapping[str, int]:
    """Judge the turns held since before `hold_hours`. Safe to stop anywhere.

    Returns:
        Counts: kept for a score, a comment, a review or what came late, and let go.
    """
    now = time.time_ns() // 1000 if now_us is None else now_us
    limit = GUEST_BATCH if database.is_guest else BATCH
    kept = gone = 0
    for _ in range(ROUNDS):
        more_kept, more_gone = database.transact(
            sampling.settle,
            always=always,
            stored_before_us=now - int(hold_hours * HOUR_US),
            limit=limit,
            now_us=now,
        )
        kept, gone = kept + more_kept, gone + more_gone
        if more_kept < limit and more_gone < limit:
            break
    return {"kept": kept, "let_go": gone}
