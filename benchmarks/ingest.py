"""How fast spooled turns become queryable: observations per second on one core, with and without redaction.

A quarter of the texts was never seen before, as in chat traffic. `python -m benchmarks.ingest --turns 2000`.
The baseline of the same run is what SQLite alone does: rows of the same width inserted 512 a transaction.
"""

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import medians, publish
from benchmarks.workload import DOCUMENTS, USAGE

VARIANTS = ("baseline-rows", "turntrace-off", "turntrace-patterns")
OBSERVATIONS = 5
NEW_SHARE = 0.25
_LINES = (
    "kettle water vinegar descale boil rinse manual warranty order delivery invoice address customer support",
    "ticket refund replacement filter cable handle lid switch lamp sensor error code restart reset device model",
)
_WORDS = tuple(word for line in _LINES for word in line.split())


def text(choose: random.Random, words: int) -> str:
    """A sentence-like text; now and then with personal data in it."""
    body = " ".join(choose.choice(_WORDS) for _ in range(words))
    if choose.random() < 0.2:
        body += (
            f", write to user{choose.randrange(10**6)}@example.com or call +1 415 555 {choose.randrange(1000, 9999)}"
        )
    return body + "."


def spool_turns(database_url: str, spool_dir: Path, turns: int, redaction: str) -> None:
    """Record the turns of the workload into a spool, with no worker at work."""
    from turntrace import Turntrace

    choose = random.Random(11)
    tt = Turntrace(
        database_url=database_url, spool_dir=str(spool_dir), worker="external", redaction=redaction, secret_key="b" * 32
    )
    pool = [text(choose, 60) for _ in range(200)]

    def some(words: int) -> str:
        return text(choose, words) if choose.random() < NEW_SHARE else choose.choice(pool)

    for number in range(turns):
        with tt.turn("POST /ask", session_id=f"s-{number // 5}", user_id=f"u-{number % 97}", feature="support"):
            record(tt, some)
    tt.shutdown()


def record(tt: Any, some: Any) -> None:
    """One turn: agent, retrieval of five documents, rerank, tool, generation."""
    question = some(12)
    messages = [{"role": "system", "content": "Answer from the documents. " * 8}, {"role": "user", "content": question}]
    with tt.observation("agent", type="agent", input=question):
        with tt.observation("kb-search", type="retrieval", input=question) as o:
            o.update(documents=[{**document, "content": some(60)} for document in DOCUMENTS])
        with tt.observation("rerank", type="reranker") as o:
            o.update(output=[document["id"] for document in DOCUMENTS])
        with tt.observation("lookup", type="tool", input={"sku": "K-100"}) as o:
            o.update(output={"stock": 3})
        with tt.generation("answer", model="gpt-4o-mini", provider="openai", input=messages) as g:
            g.update(output=some(60), usage=USAGE, finish_reason="stop", response_id="r-1")


def open_worker(database_url: str, spool_dir: Path, redaction: str) -> tuple[Any, Any]:
    """A worker in this process, as warm as the worker process, and its database."""
    from turntrace import assembly
    from turntrace.keyring import KeyRing
    from turntrace.settings import Settings
    from turntrace.spool.directory import locate
    from turntrace.spool.reader import SpoolReader
    from turntrace.storage import migrate
    from turntrace.worker.heap import Heap

    settings = Settings(
        database_url=database_url, spool_dir=str(spool_dir), worker="external", redaction=redaction, secret_key="b" * 32
    )
    location = locate(settings)
    assert location.path is not None
    database = assembly.open_database(settings)
    migrate.upgrade(database)
    keys = KeyRing.from_settings(settings, location.key_file)
    reader = SpoolReader(location.path, keys, mark=assembly.stored_mark(database))
    worker = assembly.build_worker(settings, reader, keys, database, lambda status: None)
    Heap().relax()  # as the worker process does
    worker.warm_up()
    return worker, database


def ingest(database_url: str, spool_dir: Path, turns: int, redaction: str) -> dict[str, float]:
    """Work the spool off in this process and measure."""
    worker, database = open_worker(database_url, spool_dir, redaction)
    wall, cpu, children = time.perf_counter(), time.process_time(), _child_cpu()
    while worker.step():
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    child_cpu = _child_cpu() - children
    with database.read() as connection:
        stored = connection.exec_driver_sql("SELECT count(*) FROM turntrace_observation").scalar_one()
    assert stored == turns * OBSERVATIONS, f"{stored} observations of {turns * OBSERVATIONS}"
    return _figures(turns, wall, cpu + child_cpu)


def _child_cpu() -> float:
    """CPU seconds of living children (the redaction process)."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found += (int(fields[11]) + int(fields[12])) / ticks
    return found


def _figures(turns: int, wall: float, cpu: float) -> dict[str, float]:
    count = turns * OBSERVATIONS
    return {
        "observations/s": count / wall,
        "observations/cpu s": count / max(cpu, 1e-9),
        "cpu s/1000 turns": cpu / turns * 1000,
        "cores at 50 turns/s": cpu / turns * 50,
    }


def baseline(path: Path, turns: int) -> dict[str, float]:
    """What SQLite does with narrow rows and four indexes, 512 rows a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    columns = ", ".join(f"c{number} TEXT" for number in range(20))
    connection.execute(f"CREATE TABLE row (id INTEGER PRIMARY KEY, {columns})")
    for number in range(4):
        connection.execute(f"CREATE INDEX ix{number} ON row (c{number})")
    rows = [tuple(f"{number}-{column}" for column in range(20)) for number in range(turns * OBSERVATIONS)]
    insert = f"INSERT INTO row ({', '.join(f'c{n}' for n in range(20))}) VALUES ({', '.join('?' * 20)})"
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(rows), 512):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, rows[start : start + 512])
        connection.execute("COMMIT")
    return _figures(turns, time.perf_counter() - wall, time.process_time() - cpu)


def child(variant: str, turns: int, url: str | None) -> None:
    """Measure one variant in this process and print its figures as JSON."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        if variant == "baseline-rows":
            print(json.dumps(baseline(Path(home) / "rows.db", turns)))
            return
        redaction = variant.removeprefix("turntrace-")
        database_url = url or f"sqlite:///{home}/turntrace.db"
        spool_turns(database_url, Path(home) / "spool", turns, redaction)
        print(json.dumps(ingest(database_url, Path(home) / "spool", turns, redaction)))


def run(rounds: int, turns: int, url: str | None) -> list[dict[str, Any]]:
    """Alternate the variants and answer one row each, with the ratio to the bare rows."""
    results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            command = [sys.executable, "-m", "benchmarks.ingest", "--child", variant, "--turns", str(turns)]
            command += ["--database-url", url] if url else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results[variant].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {variant: medians(found) for variant, found in results.items()}
    base = figures["baseline-rows"]["observations/cpu s"]
    return [{"variant": v, **f, "ratio to rows": f["observations/cpu s"] / base} for v, f in figures.items()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--database-url", help="an empty database; none: SQLite")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.turns, arguments.database_url)
    else:
        publish("ingest", run(arguments.rounds, arguments.turns, arguments.database_url), arguments.out)


if __name__ == "__main__":
    main()
