"""An erasure while the compactor merges sums of the same person."""

import threading
import time
from typing import Any

import pytest
import stored as s
from sqlalchemy import text

from turntrace.jobs import erase as job
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Target
from turntrace.storage import rollups
from turntrace.storage.database import Database

KEYS = KeyRing([b"k" * 32], is_explicit=True)
_WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
    "ON id = trx_mysql_thread_id WHERE db = DATABASE() AND trx_state = 'LOCK WAIT'",
}


def _wait_until_it_waits(database: Database) -> None:
    if database.dialect == "sqlite":
        return  # it waits at its beginning already
    end = time.monotonic() + 8
    while time.monotonic() < end:
        with database.engine.connect() as c:
            if c.execute(text(_WAITING[database.dialect])).scalar_one():
                return
        threading.Event().wait(0.2)  # MariaDB shows the same table for a tenth of a second after it was read
    raise AssertionError("nobody waits")


TARGETS = [Target(kind="subject", user_ids=("anna",)), Target(kind="session", sessions=(("s1", "anna"),))]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_sums_that_are_being_merged_lose_their_identity_and_nothing_else(
    database: Database, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    s.write(database, s.end(s.trace(1)), s.end(s.trace(2)))
    before = s.summed(database)
    eraser = threading.Thread(target=job.erase_at_once, args=(database, target, KEYS), kwargs={"actor": "test"})

    def begin(_: str) -> None:
        """The compactor has written what the deltas come to, and has not committed."""
        eraser.start()
        _wait_until_it_waits(database)
        monkeypatch.undo()

    monkeypatch.setattr(rollups, "reach", begin)
    rollups.compact(database)
    eraser.join()
    while rollups.compact(database):
        pass
    after = s.summed(database)
    for dimension in ("user", "session") if target.user_ids else ("session",):
        assert {key[3] for key in after if key[2] == dimension} == {"erased"}
        wanted = _sums(before, "day", dimension)
        assert _sums(after, "day", dimension) == _sums(after, "whole", dimension) == wanted


def _sums(found: dict[tuple[Any, ...], tuple[int, ...]], grain: str, dimension: str) -> tuple[int, int]:
    """Turns and nano-dollars of all rows of a kind."""
    rows = [sums for key, sums in found.items() if (key[0], key[2]) == (grain, dimension)]
    cost = s.SUMS.index("cost_total_nano")
    return sum(sums[0] for sums in rows), sum(sums[cost] for sums in rows)
