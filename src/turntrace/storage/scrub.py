"""What is left of deleted rows in a SQLite file: the log, and copies that splits of pages left in their free space.

`secure_delete` overwrites what is deleted, where it stood last. A page that was split earlier keeps copies of what
moved away; only VACUUM writes every page anew. The file of a host is never vacuumed: that takes its lock for long, and
may renumber rows of the host's tables.
"""

import logging
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from turntrace.storage import switches
from turntrace.storage.database import Database

log = logging.getLogger("turntrace.storage")


VACUUMED: Final = "vacuumed_at_us"  # setting: when VACUUM ended last


def scrub(database: Database, *, since_us: int, most_bytes: int | None = None) -> str | None:
    """Take deleted bytes out of the file.

    Args:
        since_us: when the last of the rows was deleted.
        most_bytes: of a larger file nothing is done, since somebody waits.

    Returns:
        `done`; `checkpointed`: the log is empty, the host may run VACUUM; `server`: not ours to do; None: try later.
    """
    if database.dialect != "sqlite":
        return "server"
    if database.is_memory:
        return "done"
    if database.is_guest:
        return "checkpointed" if database.checkpoint() else None
    size = _size(database)
    if most_bytes is not None and size > most_bytes:
        return None
    if not _is_vacuumed(database, since_us):
        if not _has_room(database, size) or not _vacuum(database):
            return None
        database.transact(switches.put, VACUUMED, str(time.time_ns() // 1000), now_us=time.time_ns() // 1000)
    return "done" if database.checkpoint() else None


def _is_vacuumed(database: Database, since_us: int) -> bool:
    """Whether it was done, and only readers kept the log from being emptied."""
    with database.read() as connection:
        return int(switches.get(connection, VACUUMED) or 0) > since_us


def _file(database: Database) -> Path:
    return Path(database.url.database or "")


def _size(database: Database) -> int:
    try:
        return _file(database).stat().st_size
    except OSError:
        return 0


def _has_room(database: Database, size: int) -> bool:
    """VACUUM writes the file twice, once to a temporary one and once to the log."""
    try:
        free = shutil.disk_usage(_file(database).parent).free
    except OSError:
        return True
    if free > 2 * size + (64 << 20):
        return True
    log.warning("deleted bytes stay in %s: VACUUM needs twice its size on the disk", database.name)
    return False


def _vacuum(database: Database) -> bool:
    try:
        with database.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.execute("VACUUM")
    except sqlite3.OperationalError as error:  # somebody writes, or the disk is full
        log.info("deleted bytes stay in %s for now: %s", database.name, error.sqlite_errorname)
        return False
    return True
