"""Deletes in the stores of `content_urls` what nothing points to any more."""

from collections.abc import Mapping

from turntrace.storage import strays
from turntrace.storage.database import Database


def empty(database: Database, *, now_us: int | None = None) -> Mapping[str, int]:
    """Delete what is to go. Safe to stop anywhere; a store that is away keeps its own waiting.

    Args:
        now_us: None: by the database's clock.

    Returns:
        Counts: blobs that went, and `left` 1 where some have to wait.
    """
    done = strays.tidy(database, now_us=now_us)
    return {"gone": done.gone, "left": int(not done.is_clean)}
