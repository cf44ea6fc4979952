"""Content of an environment in a database of its own (`content_urls`): the store, pointers to it, and the way back.

The row of the content table stays as a pointer, so that the main database alone says what there is; blobs in a store
never change. Who writes them is `storage.staging`, who deletes them `storage.strays`.
"""

import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Dialect, select

from turntrace.errors import DatabaseUnavailable
from turntrace.records.observation import ErrorInfo, Observation
from turntrace.records.trace import Trace
from turntrace.storage import bulk
from turntrace.storage.tables.residence import STORE_METADATA, blob

if TYPE_CHECKING:
    from turntrace.storage.database import Database

_b = blob.c


class Pointer(NamedTuple):
    """Where a blob is: the environment whose store it is in, and its id there."""

    store: str
    blob_id: str

    def written(self) -> bytes:
        """As the content table holds it."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()

    @classmethod
    def read(cls, data: bytes) -> "Pointer":
        """Raises `ValueError` where it is damaged."""
        try:
            found = json.loads(bytes(data))
            return cls(str(found["store"]), str(found["blob_id"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("the pointer to the content is damaged") from error


# Stores by the dialect of a main database's engine, as ciphers are: queries know connections only.
_stores: "weakref.WeakKeyDictionary[Dialect, Mapping[str, Database]]" = weakref.WeakKeyDictionary()


def use(dialect: Dialect, stores: "Mapping[str, Database]") -> None:
    """Let rows read over this dialect's engine be followed into these stores."""
    _stores[dialect] = stores


def stores_of(connection: Connection) -> "Mapping[str, Database]":
    """The stores of a main database, by environment."""
    return _stores.get(connection.dialect, {})


def named(stores: "Mapping[str, Database]", name: str) -> "Database":
    """The store of an environment.

    Raises:
        DatabaseUnavailable: the settings of this process do not name it (any more).
    """
    if name not in stores:
        raise DatabaseUnavailable(f"the content is in the store of {name}, which content_urls does not name")
    return stores[name]


def make_table(store: "Database") -> None:
    """Make the table of a store, where it is not there."""
    with store.write() as connection:
        STORE_METADATA.create_all(connection)


def drop_table(store: "Database") -> None:
    """Drop the table of a store with all its blobs."""
    with store.write() as connection:
        STORE_METADATA.drop_all(connection)


def look(store: "Database") -> None:
    """Nothing, where the store can be read.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: it is away, or has no table.
    """
    with store.read() as connection:
        connection.execute(select(_b.id).limit(1)).first()


def blobs(store: "Database", blob_ids: Iterable[str]) -> dict[str, Any]:
    """Blobs by id, as rows with `turn_id`, `codec`, `key_id` and `data`; those that are gone are left out.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: the store is away, or has no table.
    """
    columns = (_b.id, _b.turn_id, _b.codec, _b.key_id, _b.data)
    with store.read() as connection:
        wanted = bulk.among(connection, _b.id, blob_ids)
        return {row.id: row for row in connection.execute(select(*columns).where(wanted))}


def follow(connection: Connection, pointer: Pointer) -> Any:
    """The row of a blob.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: the store is away, or not named, or has no table.
        ValueError: it is gone.
    """
    store = named(stores_of(connection), pointer.store)
    found = blobs(store, [pointer.blob_id]).get(pointer.blob_id)
    if found is None:
        raise ValueError("the content is not in its store any more")
    return found


# --- what stands outside the blob ------------------------------------------------------------------------------------


def without_texts(trace: Trace) -> Trace:
    """The trace as its rows may hold it where its content lies elsewhere: no previews, no messages."""
    return replace(
        trace,
        input_preview=None,
        output_preview=None,
        error=_silent(trace.error),
        observations=tuple(_observation(item) for item in trace.observations),
    )


def _observation(item: Observation) -> Observation:
    return replace(item, status_message=None, error=_silent(item.error))


def _silent(error: ErrorInfo | None) -> ErrorInfo | None:
    return None if error is None else replace(error, message=None)


def grouped(pointers: Sequence[tuple[str, Pointer]]) -> dict[str, dict[str, str]]:
    """Turn ids by blob id, by store."""
    found: dict[str, dict[str, str]] = {}
    for turn_id, pointer in pointers:
        found.setdefault(pointer.store, {})[pointer.blob_id] = turn_id
    return found
