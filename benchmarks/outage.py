"""What the application feels while its database fails: request p99 in outages against the quiet around them.

An SQLite file that is locked; with `--postgres URL` (of a server on which a database may be made) one that is away,
slow, or hangs as well. `python -m benchmarks.outage --pairs 8 --postgres postgresql+psycopg://postgres@127.0.0.1/postgres`.
"""

import argparse
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import URL, create_engine, make_url, text

from benchmarks.report import publish
from tests.acceptance.faults.outage import Pair, Rhythm, behind_proxy, limit_of, lockable, under_load

KINDS = ("refused", "slow", "hung")
DRAIN_SECONDS = 300.0


@contextmanager
def scratch(server: URL) -> Iterator[URL]:
    """A database of its own on a server, gone at the end."""
    name = f"turntrace_outage_{secrets.token_hex(4)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield server.set(database=name)
        finally:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def sqlite(rhythm: Rhythm, pairs: int) -> dict[str, list[Pair]]:
    """Pairs of an SQLite file that another process locks."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        lockable(Path(folder)) as outages,
        under_load(outages),
    ):
        return {"locked": outages.measured("locked", rhythm, least=pairs, most=pairs)}


def postgresql(server: URL, rhythm: Rhythm, pairs: int) -> dict[str, list[Pair]]:
    """Pairs of a PostgreSQL server that fails in each way."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        scratch(server) as url,
        behind_proxy(url, Path(folder)) as outages,
        under_load(outages),
    ):
        return {kind: outages.measured(kind, rhythm, least=pairs, most=pairs) for kind in KINDS}


def row(kind: str, pairs: list[Pair]) -> dict[str, Any]:
    """One line: medians over the pairs, and the limit that the median of what was added is held to."""
    quiet, outage = median(pair.quiet for pair in pairs), median(pair.outage for pair in pairs)
    return {
        "outage": kind,
        "pairs": len(pairs),
        "p99 quiet ms": quiet,
        "p99 outage ms": outage,
        "ratio": outage / quiet,
        "added ms": median(pair.added for pair in pairs),
        "limit ms": limit_of(pairs),
        "drained s": median(pair.drained_seconds for pair in pairs),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--outage-seconds", type=float, default=10.0)
    parser.add_argument("--quiet-seconds", type=float, default=5.0)
    parser.add_argument("--postgres", type=make_url, help="URL of a server; without it only SQLite is measured")
    parser.add_argument("--out", type=Path, help="directory for JSON and Markdown")
    arguments = parser.parse_args()
    rhythm = Rhythm(arguments.quiet_seconds, arguments.outage_seconds, DRAIN_SECONDS)
    found = sqlite(rhythm, arguments.pairs)
    if arguments.postgres is not None:
        found |= postgresql(arguments.postgres, rhythm, arguments.pairs)
    publish("outage", [row(kind, pairs) for kind, pairs in found.items()], arguments.out)


if __name__ == "__main__":
    main()
