"""What goes wrong around the worker: a database that is away, rows it refuses, frames nobody can read."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.acceptance.servers import wait_until
from tests.integration.worker import frames as f
from tests.integration.worker.conftest import NewWorker, NewWriter, work
from tests.integration.worker.outage import outage_of
from tests.integration.worker.truth import balance, outcomes, reasons, total
from turntrace.pipeline import Pipeline
from turntrace.records.batch import Worked
from turntrace.records.fragment import Fragment, FrameKind
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.spool.frame import RECORD_BYTES, RECORD_MAGIC
from turntrace.storage.database import Database
from turntrace.worker.loop import Worker
from turntrace.worker.status import in_spool, read_status

POISON = 7


class _Choking(Pipeline):
    """A pipeline with a bug that one turn brings out."""

    def work(self, fragments: Sequence[Fragment]) -> list[Worked]:
        if any(fragment.turn.id == f.turn_id(POISON) for fragment in fragments):
            raise RecursionError
        return super().work(fragments)


def test_a_turn_that_the_pipeline_chokes_on_is_set_aside_and_counted(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    f.write_turns(new_writer(), range(12))
    work(new_worker(pipeline=_Choking(Settings(redaction="off"))))
    assert balance(database, root) == Loss(accepted=12, stored=11, dropped={"pipeline": 1})
    assert POISON not in outcomes(database)


REFUSALS = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN NEW.{column} = '{value}' "
    "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    "mariadb": "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW IF NEW.{column} = '{value}' "
    "THEN SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1048; END IF",
    "postgresql": "ALTER TABLE {table} ADD CONSTRAINT refuse CHECK ({column} <> '{value}')",
}


@pytest.fixture
def refuse(database: Database) -> Iterator[Callable[[str, str, str], None]]:
    """Makes the database refuse one value of one column for good."""

    def make(table: str, column: str, value: str) -> None:
        statement = REFUSALS[database.dialect].format(table=table, column=column, value=value)
        with database.write() as c:
            c.execute(text(statement))

    yield make
    if database.dialect == "mariadb":
        with database.write() as c:
            c.execute(text("DROP TRIGGER IF EXISTS refuse"))


def test_a_turn_that_the_database_refuses_is_set_aside_and_counted(
    database: Database,
    root: Path,
    new_writer: NewWriter,
    new_worker: NewWorker,
    refuse: Callable[[str, str, str], None],
) -> None:
    refuse("turntrace_trace", "id", f.turn_id(POISON))
    f.write_turns(new_writer(), range(12))
    work(new_worker(batch_turns=5))
    assert balance(database, root) == Loss(accepted=12, stored=11, dropped={"poison": 1})
    assert POISON not in outcomes(database)
    work(new_worker())
    assert total(database, "turns") == 11


def test_a_score_that_the_database_refuses_blocks_nothing(
    database: Database,
    root: Path,
    new_writer: NewWriter,
    new_worker: NewWorker,
    refuse: Callable[[str, str, str], None],
) -> None:
    refuse("turntrace_score", "name", "bad")
    writer = new_writer()
    f.end(writer, 1)
    f.score(writer, 1, name="bad")
    f.score(writer, 2, name="good")
    work(new_worker())
    assert balance(database, root) == Loss(accepted=1, stored=1)
    assert reasons(database) == {"stored": 1, "score:poison": 1}


UNREADABLE = [b"", b"\xff\x00 not json", b"[]", b'{"turn": {"id": "short"}}', b'{"turn": 5, "spans": 7}']


@pytest.mark.parametrize("kind", [FrameKind.START, FrameKind.END])
def test_frames_that_cannot_be_read_are_counted_once(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker, kind: FrameKind
) -> None:
    writer = new_writer()
    for n, payload in enumerate(UNREADABLE):
        f.end(writer, n)
        writer.append(kind, payload, is_first=True)
        writer.append(FrameKind.DELTA, payload, is_first=False)
        writer.append(FrameKind.SCORE, payload, is_first=False)
    expected = Loss(accepted=10, stored=5, dropped={"unreadable": 5})
    work(new_worker(batch_turns=2))
    assert balance(database, root) == expected
    work(new_worker(batch_turns=3))
    assert balance(database, root) == expected


def test_a_turn_of_which_nothing_can_be_read_holds_up_nobody(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    broken = b'{"turn":{"id":"' + f.turn_id(1).encode() + b'","trace_id":"short"}}'
    writer.append(FrameKind.START, broken, is_first=True)
    writer.append(FrameKind.DELTA, broken, is_first=False)
    writer.append(FrameKind.END, broken, is_first=False)
    f.end(writer, 2)
    worker = new_worker()
    work(worker)
    assert outcomes(database)[2] == "complete"
    writer.close()
    work(worker)
    assert outcomes(database) == {1: "interrupted", 2: "complete"}
    assert balance(database, root) == Loss(accepted=2, stored=2)


def _damage(root: Path, needle: int) -> None:
    """Flip a byte in the body of the record number `needle` (from 0) of the only segment."""
    (segment,) = root.glob("p-*/*.seg")
    data = bytearray(segment.read_bytes())
    at = -1
    for _ in range(needle + 1):
        at = data.index(RECORD_MAGIC, at + 1)
    data[at + RECORD_BYTES + 5] ^= 0xFF
    segment.write_bytes(bytes(data))


@pytest.mark.parametrize("restart", [False, True])
def test_turns_lost_to_damage_are_counted_once(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker, restart: bool
) -> None:
    writer = new_writer()
    for n in range(6):
        f.end(writer, n)
    _damage(root, 2)
    work(new_worker())
    expected = Loss(accepted=6, stored=5, dropped={"corrupt": 1})
    assert balance(database, root) == expected
    if restart:
        work(new_worker())
    writer.close()
    work(new_worker())
    assert balance(database, root) == expected


@pytest.mark.parametrize("batch_turns", [1, 100])
def test_a_turn_whose_beginning_is_damaged_is_stored_by_its_end(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker, batch_turns: int
) -> None:
    writer = new_writer()
    f.start(writer, 1)
    f.end(writer, 2)
    f.delta(writer, 1, received="x")
    f.end(writer, 1, is_first=False)
    _damage(root, 0)
    work(new_worker(batch_turns=batch_turns))
    assert balance(database, root) == Loss(accepted=2, stored=2)
    work(new_worker())
    writer.close()
    work(new_worker())
    assert balance(database, root) == Loss(accepted=2, stored=2)


def test_a_turn_whose_end_is_damaged_is_interrupted_when_its_process_ends(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    f.start(writer, 1, f.call(1))
    f.end(writer, 1, is_first=False)
    f.end(writer, 2)
    _damage(root, 1)
    work(new_worker())
    assert balance(database, root) == Loss(accepted=2, stored=2)
    assert outcomes(database)[1] == "in_progress"
    writer.close()
    work(new_worker())
    assert outcomes(database) == {1: "interrupted", 2: "complete"}
    assert balance(database, root) == Loss(accepted=2, stored=2)


@pytest.fixture
def running() -> Iterator[Callable[[Worker], None]]:
    """Runs a worker in a thread until the test ends."""
    stop, threads = threading.Event(), []

    def run(worker: Worker) -> None:
        threads.append(threading.Thread(target=worker.run, args=(stop,)))
        threads[-1].start()

    yield run
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_turns_wait_while_the_database_is_away_and_none_is_lost(
    database: Database,
    root: Path,
    new_writer: NewWriter,
    new_worker: NewWorker,
    running: Callable[[Worker], None],
) -> None:
    writer = new_writer()
    f.write_turns(writer, range(6))
    with outage_of(database.url) as outage, closing(Database(outage.url)) as reached:
        worker = new_worker(store_in=reached, batch_turns=4, poll_seconds=0.05)
        work(worker)
        outage.begin()
        f.write_turns(writer, range(6, 18))
        running(worker)
        wait_until(lambda: _last_error(root) == "DatabaseUnavailable", seconds=30, what="the worker says why")
        assert in_spool(root) >= 12
        f.write_turns(writer, range(18, 24))
        assert in_spool(root) >= 18
        outage.end()
        wait_until(lambda: in_spool(root) == 0, seconds=60, what="everything is stored")
        assert balance(database, root) == Loss(accepted=24, stored=24)
        assert total(database, "turns") == 24


def _last_error(root: Path) -> str | None:
    status = read_status(root)
    return status.last_error if status else None
