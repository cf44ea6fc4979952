"""One batch of the worker in one short transaction: rows, sums, loss counts and progress marks, or none of them.

The same frames again change nothing: marks guard whole frames, and a turn that has ended is not counted again.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError

from turntrace.failpoint import reach
from turntrace.records.batch import Batch
from turntrace.records.fragment import FrameKind
from turntrace.storage import losses, marks, outbound, readings, scores, tombstones
from turntrace.storage.database import Database
from turntrace.storage.pace import Pace, Stopwatch
from turntrace.storage.staging import NotAtHand, Staging
from turntrace.storage.turns import Prepared, TurnWriter, left_out

_CONFLICTS: Final = 3  # tries after another worker stored the same turn at the same moment


def write_batch(database: Database, batch: Batch, *, now_us: int) -> None:
    """Store a batch.

    In a host's SQLite file it is split into transactions of about 10 ms, the marks in the last: a crash between two
    repeats turns, which changes nothing.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: nothing is stored of the (last) transaction, because the database is
            away, or a store that content of the batch belongs into; try again later.
        ReceivedMeanwhile: another worker stored spans of a turn received over OTLP: nothing is stored, make it anew.
        ReadMeanwhile: another worker stored frames of the same segments.
        Exception: the database refuses a row for what is in it.
    """
    prepared = [Prepared.of(worked, now_us, database.stores) for worked in batch.worked]
    if not database.is_guest:
        _write(database, batch, prepared, now_us)
        return
    free, tied = _apart(database, prepared)
    for part, turns, is_last in _parts(database.pace, batch, free, tied):
        with Stopwatch() as watch:
            _write(database, part, turns, now_us)
        if turns:
            database.pace.learn(len(turns), watch.seconds)
        if not is_last:
            time.sleep(watch.seconds)  # as long for the host's writers as for us


def _apart(database: Database, prepared: Sequence[Prepared]) -> tuple[list[Prepared], list[Prepared]]:
    """What may be repeated, and what may not: late fragments of turns that were left out, which have no rows that tell
    what of them is counted. These are sums and no rows, and commit with the marks."""
    late = {item.id for item in prepared if item.worked.kind is FrameKind.AMEND}
    out = {item.id for item in prepared if not item.worked.is_kept}
    if late:
        with database.read() as connection:
            out |= left_out(connection, late)
    free: list[Prepared] = []
    tied: list[Prepared] = []
    for item in prepared:
        (tied if item.id in out and item.worked.kind is FrameKind.AMEND else free).append(item)
    return free, tied


def _parts(
    pace: Pace, batch: Batch, prepared: Sequence[Prepared], tied: Sequence[Prepared]
) -> Iterator[tuple[Batch, Sequence[Prepared], bool]]:
    """The turns a few at a time; whatever is no turn goes with the last ones, and so do the `tied`."""
    start = 0
    while len(prepared) - start > pace.items:
        end = start + pace.items
        yield Batch(), prepared[start:end], False
        start = end
    yield replace(batch, worked=()), [*prepared[start:], *tied], True


def _write(database: Database, batch: Batch, prepared: Sequence[Prepared], now_us: int) -> None:
    if not database.stores:
        _write_through(database, batch, prepared, now_us)
        return
    staging = Staging(database, (item.worked.trace for item in prepared))
    try:
        _bring(staging, prepared)
        _write_through(database, batch, prepared, now_us, staging)
    except Exception:
        staging.abandon()
        raise


def _write_through(
    database: Database, batch: Batch, prepared: Sequence[Prepared], now_us: int, staging: Staging | None = None
) -> None:
    clean, conflicts = False, 0
    while True:
        try:
            database.transact(_store, batch, prepared, now_us, clean, staging)
            return
        except NotAtHand as wanted:
            assert staging is not None
            staging.bring(wanted)
        except IntegrityError:
            conflicts += 1
            if conflicts > _CONFLICTS:
                raise
        except (DataError, UnicodeError, OverflowError, ValueError):
            if clean:
                raise
            clean = True


def _bring(staging: Staging, prepared: Sequence[Prepared]) -> None:
    """What the transaction is sure to need of the stores is there before it is run."""
    try:
        rows = [item.content for item in prepared if item.content]
        staging.placed(rows, {item.id: item.worked.trace.environment for item in prepared if item.content})
    except NotAtHand as wanted:
        staging.bring(wanted)


def _store(
    connection: Connection,
    batch: Batch,
    prepared: Sequence[Prepared],
    now_us: int,
    clean: bool,
    staging: Staging | None = None,
) -> None:
    """The transaction."""
    if staging is not None:
        staging.begin()
    digest_key = tombstones.take_fence(connection)
    stored = marks.of(connection, batch.marks)
    if marks.are_reached(stored, batch.marks):
        if staging is not None:
            staging.settle(connection)
        return  # an earlier try was committed, and only the answer was lost
    readings.refuse_read(stored, batch.readings)
    reach("storage.after_fence")
    writer = TurnWriter(connection, now_us, clean, staging)
    writer.sort(prepared, digest_key)
    writer.store_received(batch.waiting)
    writer.store_turns()
    reach("storage.after_turns")
    writer.store_late()
    if staging is not None:
        staging.settle(connection)
    reach("storage.after_late")
    outbound.enqueue(connection, writer.to_send(), now_us=now_us)
    writer.sessions.store(connection, is_cleaned=clean)
    writer.rollup.append(connection, is_cleaned=clean)
    reach("storage.after_rollups")
    wanted = tombstones.allowed_scores(connection, batch.scores, digest_key)
    scores.store(connection, wanted, now_us=now_us)
    if prepared:
        scores.adopt(connection, (item.worked.trace.trace_id for item in prepared), now_us=now_us)
    changes = Counter(batch.loss)
    changes.update(writer.counts.changes)
    changes["dropped:corrupt"] += readings.settle(connection, batch.readings, now_us=now_us)
    losses.append(connection, changes, now_us=now_us)
    losses.store_processes(connection, batch.processes)
    reach("storage.after_loss")
    marks.advance(connection, batch.marks, now_us=now_us)
    reach("storage.before_commit")
