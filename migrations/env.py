"""Alembic's environment for Turntrace's own tables: a connection comes from `turntrace.storage.migrate`.

Only tables with our prefix are looked at, and the version lives in our own table, so that the history of the host's
database and ours never meet.
"""

from alembic import context

from turntrace.storage.migrate import is_ours
from turntrace.storage.tables import VERSION_TABLE, metadata

OPTIONS = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "include_object": is_ours,
    "compare_type": True,
}


def run_offline(dialect: str) -> None:
    """Print SQL instead of running it."""
    context.configure(dialect_name=dialect, literal_binds=True, dialect_opts={"paramstyle": "named"}, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run inside the transaction of the connection that we were given."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("these migrations are run by `turntrace db upgrade`, not by the alembic command")
    context.configure(connection=connection, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline(context.config.attributes["dialect"])
else:
    run_online()
