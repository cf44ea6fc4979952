"""One person among many, erased while others are served: soon unreadable, verified, and no byte of it left."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import stored as s
from sqlalchemy import select

from turntrace.jobs import erase as job
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Receipt, Target
from turntrace.records.filter import TraceFilter
from turntrace.records.observation import ErrorInfo
from turntrace.records.score import Score
from turntrace.storage import belonging, bulk, narrow, rollups, tables
from turntrace.storage.database import Database
from turntrace.storage.queries import traces
from turntrace.storage.turns import Prepared

pytestmark = pytest.mark.timeout(900 if os.environ.get("TURNTRACE_TEST_LONG") else 180)
KEYS = KeyRing([b"k" * 32], is_explicit=True)
CANARY = "Kanarienvogel"
USER = f"{CANARY}-user"
TARGET = Target(kind="subject", user_ids=(USER,))
STEPS = 10
OBSERVATIONS = 1_000_000 if os.environ.get("TURNTRACE_TEST_LONG") else 50_000
MINE = 50  # turns of the person: 1 % of the short form
PEOPLE = 40 if os.environ.get("TURNTRACE_TEST_LONG") else 7  # more people, erased one by one under the same traffic
QUIET = 500_000 if os.environ.get("TURNTRACE_TEST_LONG") else 25_000  # steps, in turns of five; 1 % are one person's


def canary(number: int, user: str = USER, session: str = "session", size: int = STEPS) -> Any:
    """A turn of a person, whose name stands wherever a text can stand."""
    word = f"{CANARY} said {number}"
    error = ErrorInfo(type="E", message=word, stack=word)
    steps = tuple(
        s.generation(number, step, user_id=user, output=word, status_message=word, error=error, tags=(word,))
        for step in range(1, size + 1)
    )
    return s.trace(
        number,
        user_id=user,
        session_id=f"{CANARY}-{session}-{number % 5}",
        observations=steps,
        input=word,
        input_preview=word * 20,
        output_preview=word,
        error=error,
        tags=(word, "team:blue"),
        metadata={"x": word},
    )


def others(database: Database, turns: int, size: int = STEPS) -> None:
    """Turns of others, copied row by row from one: as many rows, without the time their making takes."""
    steps = tuple(s.generation(0, step, user_id=None) for step in range(1, size + 1))
    model = Prepared.of(s.end(s.trace(0, observations=steps)), s.NOW)
    names = narrow.TRACE_COLUMNS
    place = {name: names.index(name) for name in ("id", "trace_id", "user_id", "session_id", "started_at_us")}
    for start in range(1, turns, 1000):
        ids = [f"01{n * 7919 % 10**9:09d}{n:021x}" for n in range(start, min(start + 1000, turns))]
        rows = []
        for n, turn_id in enumerate(ids, start):
            row = list(model.trace)
            row[place["id"]], row[place["trace_id"]] = turn_id, turn_id
            row[place["user_id"]], row[place["session_id"]] = f"user-{n % 997}", f"s-{n % 4000}"
            row[place["started_at_us"]] = s.T0 + n
            rows.append(tuple(row))
        with database.write() as connection:
            bulk.insert_rows(connection, tables.trace, rows)
            made = [(turn_id, *row[1:]) for turn_id in ids for row in model.observations]
            bulk.insert_rows(connection, tables.observation, made)
            assert model.content is not None
            bulk.insert_rows(connection, tables.content, [(turn_id, *model.content[1:]) for turn_id in ids])


@contextmanager
def traffic(database: Database) -> Iterator[list[int]]:
    """Turns of others, and late ones of the person, written all the time; answers how many of the others."""
    stop, written = threading.Event(), [0]

    def write() -> None:
        number = 500_000
        while not stop.is_set():
            turns = [s.end(s.trace(number + n, user_id="bob", session_id="live")) for n in range(5)]
            s.write(database, *turns, s.end(canary(900_000 + number % 1000)))
            written[0] += len(turns)
            number += 5

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield written
    finally:
        stop.set()
        writer.join()


def readable(database: Database, user: str = USER) -> bool:
    with database.read() as connection:
        return bool(traces.list_traces(connection, TraceFilter(user_id=user), limit=1).items)


@dataclass
class Watch:
    """How long after `began` a person's turns could still be read, and when the receipt was there. Seconds."""

    database: Database
    user: str
    unreadable: float = 0.0
    receipt: float = 0.0

    def erase(self) -> Receipt:
        """Erase the person while somebody looks for their turns all the time."""
        began = time.monotonic()
        looking = threading.Thread(target=self._look, args=(began,))
        looking.start()
        target = Target(kind="subject", user_ids=(self.user,))
        found = job.erase_at_once(self.database, target, KEYS, actor="test", seconds=120)
        self.receipt = time.monotonic() - began
        looking.join()
        return found

    def _look(self, began: float) -> None:
        while readable(self.database, self.user) and time.monotonic() < began + 120:
            time.sleep(0.005)
        self.unreadable = time.monotonic() - began


