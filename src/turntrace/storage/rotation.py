"""Content sealed anew: with the current key, or in clear again where encryption was switched off.

Small batches by primary key, each a transaction of its own: it may be stopped and started again at any row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Table, Text, and_, or_, select, type_coerce, update

from turntrace.storage import audit, scores, seal, tables
from turntrace.storage.database import Database

BATCH: Final = 200
_c = tables.content.c

Counts = dict[str, int]


def rotate(database: Database, *, now_us: int, actor: str = "command line") -> Iterator[Counts]:
    """Seal every row anew that is not sealed as it should be; yields rows changed so far, by table.

    Raises:
        KeyMissing, ValueError: a row cannot be opened with the keys at hand; rows before it are done.
    """
    counts: Counts = {}
    for table in _tables():
        counts[table.name.removeprefix(tables.PREFIX)] = 0
        key: tuple[Any, ...] | None = None
        while True:
            key, changed = database.transact(_batch, table, key)
            counts[table.name.removeprefix(tables.PREFIX)] += changed
            yield dict(counts)
            if key is None:
                break
    database.transact(_note, counts, actor, now_us)


def _tables() -> list[Table]:
    """Content, and every table with a column that is sealed."""
    return [tables.content, *(table for table in tables.metadata.sorted_tables if _sealed(table))]


def _sealed(table: Table) -> list[str]:
    return [column.name for column in table.c if isinstance(column.type, seal.Sealed)]


def _batch(connection: Connection, table: Table, after: tuple[Any, ...] | None) -> tuple[tuple[Any, ...] | None, int]:
    """The next rows by primary key: where it ended (None: at the end), and how many were changed."""
    keys = list(table.primary_key.columns)
    texts = _sealed(table)
    wanted = [table.c[name] for name in texts] if texts else [_c.codec, _c.key_id, _c.data]
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
    if row.key_id == wanted:
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
