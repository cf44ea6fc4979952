"""Values in the database that every process polls, such as the kill switch."""

from sqlalchemy import Connection, select

from turntrace.storage import bulk, tables

ENABLED = "enabled"  # the kill switch: "0" stops recording everywhere
_s = tables.setting.c


def get(connection: Connection, name: str) -> str | None:
    """The value of a switch, None where it was never set."""
    return connection.execute(select(_s.value).where(_s.name == name)).scalar()


def put(connection: Connection, name: str, value: str, *, now_us: int, author: str | None = None) -> None:
    """Set a switch."""
    statement = bulk.upsert(
        connection.dialect.name,
        tables.setting,
        lambda new: {column: getattr(new, column) for column in ("value", "author", "updated_at_us")},
    )
    row = {"name": name, "value": value, "author": author, "updated_at_us": now_us}
    connection.execute(statement, row)