def _bytes(database: Database) -> int:
    path = Path(str(database.url.database))
    files = [path, path.with_name(f"{path.name}-wal")]
    return sum(file.read_bytes().count(CANARY.encode()) for file in files if file.exists())


def test_a_person_is_erased_while_others_are_served(database: Database) -> None:
    others(database, OBSERVATIONS // STEPS)
    for start in range(1, MINE, 10):
        s.write(database, *(s.end(canary(n)) for n in range(start, start + 10)))
    said = Score(id="x", name="n", value=CANARY, data_type="text", source="user", turn_id=s.turn_id(1), comment=CANARY)
    s.write(database, scores=(replace(said, created_at_us=s.NOW),))
    rollups.compact(database)
    if database.dialect == "sqlite":
        assert _bytes(database) > 100
    people = [f"{CANARY}-{n}" for n in range(PEOPLE)]
    for n, user in enumerate(people):
        s.write(database, *(s.end(canary(100_000 + 10 * n + turn, user, user)) for turn in range(5)))
    watched = [Watch(database, user) for user in (USER, *people)]
    with traffic(database) as written:
        while written[0] < 10:
            assert readable(database)
        receipts = [watch.erase() for watch in watched]
        assert not any(readable(database, watch.user) for watch in watched)
        before = written[0]
        while written[0] < before + 10:
            time.sleep(0.01)
    assert all(receipt.is_finished for receipt in receipts)
    assert receipts[0].counts["trace"] >= MINE
    assert {receipt.counts["trace"] for receipt in receipts[1:]} == {5}
    unreadable = sorted(watch.unreadable for watch in watched)
    p95, longest = unreadable[-1 - len(unreadable) // 20], max(watch.receipt for watch in watched)
    print(f"{database.dialect}, {OBSERVATIONS:,} steps: unreadable p95 {p95:.2f} s, receipt max {longest:.2f} s")
    assert p95 <= 5
    assert longest <= 60
    with database.read() as connection:
        for watch in watched:
            assert belonging.count(connection, Target(kind="subject", user_ids=(watch.user,))) == {}
        assert connection.execute(select(tables.score.c.id)).first() is None
    if database.dialect == "sqlite":
        job.scrub_file(database, keys=KEYS)
        with database.read() as connection:
            known = job.receipts.list_receipts(connection)
        assert {receipt.verification["physical"] for receipt in known} == {"done"}
        assert _bytes(database) == 0


@pytest.mark.alone
def test_one_percent_of_a_quiet_database_goes_within_a_second(database: Database) -> None:
    turns = QUIET // 5
    others(database, turns - turns // 100, 5)
    for start in range(0, turns // 100, 250):
        numbers = range(start, min(start + 250, turns // 100))
        s.write(database, *(s.end(canary(100_000 + n, size=5)) for n in numbers))
    rollups.compact(database)
    watch = Watch(database, USER)
    receipt = watch.erase()
    print(f"{database.dialect}: 1 % of {QUIET:,} quiet steps in {watch.receipt:.2f} s")
    assert receipt.is_finished
    assert receipt.counts["observation"] == QUIET // 100
    assert watch.receipt <= 1.0


def test_what_is_replayed_after_an_erasure_stores_nothing(database: Database) -> None:
    s.write(database, *(s.end(canary(n)) for n in range(1, 4)))
    job.erase_at_once(database, TARGET, KEYS, actor="test")
    late = s.amend(2, observations=(s.retrieval(2, 77, user_id=None, query=CANARY),))
    running = s.start(replace(canary(9), user_id=None))
    s.write(database, *(s.end(canary(n)) for n in range(1, 9)), late, running)
    s.write(database, s.end(canary(9)))
    with database.read() as connection:
        for table in (*belonging.TURN_TABLES, tables.trace, tables.session):
            assert connection.execute(select(table)).all() == [], table.name
