"""Content sealed anew: with the current key, or in clear again where encryption was switched off; and small secrets
(API keys of judges), which are sealed in any case.

Small batches by primary key, each a transaction of its own: it may be stopped and started again at any row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Table, Text, and_, or_, select, type_coerce, update

from turntrace.errors import KeyMissing
from turntrace.keyring import KeyRing
from turntrace.storage import audit, scores, seal, sealing, tables
from turntrace.storage.content import Codec
from turntrace.storage.database import Database
from turntrace.storage.tables.residence import blob

BATCH: Final = 200
_SEALED: Final = "sealed"  # the column's name
_BLOB: Final = ("turn_id", "codec", "key_id", "data")

Counts = dict[str, int]


def rotate(
    database: Database, *, now_us: int, keys: KeyRing | None = None, actor: str = "command line"
) -> Iterator[Counts]:
    """Seal every row anew that is not sealed as it should be; yields rows changed so far, by table.

    Args:
        keys: the ring that seals secrets; None leaves them as they are. Those whose key is gone cannot be used any
            more, stay, and are counted as `unreadable`.

    Raises:
        KeyMissing, ValueError: a row cannot be opened with the keys at hand; rows before it are done.
    """
    counts: Counts = {}
    for place, table in [*((database, table) for table in _tables()), *((it, blob) for it in database.stores.values())]:
        name = table.name.removeprefix(tables.PREFIX)
        counts.setdefault(name, 0)
        key: tuple[Any, ...] | None = None
        while True:
            key, changed = place.transact(_batch, table, key)
            counts[name] += changed
            yield dict(counts)
            if key is None:
                break
    if keys is not None:
        for table in secret_tables():
            changed, lost = database.transact(_secrets, table, keys)
            counts[f"{table.name.removeprefix(tables.PREFIX)}.{_SEALED}"] = changed
            counts["unreadable"] = counts.get("unreadable", 0) + lost
            yield dict(counts)
    database.transact(_note, counts, actor, now_us)


def _tables() -> list[Table]:
    """Content, and every table with a column that is sealed."""
    return [tables.content, *(table for table in tables.metadata.sorted_tables if _sealed(table))]


def _sealed(table: Table) -> list[str]:
    return [column.name for column in table.c if isinstance(column.type, seal.Sealed)]


def secret_tables() -> list[Table]:
    """Tables with a column of secrets sealed by hand (`storage.sealing`): definitions, a few rows each."""
    return [table for table in tables.metadata.sorted_tables if _SEALED in table.c]


def _secrets(connection: Connection, table: Table, keys: KeyRing) -> tuple[int, int]:
    """Secrets that were sealed anew, and those that cannot be opened."""
    key, column = list(table.primary_key.columns), table.c[_SEALED]
    rows = connection.execute(select(*key, column).where(column.is_not(None)).with_for_update()).all()
    changed = lost = 0
    for row in rows:
        if sealing.is_current(keys, row[-1]):
            continue
        try:
            secret = sealing.unseal(keys, row[-1])
        except KeyMissing:
            lost += 1
            continue
        is_row = and_(*(item == value for item, value in zip(key, row, strict=False)))
        connection.execute(update(table).where(is_row).values({_SEALED: sealing.seal(keys, secret)}))
        changed += 1
    return changed, lost


def _batch(connection: Connection, table: Table, after: tuple[Any, ...] | None) -> tuple[tuple[Any, ...] | None, int]:
    """The next rows by primary key: where it ended (None: at the end), and how many were changed."""
    keys = list(table.primary_key.columns)
    texts = _sealed(table)
    wanted = [table.c[name] for name in texts or _BLOB if not table.c[name].primary_key]
    # As they are stored: the types of these columns would open them.
    columns = [type_coerce(item, Text()).label(item.name) if item.name in texts else item for item in wanted]
    if table is tables.score:
        columns.append(table.c.data_type)
    found = select(*keys, *columns).order_by(*keys).limit(BATCH).with_for_update()
    if after is not None:
        found = found.where(_after(keys, after))
    rows = connection.execute(found).all()
    changed = sum(_changed(connection, table, keys, texts, row) for row in rows)
    last = tuple(rows[-1][: len(keys)]) if len(rows) == BATCH else None
    return last, changed


def _after(keys: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows after this key, written without row values: MariaDB finds no index range in those."""
    later: ColumnElement[bool] = keys[0] > values[0]
    if len(keys) == 1:
        return later
    return or_(later, and_(keys[0] == values[0], _after(keys[1:], values[1:])))


def _changed(
    connection: Connection, table: Table, keys: Sequence[ColumnElement[Any]], texts: Sequence[str], row: Row[Any]
) -> bool:
    cipher = seal.cipher_of(connection.dialect)
    if cipher is None:
        return False
    values = _texts(cipher, table, texts, row._mapping) if texts else _blob(cipher, row)
    if values:
        is_row = and_(*(key == value for key, value in zip(keys, row, strict=False)))
        connection.execute(update(table).where(is_row).values(values))
    return bool(values)


def _blob(cipher: seal.Cipher, row: Any) -> dict[str, Any]:
    """New values of a content row; none where it is as it should be."""
    wanted = cipher.current_id if cipher.is_writing else None
    if row.key_id == wanted or row.codec == Codec.STORE:  # what a pointer leads to is sealed in its store
        return {}
    about = row.turn_id.encode()
    clear = bytes(row.data) if row.key_id is None else cipher.open(row.key_id, bytes(row.data), about=about)
    if wanted is None:
        return {"key_id": None, "data": clear}
    key_id, data = cipher.seal(clear, about=about)
    return {"key_id": key_id, "data": data}


def _texts(cipher: seal.Cipher, table: Table, names: Sequence[str], row: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        stored = row[name]
        if stored is None or not _is_stale(cipher, table, name, stored, row):
            continue
        clear = cipher.open_text(stored) if stored.startswith(seal.PREFIX) else stored
        # The column's type would seal it a second time.
        found[name] = type_coerce(cipher.seal_text(clear) if cipher.is_writing else clear, Text())
    return found


def _is_stale(cipher: seal.Cipher, table: Table, name: str, stored: str, row: Mapping[Any, Any]) -> bool:
    if stored.startswith(seal.PREFIX):
        return not cipher.is_writing or not stored.startswith(f"{seal.PREFIX}{cipher.current_id}:")
    if table is tables.score and name == "text":  # categories stay searchable
        return cipher.is_writing and row["data_type"] in scores.FREE_TEXT
    return cipher.is_writing


def _note(connection: Connection, counts: Counts, actor: str, now_us: int) -> None:
    changed = {name: count for name, count in counts.items() if count}
    audit.append(connection, actor=actor, action="keys.rotate", details=changed or None, now_us=now_us)
