"""Erases people, sessions and turns: at once where somebody waits for it, and by the timer what was left unfinished.

Every transaction may be the last of its process: the next one goes on where the rows say it stands.
"""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import TurntraceError
from turntrace.failpoint import reach
from turntrace.jobs.archive import Archive
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Receipt, Target
from turntrace.storage import audit, belonging, bulk, leases, receipts, strays, tombstones
from turntrace.storage.database import Database
from turntrace.storage.erasure import Eraser, overwriting
from turntrace.storage.pace import Stopwatch
from turntrace.storage.rollups import COMPACTOR
from turntrace.storage.scrub import scrub

log = logging.getLogger("turntrace.jobs")

TURNS_AT_ONCE: Final = 250
LONGEST_PAUSE_SECONDS: Final = 0.2
PASSES: Final = 5  # of deletion and verification, before it is left to the next run
SCRUBBING: Final = ("scrubbing",)
SCRUBBED_A_SECOND: Final = 10 << 20  # bytes of a SQLite file that VACUUM is sure to write
SCRUBBED_AT_ONCE: Final = (
    64 << 20
)  # bytes of a file that somebody waits for: half a second; larger ones go by the timer
REQUEST_SECONDS: Final = 20.0  # longest that somebody waits for a receipt; then the timer goes on
_LONGEST_ACTOR: Final = 100


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def ask(
    connection: Connection, target: Target, *, actor: str, suppress: bool = False, at_us: int | None = None
) -> receipts.Erasure:
    """Put an erasure down, in a transaction of the caller's. Nothing of the target comes in from its commit on."""
    at_us = now_us() if at_us is None else at_us
    return receipts.ask(
        connection,
        target,
        erasure_id=uuid.uuid4().hex,
        now_us=at_us,
        suppress=suppress,
        actor=actor[:_LONGEST_ACTOR],
    )


def erase_at_once(
    database: Database,
    target: Target,
    keys: KeyRing,
    *,
    actor: str,
    suppress: bool = False,
    seconds: float = REQUEST_SECONDS,
    archive_dir: str | None = None,
) -> Receipt:
    """Erase a target; the receipt is unfinished when it took longer than `seconds`: then the timer goes on.

    Args:
        archive_dir: where retention has archived turns.
    """
    asked = database.transact(ask, target, actor=actor, suppress=suppress)
    receipt = work_off(database, asked.id, keys, deadline=time.monotonic() + seconds, archive_dir=archive_dir)
    clean_up(database, [receipt], keys, most_bytes=int(min(seconds * SCRUBBED_A_SECOND, SCRUBBED_AT_ONCE)))
    with database.read() as connection:
        return receipts.get(connection, asked.id)


def erase_online(connection: Connection, target: Target, *, actor: str, suppress: bool = False) -> Receipt:
    """Erase a target inside a transaction of the host's: tombstones and rows go with its commit, or not at all.

    The receipt is unfinished: the timer verifies and signs after the commit.
    """
    digest_key = _keep_others_out(connection)
    asked = ask(connection, target, actor=actor, suppress=suppress)
    with overwriting(connection):
        eraser = Eraser(connection, asked.target, erasure_id=asked.id, digest_key=digest_key, now_us=now_us())
        while eraser.erase_turns(TURNS_AT_ONCE):
            pass
        eraser.erase_rest()
    receipts.progress(connection, asked, eraser.counts, now_us=now_us())
    return receipts.get(connection, asked.id)


def rehearse(connection: Connection, target: Target, *, suppress: bool = False) -> Receipt:
    """What an erasure would delete now, as a receipt without an id."""
    at_us = now_us()
    asked = replace(target, until_us=None if suppress else at_us)
    counts = belonging.count(connection, asked)
    return Receipt(id=None, kind=target.kind, status="done", is_dry_run=True, counts=counts, requested_at_us=at_us)


def erase(
    database: Database, *, keys: KeyRing, archive_dir: str | None = None, seconds: float = 50.0
) -> Mapping[str, int]:
    """Finish what was asked for and is not finished. Safe to stop anywhere.

    Returns:
        Counts: erasures finished, and those that are left.
    """
    deadline = time.monotonic() + seconds
    with database.read() as connection:
        waiting = receipts.unfinished(connection)
    found = [work_off(database, erasure_id, keys, deadline=deadline, archive_dir=archive_dir) for erasure_id in waiting]
    clean_up(database, found, keys, most_bytes=20 * SCRUBBED_A_SECOND)
    done = sum(receipt.is_finished for receipt in found)
    return {"finished": done, "left": len(found) - done}


def is_erasure_due(database: Database) -> bool:
    """Whether an erasure waits."""
    with database.read() as connection:
        return bool(receipts.unfinished(connection))


def scrub_file(database: Database, *, keys: KeyRing) -> Mapping[str, int]:
    """Take what finished erasures deleted out of a SQLite file of ours.

    Returns:
        Counts: erasures of which no byte is left, and those that have to wait.
    """
    with database.read() as connection:
        found = [receipts.get(connection, erasure_id) for erasure_id in receipts.unfinished(connection, SCRUBBING)]
    clean_up(database, found, keys)
    with database.read() as connection:
        left = len(receipts.unfinished(connection, SCRUBBING))
    return {"scrubbed": max(0, len(found) - left), "left": left}


def is_scrub_due(database: Database) -> bool:
    """Whether deleted bytes wait."""
    with database.read() as connection:
        return bool(receipts.unfinished(connection, SCRUBBING))


