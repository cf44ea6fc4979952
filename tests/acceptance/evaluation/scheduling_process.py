"""One process of a host that waits to lead, and leads, until it is killed. Its job writes down each time it runs."""

import os
import threading
from collections.abc import Mapping

from sqlalchemy import text

from turntrace import scheduler
from turntrace.storage.database import Database

JOB = "tick"


def tick(database: Database) -> Mapping[str, int]:
    """What the job does: nothing keeps a second row of one slot out."""
    with database.write() as connection:
        connection.execute(text("INSERT INTO tick VALUES (:pid)"), {"pid": os.getpid()})
    return {}


def lead_until_killed(url: str, lease_us: int, renew_seconds: float) -> None:
    """The whole life of the process, with these figures of the lease."""
    scheduler.LEASE_US, scheduler.RENEW_SECONDS = lease_us, renew_seconds  # type: ignore[misc]
    job = scheduler.Job(name=JOB, interval_seconds=1, run=tick, help="")
    scheduler.Scheduler(Database(url), [job]).start()
    threading.Event().wait()
