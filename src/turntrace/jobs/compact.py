"""Keeps tables small: merges deltas of roll-ups, drops minutes past their time, sums up the loss log, lets go of what
was received of settled turns."""

import time
from collections.abc import Callable, Mapping

from turntrace.storage import budgets, leases, losses, received, rollups
from turntrace.storage.database import Database

RUNS_KEPT_US = 7 * 24 * 3600 * 1_000_000
DONE_RUNS_KEPT_US = 6 * 3600 * 1_000_000
BUDGETS_KEPT_US = 62 * 24 * 3600 * 1_000_000  # this month's and the last's counters


def compact(database: Database, is_stopped: Callable[[], bool] = lambda: False) -> Mapping[str, int]:
    """Merge what has been appended since the last run. Safe to stop anywhere.

    Args:
        is_stopped: the process ends: what is left waits for the next run.

    Returns:
        Counts: deltas merged, minute rows dropped, loss rows merged, turns received over OTLP that are settled,
        runs of jobs and counters of budgets forgotten.
    """
    now_us = time.time_ns() // 1000
    return {
        "deltas": rollups.compact(database, is_stopped=is_stopped),
        "minutes": database.transact(rollups.prune_minutes, now_us=now_us),
        "losses": database.transact(losses.compact, now_us=now_us),
        "received": database.transact(received.prune, now_us=now_us),
        "runs": database.transact(
            leases.prune_runs, before_us=now_us - RUNS_KEPT_US, done_before_us=now_us - DONE_RUNS_KEPT_US
        ),
        "budgets": database.transact(budgets.prune, before_us=now_us - BUDGETS_KEPT_US),
    }