def work_off(
    database: Database, erasure_id: str, keys: KeyRing, *, deadline: float, archive_dir: str | None = None
) -> Receipt:
    """Go on with an erasure until it is finished, or the deadline (monotonic) has passed."""
    for _ in range(PASSES):
        if not _delete(database, erasure_id, deadline):
            break
        if archive_dir is not None:
            _forget_archived(database, erasure_id, Archive(Path(archive_dir)))
        reach("erase.before_verify")
        if not _clear_stores(database, erasure_id, deadline):
            break
        if database.transact(_verify, erasure_id, keys, _physical(database)):
            break
    with database.read() as connection:
        return receipts.get(connection, erasure_id)


def _clear_stores(database: Database, erasure_id: str, deadline: float) -> bool:
    """Delete in the stores of `content_urls` what this erasure left there; False where that cannot be done yet."""
    if not strays.is_any(database):
        return True
    erasure = database.transact(receipts.hold, erasure_id)
    if erasure is None:
        return True
    with database.read() as connection:
        erased = tombstones.turns_of(connection, erasure_id)
    try:
        return strays.clear(database, erased, erasure.staged, deadline=deadline)
    except TurntraceError as error:
        log.warning("an erasure waits: %s", type(error).__name__)
        return False


def _forget_archived(database: Database, erasure_id: str, archive: Archive) -> None:
    erasure = database.transact(receipts.hold, erasure_id)
    if erasure is None:
        return
    with database.read() as connection:
        erased = tombstones.turns_of(connection, erasure_id)
    if gone := archive.forget(erasure.target, erased):
        database.transact(_count_archived, erasure_id, gone)


def _count_archived(connection: Connection, erasure_id: str, gone: int) -> None:
    erasure = receipts.hold(connection, erasure_id)
    if erasure is not None:
        receipts.progress(connection, erasure, {"archive": gone}, now_us=now_us())


def clean_up(database: Database, waiting: Sequence[Receipt], keys: KeyRing, *, most_bytes: int | None = None) -> None:
    """Take the deleted bytes of these erasures out of the file, once for all of them; else the timer tries again."""
    found = [receipt for receipt in waiting if receipt.status == "scrubbing"]
    if not found:
        return
    physical = scrub(database, since_us=max(receipt.finished_at_us or 0 for receipt in found), most_bytes=most_bytes)
    if physical is None:
        return
    for receipt in found:
        database.transact(receipts.scrubbed, str(receipt.id), keys=keys, physical=physical, now_us=now_us())


def _physical(database: Database) -> str:
    if database.dialect != "sqlite":
        return "server"
    return "done" if database.is_memory else "pending"


def _delete(database: Database, erasure_id: str, deadline: float) -> bool:
    """Delete until nothing is left to delete; False past the deadline, or when somebody else has finished."""
    while True:
        size = min(TURNS_AT_ONCE, database.pace.items) if database.is_guest else TURNS_AT_ONCE
        with Stopwatch() as watch:
            number = database.transact(_delete_some, erasure_id, size)
        reach("erase.after_batch")
        if number is None:
            return False
        if number == 0:
            return True
        if database.is_guest:
            database.pace.learn(number, watch.seconds)
        if time.monotonic() > deadline:
            return False
        # A host's writers get as much time as we take; our own have the spool to wait in.
        time.sleep(min(watch.seconds if database.is_guest else watch.seconds / 4, LONGEST_PAUSE_SECONDS))


def _delete_some(connection: Connection, erasure_id: str, size: int) -> int | None:
    """The transaction: some turns, or, when there are none left, the rest. None: finished already."""
    bulk.go_by_index(connection)
    digest_key = _keep_others_out(connection)
    erasure = receipts.hold(connection, erasure_id)
    if erasure is None:
        return None
    at_us = now_us()
    eraser = Eraser(connection, erasure.target, erasure_id=erasure_id, digest_key=digest_key, now_us=at_us)
    number = eraser.erase_turns(size)
    if number == 0:
        eraser.erase_rest()
    receipts.progress(connection, erasure, eraser.counts, now_us=at_us)
    return number


def _keep_others_out(connection: Connection) -> str:
    """Nobody stores turns or merges sums until the transaction ends; answers the digest key."""
    # What the compactor has merged and not committed would keep the name that its deltas had. Before the fence, as a
    # rebuild does.
    leases.be_alone(connection, COMPACTOR)
    return tombstones.take_fence(connection, exclusive=True)


def _verify(connection: Connection, erasure_id: str, keys: KeyRing, physical: str) -> bool:
    """Sign, when nothing is left."""
    bulk.go_by_index(connection)
    tombstones.take_fence(connection)
    erasure = receipts.hold(connection, erasure_id)
    if erasure is None:
        return True
    left = belonging.remaining(connection, erasure.target, erasure_id)
    if left:
        log.info("an erasure goes on: rows were left in %s", ", ".join(left))
        return False
    if strays.are_left(connection, tombstones.turns_of(connection, erasure_id), erasure.staged):
        log.info("an erasure goes on: a writer has not come back from a store")
        return False
    at_us = now_us()
    receipt = receipts.finish(connection, erasure_id, keys=keys, physical=physical, now_us=at_us)
    audit.append(
        connection,
        actor=erasure.actor,
        action=f"{erasure.target.kind}.erase",
        target=f"erasure {erasure_id}",
        details={"counts": dict(receipt.counts)},
        now_us=at_us,
    )
    return True
