"""A batch's way into the stores of its environments: blobs are there before the transaction that points to them.

A transaction of the main database never waits for a store. What it lacks it says (`NotAtHand`) and is undone; then the
blobs are written or read, and it is run again, finding them at hand.
"""

import contextlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from turntrace.errors import DatabaseUnavailable, SchemaOutOfDate, TurntraceError
from turntrace.failpoint import reach
from turntrace.records.trace import Trace
from turntrace.storage import bulk, content, residence, strays, tombstones
from turntrace.storage.content import Codec, TurnContent
from turntrace.storage.database import Database
from turntrace.storage.residence import Pointer
from turntrace.storage.tables.residence import blob

LOST: Final = "content_lost"  # flag of a turn that was joined after what its store had of it was gone
_TOO_LONG: Final = "a store took too long"
_LONGEST_SECONDS: Final = strays.LAPSE_US / 2_000_000  # from staging to the write: what has lapsed is not written
_ROUNDS: Final = 20  # of bringing what a transaction lacks, before the batch is tried again later

Key = tuple[str, str, bytes]  # store, turn, packed content


class NotAtHand(Exception):
    """The transaction needs what a store has, or has yet to get."""

    def __init__(self, rows: Mapping[Key, bulk.Values] | None = None, pointers: Sequence[Pointer] = ()) -> None:
        super().__init__()
        self.rows, self.pointers = rows or {}, pointers


