"""How many judgements one worker process makes, and what its host feels: a judge of 200 ms, 50 turns a second.

`python -m benchmarks.judging --steps 10000`; with `--postgres URL` (of a server on which a database may be made) there,
else in an SQLite file.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from sqlalchemy import make_url

from benchmarks.outage import scratch
from benchmarks.report import publish
from tests.acceptance.evaluation.judging_host import judging, ratio_of
from tests.acceptance.servers import wait_until
from turntrace.storage import migrate
from turntrace.storage.database import Database


def measure(url: str, steps: int, home: Path) -> dict[str, float | str]:
    """One row of the table: the rate first, over a third of the steps, then pairs of windows with the rest."""
    database = Database(url)
    migrate.upgrade(database)
    with judging(database, home, steps) as found:
        found.switch(is_on=True)
        wait_until(lambda: found.done() >= steps // 3, seconds=600, what="a third is judged")
        rate = found.a_minute()
        found.switch(is_on=False)
        wait_until(found.is_quiet, seconds=60, what="what was begun is ended and stored")
        pairs = list(found.pairs(quiet_seconds=6, judging_seconds=6))
    database.close()
    for pair in pairs:
        print(pair)
    return {
        "database": database.dialect,
        "judgements": steps,
        "a minute": rate,
        "pairs": len(pairs),
        "p99 quiet ms": median(pair.quiet for pair in pairs),
        "p99 judging ms": median(pair.judging for pair in pairs),
        "ratio of p99": ratio_of(pairs),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--postgres", type=make_url, help="URL of a server; without it SQLite is measured")
    parser.add_argument("--out", type=Path, help="directory for JSON and Markdown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        if arguments.postgres is None:
            row = measure(f"sqlite:///{home / 'turntrace.db'}", arguments.steps, home)
        else:
            with scratch(arguments.postgres) as url:
                row = measure(url.render_as_string(hide_password=False), arguments.steps, home)
    publish("judging", [row], arguments.out)


if __name__ == "__main__":
    main()
