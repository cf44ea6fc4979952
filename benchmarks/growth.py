"""What a worker keeps of the turns it has stored: its memory after each portion, when nothing waits and what it no
longer needs is given back.

`python -m benchmarks.growth --portions 12 --turns 10000`. The first portions fill caches and the heap; after them
nothing may grow. An hour of load shows the same only between the peaks of its batches, which are larger than that.
"""

import argparse
import ctypes
import gc
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.ingest import open_worker, spool_turns
from benchmarks.report import publish

WARM_PORTIONS: Final = 3


def spool(database_url: str, spool_dir: Path, turns: int, redaction: str) -> None:
    """Record a portion in a process of its own: its memory is not the worker's."""
    words = ["--spool", database_url, str(spool_dir), "--turns", str(turns), "--redaction", redaction]
    subprocess.run([sys.executable, "-m", "benchmarks.growth", *words], check=True)


def run(portions: int, turns: int, redaction: str) -> list[dict[str, Any]]:
    """One row a portion: turns so far, MB of this process alone, blocks that Python has allocated, and MB gained since
    the worker was warm."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        url, spool_dir = f"sqlite:///{folder}/turntrace.db", Path(folder) / "spool"
        spool(url, spool_dir, turns, redaction)
        worker, database = open_worker(url, spool_dir, redaction)
        rows: list[dict[str, Any]] = []
        for number in range(portions):
            if number:
                spool(url, spool_dir, turns, redaction)
            work_off(worker, database)
            held, blocks = psutil.Process().memory_full_info().uss / (1 << 20), sys.getallocatedblocks()
            rows.append({"turns": (number + 1) * turns, "MB": held, "blocks": blocks})
    warm = rows[min(WARM_PORTIONS, portions) - 1]["MB"]
    return [{**row, "gained MB": row["MB"] - warm} for row in rows]


def work_off(worker: Any, database: Any) -> None:
    """Store what waits, merge its sums, and give back what is not needed any more."""
    from turntrace.storage import rollups

    while worker.step():
        pass
    while rollups.compact(database):
        pass
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portions", type=int, default=12)
    parser.add_argument("--turns", type=int, default=10_000, help="of a portion")
    parser.add_argument("--redaction", choices=("off", "patterns"), default="patterns")
    parser.add_argument("--out", type=Path, help="directory for JSON and Markdown")
    parser.add_argument("--spool", nargs=2, metavar=("URL", "DIRECTORY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.spool:
        spool_turns(arguments.spool[0], Path(arguments.spool[1]), arguments.turns, arguments.redaction)
        return
    publish(
        f"growth-{arguments.redaction}", run(arguments.portions, arguments.turns, arguments.redaction), arguments.out
    )


if __name__ == "__main__":
    main()