class Staging:
    """What one batch has put into stores and read from them.

    Args:
        traces: of the batch's turns: what tombstones refuse is not written.
    """

    def __init__(self, database: Database, traces: Iterable[Trace]) -> None:
        self._database = database
        self._traces: dict[str, list[Trace]] = {}
        for trace in traces:
            self._traces.setdefault(trace.id, []).append(trace)
        self._unwritten: set[str] = set()  # blobs that are staged, and that no store was asked to take
        self._written: dict[Key, Pointer] = {}
        self._read: dict[Pointer, Any] = {}  # rows of blobs; None: it is gone
        self._missed: set[Pointer] = set()
        self._lost: set[str] = set()
        self._has_lapsed = False
        self.used: set[str] = set()  # blobs that the transaction points to
        self._rounds = 0

    def begin(self) -> None:
        """A transaction begins, again perhaps."""
        self.used.clear()
        self._lost.clear()

    def is_away(self, environment: str) -> bool:
        """Whether content of this environment lies in a store."""
        return environment in self._database.stores

    def placed(self, rows: Iterable[bulk.Values], environments: Mapping[str, str]) -> list[bulk.Values]:
        """Rows of the content table, pointers in place of blobs that belong into a store.

        Args:
            environments: by turn id.

        Raises:
            NotAtHand: some are not there yet.
        """
        found, missing = [], {}
        for row in rows:
            turn_id, _, _, size, data = row
            key = (environments[turn_id], turn_id, data)
            if not self.is_away(key[0]):
                found.append(row)
            elif key in self._written:
                pointer = self._written[key]
                self.used.add(pointer.blob_id)
                found.append((turn_id, int(Codec.STORE), None, size, pointer.written()))
            else:
                missing[key] = row
        if missing:
            raise NotAtHand(missing)
        return found

    def opened(self, connection: Connection, rows: Sequence[Any]) -> dict[str, TurnContent]:
        """Content of rows of the content table, by turn id.

        Raises:
            NotAtHand: some have to be fetched.
        """
        pointers = {row.turn_id: Pointer.read(row.data) for row in rows if row.codec == Codec.STORE}
        missing = [pointer for pointer in pointers.values() if pointer not in self._read]
        if missing:
            raise NotAtHand(pointers=missing)
        found = {row.turn_id: self._read[pointers[row.turn_id]] if row.turn_id in pointers else row for row in rows}
        self._lost.update(turn_id for turn_id, row in found.items() if row is None)
        return {turn_id: _opened(connection, row) for turn_id, row in found.items()}

    def has_lost(self, turn_id: str) -> bool:
        """Whether a blob of this turn was to be read, and is gone from its store."""
        return turn_id in self._lost

    def settle(self, connection: Connection) -> None:
        """The last of a transaction: its blobs are pointed to from now on, and those it did not need are to go.

        Raises:
            DatabaseUnavailable: it took so long that they were given up: try again later.
        """
        unused = {pointer.blob_id for pointer in self._written.values()} - self.used
        if not strays.settle(connection, self.used, unused):
            self._has_lapsed = True
            raise DatabaseUnavailable(_TOO_LONG)

    # --- outside the transaction ---

    def abandon(self) -> None:
        """No transaction will point to what was written: it may go at once. Where that cannot be said, it lapses."""
        if not self._unwritten and not self._written:
            return
        with contextlib.suppress(TurntraceError):
            self._database.transact(self._give_back)

    def _give_back(self, connection: Connection) -> None:
        strays.drop(connection, sorted(self._unwritten))
        strays.settle(connection, set(), {pointer.blob_id for pointer in self._written.values()})
        # Else a note that is missing may have left with a commit of which only the answer was lost.
        if self._has_lapsed:
            strays.put_again(connection, ((turn_id, pointer) for (_, turn_id, _), pointer in self._written.items()))

    def bring(self, wanted: NotAtHand) -> None:
        """Write and read what a transaction lacked.

        Raises:
            DatabaseUnavailable, SchemaOutOfDate: a store is away or not named; try again later.
        """
        self._rounds += 1
        if self._rounds > _ROUNDS:
            raise DatabaseUnavailable("content in a store changes all the time")
        for name, ids in residence.grouped([("", pointer) for pointer in wanted.pointers]).items():
            self._fetch(name, list(ids))
        if wanted.rows:
            self._put(wanted.rows)

    def _fetch(self, name: str, blob_ids: Sequence[str]) -> None:
        found = residence.blobs(residence.named(self._database.stores, name), blob_ids)
        for pointer in (Pointer(name, blob_id) for blob_id in blob_ids):
            row = found.get(pointer.blob_id)
            if row is None and pointer not in self._missed:
                # Somebody replaced it meanwhile, most likely: the transaction, run again, then asks for another.
                self._missed.add(pointer)
            else:
                self._read[pointer] = row

    def _put(self, rows: Mapping[Key, bulk.Values]) -> None:
        for name in sorted({store for store, _, _ in rows}):
            residence.look(self._database.stores[name])  # before anything is staged for a store that is away
        given = {key: Pointer(key[0], uuid.uuid4().hex) for key in rows}
        began = time.monotonic()
        taken = self._database.transact(self._stage, given)
        self._unwritten.update(pointer.blob_id for pointer in taken.values())
        reach("residence.after_stage")
        for name in sorted({store for store, _, _ in taken}):
            if time.monotonic() - began > _LONGEST_SECONDS:
                raise DatabaseUnavailable(_TOO_LONG)
            part = {key: taken[key] for key in taken if key[0] == name}
            self._unwritten -= {pointer.blob_id for pointer in part.values()}
            self._write(name, part, rows)
            self._written.update(part)
        reach("residence.after_write")

    def _stage(self, connection: Connection, given: Mapping[Key, Pointer]) -> dict[Key, Pointer]:
        """The blobs that may be written, put down as staged: from here on an eraser waits for them."""
        digest_key = tombstones.take_fence(connection)
        traces = [trace for turn_id in {key[1] for key in given} for trace in self._traces.get(turn_id, ())]
        refused = tombstones.find_refused(connection, traces, digest_key)
        taken = {key: pointer for key, pointer in given.items() if key[1] not in refused}
        rows = ((turn_id, pointer) for (_, turn_id, _), pointer in taken.items())
        strays.put(connection, rows, is_staged=True, at_us=strays.clock(connection))
        return taken

    def _write(self, name: str, taken: Mapping[Key, Pointer], rows: Mapping[Key, bulk.Values]) -> None:
        keys = list(taken)
        made = content.sealed(self._database.cipher, [rows[key] for key in keys])
        found = [(taken[key].blob_id, *row) for key, row in zip(keys, made, strict=True)]
        store = self._database.stores[name]
        try:
            store.transact(bulk.insert_rows, blob, found)
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, DBAPIError) and not cause.connection_invalidated:
                self._give_up([pointer.blob_id for pointer in taken.values()], store)
            raise

    def _give_up(self, blob_ids: Sequence[str], store: Database) -> None:
        """A store that refuses would leave rows here at every try: those of which it has nothing go at once."""
        with contextlib.suppress(TurntraceError):  # they lapse
            there = _those_in(store, blob_ids)
            self._database.transact(strays.drop, sorted(set(blob_ids) - there))


def _those_in(store: Database, blob_ids: Sequence[str]) -> set[str]:
    try:
        with store.read() as connection:
            wanted = bulk.among(connection, blob.c.id, blob_ids)
            return set(connection.execute(select(blob.c.id).where(wanted)).scalars())
    except SchemaOutOfDate:
        return set()  # it has no table


def _opened(connection: Connection, row: Any) -> TurnContent:
    return TurnContent() if row is None else content.opened(connection, row)
