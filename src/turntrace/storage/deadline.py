"""A limit to how long psycopg waits for an answer of a server that hangs without a word.

`statement_timeout` is the server's to keep: one that is stopped, or behind a firewall that has forgotten the
connection, keeps nothing, and libpq waits for ever. PyMySQL has limits of its own; of psycopg 3 those releases whose
`Connection.wait` takes a `timeout` can be bounded.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection

_LOOK_SECONDS = 0.1  # psycopg's own interval between looks at signals and the limit
_LIMITS = ("turntrace_longest_wait", "_read_timeout")  # attributes of connections: ours of psycopg's, and PyMySQL's


@cache
def bounded_class(seconds: float) -> Any:
    """A `psycopg.Connection` that gives up, and closes itself, after `seconds` without an answer; None where psycopg
    cannot be bounded."""
    import psycopg  # an optional extra

    if "timeout" not in inspect.signature(psycopg.Connection.wait).parameters:
        return None

    class Bounded(psycopg.Connection[Any]):
        turntrace_longest_wait: float | None = seconds

        def wait(self, gen: Any, interval: float = _LOOK_SECONDS, timeout: float | None = None) -> Any:
            limit = self.turntrace_longest_wait
            try:
                return super().wait(gen, interval=interval, timeout=timeout or limit)
            except Exception as error:
                if timeout is not None or type(error).__name__ != "_WaitTimeout":
                    raise
                self.pgconn.finish()
                raise psycopg.OperationalError(f"no answer within {limit:.0f} s") from None

    return Bounded


@contextmanager
def patient(connection: Connection) -> Iterator[None]:
    """Wait as long as it takes inside: a migration that waits for another one, or for many rows."""
    raw = connection.connection.driver_connection
    limit = next((name for name in _LIMITS if hasattr(raw, name)), None)
    if limit is None:  # other drivers have none, and psycopg2 not even room for one
        yield
        return
    given = getattr(raw, limit)
    setattr(raw, limit, None)
    try:
        yield
    finally:
        setattr(raw, limit, given)
