"""The worker over a real spool and real databases: every kind of frame becomes what it says, once."""

from pathlib import Path

from sqlalchemy import select

from tests.integration.worker import frames as f
from tests.integration.worker.conftest import NewWorker, NewWriter, work
from tests.integration.worker.truth import balance, outcomes, reasons, total, truth
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage import tables
from turntrace.storage.database import Database

TURNS = 24


def test_turns_of_every_shape_are_stored_with_an_exact_balance(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    f.write_turns(writer, range(TURNS))
    assert balance(database, root) == Loss(accepted=TURNS, in_spool=TURNS)
    work(new_worker(batch_turns=5))
    assert balance(database, root) == Loss(accepted=TURNS, stored=TURNS)
    assert outcomes(database) == dict.fromkeys(range(TURNS), "complete")
    shapes = [n % 6 for n in range(TURNS)]
    calls = TURNS + shapes.count(1) + shapes.count(2)
    found = truth(database)
    assert len(found["observations"]) == calls
    assert (total(database, "turns"), total(database, "calls")) == (TURNS, calls)
    assert [row[0] for row in found["score"]] == sorted(f"score-{n}" for n in range(TURNS) if n % 6 == 5)
    assert sum(row[found_column("trace_count")] for row in found["session"]) == TURNS


def found_column(name: str) -> int:
    return tables.session.c.keys().index(name)


def test_a_turn_is_shown_while_it_runs_and_replaced_by_its_end(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer, now = new_writer(), [1000.0]
    worker = new_worker(clock=lambda: now[0])
    f.start(writer, 1, f.call(1, duration_us=None))
    worker.step()
    assert outcomes(database) == {1: "in_progress"}
    assert (total(database, "turns"), balance(database, root)) == (0, Loss(accepted=1, stored=1))
    f.delta(writer, 1, f.call(1), received="Hel")
    f.delta(writer, 1, f.call(1, 2), received="lo")
    now[0] += 2
    worker.step()
    assert len(truth(database)["observations"]) == 2
    f.end(writer, 1, f.call(1), f.call(1, 2), f.call(1, 3), is_first=False)
    worker.step()
    assert outcomes(database) == {1: "complete"}
    assert (total(database, "turns"), total(database, "calls")) == (1, 3)
    assert balance(database, root) == Loss(accepted=1, stored=1)


def test_late_spans_join_a_turn_of_an_earlier_batch(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    worker = new_worker()
    f.end(writer, 1)
    worker.step()
    f.amend(writer, 1, f.call(1, 7), feature="research")
    worker.step()
    with database.read() as c:
        row = c.execute(select(tables.trace.c.feature, tables.trace.c.observation_count)).one()
    assert tuple(row) == ("research", 2)
    assert (total(database, "turns"), total(database, "calls")) == (1, 2)
    assert balance(database, root) == Loss(accepted=1, stored=1)


def test_late_spans_of_one_call_count_it_once(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    """A framework in a background task and our client below it: spans that end one after the other, side by side."""
    writer, worker = new_writer(), new_worker()
    f.end(writer, 1)
    worker.step()
    f.amend(writer, 1, f.call(1, 7, scope="turntrace.openai"))
    f.amend(writer, 1, {**f.call(1, 7, scope="langchain"), "span_id": "d" * 16, "duration_us": 300_100}, tags=["late"])
    worker.step()
    assert (total(database, "calls"), total(database, "input_tokens")) == (2, 202)
    with database.read() as c:
        assert c.execute(select(tables.trace.c.observation_count, tables.trace.c.tags)).one() == (2, '["late"]')
    assert balance(database, root) == Loss(accepted=1, stored=1)


def test_what_sampling_leaves_out_is_counted_and_its_costs_are_kept(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    f.write_turns(writer, range(12))
    work(new_worker(settings=Settings(redaction="off", sample_rate=0.0, sample_hold_hours=0)))
    errors = sum(1 for n in range(12) if n % 6 == 4)
    assert balance(database, root) == Loss(accepted=12, stored=errors, sampled=12 - errors)
    assert total(database, "turns") == 12


def test_turns_of_a_closed_writer_leave_no_file_behind(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    writer = new_writer()
    f.write_turns(writer, range(6))
    writer.close()
    work(new_worker())
    assert list(root.glob("p-*")) == []
    assert balance(database, root) == Loss(accepted=6, stored=6)


def test_several_processes_are_added_up(
    database: Database, root: Path, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    first, second = new_writer(), new_writer()
    worker = new_worker()
    f.write_turns(first, range(6))
    f.write_turns(second, range(6, 12))
    work(worker)
    first.close()
    f.write_turns(second, range(12, 18))
    work(worker)
    assert balance(database, root) == Loss(accepted=18, stored=18)
    assert reasons(database) == {"stored": 18}


def test_an_idle_application_is_not_written_down_every_second(
    database: Database, new_writer: NewWriter, new_worker: NewWorker
) -> None:
    now = [1000.0]
    worker = new_worker(clock=lambda: now[0], wall=lambda: int(now[0] * 1e6))
    f.end(new_writer(), 1)
    work(worker)

    def seen() -> int:
        with database.read() as c:
            return int(c.execute(select(tables.process.c.seen_at_us)).scalar_one())

    before = seen()
    for _ in range(10):
        now[0] += 2
        worker.step()
    assert seen() == before
    now[0] += 20
    worker.step()
    assert seen() == int(now[0] * 1e6)
