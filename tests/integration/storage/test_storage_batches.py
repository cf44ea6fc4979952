"""One batch, one transaction: what is stored, counted once, and what a crash at any step leaves."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import stored as s

from turntrace import failpoint
from turntrace.records.batch import Batch, ProcessCounts
from turntrace.records.score import Score
from turntrace.storage import batches, content, marks, migrate
from turntrace.storage.database import Database
from turntrace.storage.pace import Pace
from turntrace.storage.queries.row import to_observation, to_trace

STEPS = (
    "storage.after_fence",
    "storage.after_turns",
    "storage.after_late",
    "storage.after_rollups",
    "storage.after_loss",
    "storage.before_commit",
)


@pytest.fixture
def fail() -> Iterator[object]:
    yield failpoint.activate
    failpoint.activate("")


def test_a_turn_is_read_back_as_it_was_written(database: Database) -> None:
    written = s.trace(1, observations=(s.generation(1, 1, error=s.error(), status="error"), s.retrieval(1, 2)))
    s.write(database, s.end(written))
    (row,) = s.rows(database, "trace")
    (blob,) = s.rows(database, "content")
    found = replace(to_trace(row), observations=tuple(to_observation(o, row) for o in s.rows(database, "observation")))
    read = content.filled_trace(found, content.unpack(blob["codec"], blob["data"]))
    expected = replace(
        written,
        usage=read.usage,
        observations=tuple(
            replace(item, usage=mine.usage) for item, mine in zip(written.observations, read.observations, strict=True)
        ),
    )
    assert read == expected
    assert row["is_final"]
    assert row["input_tokens"] == 100
    assert b"kettle" not in blob["data"].lower()


def test_what_is_the_traces_own_is_not_repeated_in_observations(database: Database) -> None:
    s.write(database, s.end(s.trace(1, observations=(s.generation(1, 1), s.retrieval(1, 2, user_id="bob")))))
    first, second = sorted(s.rows(database, "observation"), key=lambda row: row["span_id"])
    assert (first["trace_id"], first["session_id"], first["user_id"]) == (None, None, None)
    assert second["user_id"] == "bob"


def test_the_same_batch_again_changes_nothing(database: Database) -> None:
    batch = [s.end(s.trace(1)), s.end(s.trace(2), is_kept=False), s.amend(1, observations=(s.retrieval(1, 7),))]
    s.write(database, *batch, marks={"a": 9})
    before = s.everything(database)
    s.write(database, *batch, marks={"a": 9})
    assert s.everything(database) == before
    assert s.loss(database) == {"stored": 1, "sampled": 1}


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_leaves_nothing_and_the_next_try_everything(
    database: Database, step: str, fail: object
) -> None:
    s.write(database, s.start(s.trace(1)))
    before = s.everything(database)
    batch = [s.end(s.trace(1)), s.end(s.trace(2)), s.amend(2, observations=(s.generation(2, 5),))]
    failpoint.activate(f"{step}=raise")
    with pytest.raises(failpoint.FailPointReached):
        s.write(database, *batch, marks={"a": 3})
    failpoint.activate("")
    assert s.everything(database) == before
    with database.read() as connection:
        assert marks.load(connection) == {}
    s.write(database, *batch, marks={"a": 3})
    after = s.everything(database)
    s.write(database, *batch, marks={"a": 3})
    assert s.everything(database) == after
    with database.read() as connection:
        assert marks.load(connection) == {"a": 3}
        assert marks.get(connection, "a") == 3
        assert marks.get(connection, "b") == -1


def test_marks_never_go_back(database: Database) -> None:
    s.write(database, marks={"a": 5, "b": 1})
    s.write(database, marks={"a": 3, "b": 2})
    with database.read() as connection:
        assert marks.load(connection) == {"a": 5, "b": 2}


def test_a_running_turn_is_replaced_until_it_ends_and_counted_once(database: Database) -> None:
    s.write(database, s.start(s.trace(1, observations=(s.generation(1, 1, is_open=True, output=None),))))
    (row,) = s.rows(database, "trace")
    assert row["outcome"] == "in_progress"
    assert s.loss(database) == {"stored": 1}
    assert s.summed(database) == {}
    s.write(database, s.start(s.trace(1)))
    s.write(database, s.end(s.trace(1)))
    (row,) = s.rows(database, "trace")
    assert row["outcome"] == "complete"
    assert s.loss(database) == {"stored": 1}
    assert len(s.rows(database, "observation")) == 2


def test_the_running_state_of_a_turn_that_has_ended_is_ignored(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    before = s.everything(database)
    s.write(database, s.start(s.trace(1)), s.start(s.trace(1)))
    s.write(database, s.start(s.trace(1)), s.end(s.trace(1)))
    assert s.everything(database) == before


def test_an_interrupted_turn_stays_as_it_ended(database: Database) -> None:
    s.write(database, s.start(s.trace(1)))
    s.write(database, s.end(s.trace(1, outcome="interrupted")))
    s.write(database, s.end(s.trace(1, outcome="interrupted")))
    (row,) = s.rows(database, "trace")
    assert row["outcome"] == "interrupted"
    assert s.loss(database) == {"stored": 1}


def test_a_sampled_out_turn_leaves_its_sums_and_the_decision(database: Database) -> None:
    s.write(database, s.start(s.trace(1)))
    s.write(database, s.end(s.trace(1), is_kept=False))
    assert s.rows(database, "trace") == s.rows(database, "observation") == s.rows(database, "content") == []
    assert s.loss(database) == {"sampled": 1}
    sums = s.summed(database)
    assert sum(value[0] for key, value in sums.items() if key[:3] == ("hour", key[1], "")) == 1
    s.write(database, s.end(s.trace(1), is_kept=False))
    s.write(database, s.start(s.trace(1)))
    assert s.summed(database) == sums
    late = s.amend(1, observations=(s.generation(1, 8),))
    s.write(database, late)
    assert s.rows(database, "observation") == []
    assert s.loss(database) == {"sampled": 1}
    calls = sum(value[1] for key, value in s.summed(database).items() if key[0] == "hour" and key[2] == "")
    assert calls == 2


def test_sessions_belong_to_a_user_and_sum_their_turns(database: Database) -> None:
    s.write(
        database,
        s.end(s.trace(1)),
        s.end(s.trace(2, status="error")),
        s.end(s.trace(3, user_id=None, observations=())),
        s.end(s.trace(4, user_id="Anna", observations=())),
        s.end(s.trace(5, session_id=None, observations=())),
    )
    found = {(row["session_id"], row["user_id"]): row for row in s.rows(database, "session")}
    assert set(found) == {("s1", "anna"), ("s1", ""), ("s1", "Anna")}
    anna = found["s1", "anna"]
    assert (anna["trace_count"], anna["error_count"], anna["priced_count"]) == (2, 1, 2)
    assert (anna["input_tokens"], anna["cost_total_nano"], anna["duration_us"]) == (200, 5400, 1_400_000)
    assert (anna["first_at_us"], anna["last_at_us"]) == (s.T0 + 1000, s.T0 + 2000)


def test_later_batches_add_to_a_session(database: Database) -> None:
    s.write(database, s.end(s.trace(5)))
    s.write(database, s.end(s.trace(2, environment="staging")))
    (row,) = s.rows(database, "session")
    assert (row["first_at_us"], row["last_at_us"], row["environment"]) == (s.T0 + 2000, s.T0 + 5000, "production")
    assert row["trace_count"] == 2


def test_loss_counts_processes_and_scores_travel_with_the_batch(database: Database) -> None:
    process = ProcessCounts(process_id="p-1", accepted=7, dropped={"spool_full": 2}, seen_at_us=5)
    score = Score(id="x1", name="thumbs", value=True, data_type="boolean", source="user", turn_id=s.turn_id(1))
    for _ in range(2):
        s.write(database, s.end(s.trace(1)), processes=(process,), scores=(score,))
    s.write(database, loss={"dropped:poison": 2}, processes=(replace(process, accepted=9, is_dead=True),))
    assert s.loss(database) == {"stored": 1, "dropped:poison": 2}
    (row,) = s.rows(database, "process")
    assert (row["accepted"], row["dropped"], row["is_dead"]) == (9, '{"spool_full":2}', True)
    (found,) = s.rows(database, "score")
    assert (found["user_id"], found["environment"], found["flag"]) == ("anna", "production", True)


def test_values_that_a_database_refuses_are_made_acceptable(database: Database) -> None:
    hostile = s.trace(
        1,
        name="n" * 1000,
        input_preview="nul \0 and \ud800 alone",
        input="nul \0 and \ud800 alone",
        bytes_sent=2**70,
        http_status=10**6,
        observations=(s.generation(1, 1, model="m" * 500, output={"n": 2**80, "text": "\ud83d"}),),
    )
    s.write(database, s.end(hostile), s.end(s.trace(2)))
    first, second = sorted(s.rows(database, "trace"), key=lambda row: row["id"])
    assert second["name"] == "POST /chat"
    assert first["bytes_sent"] == 2**63 - 1
    assert len(first["name"]) == 255
    assert first["input_preview"].startswith("nul ")
    read = s.contents(database)[s.turn_id(1)]
    assert read[1][s.span_id(1)]["output"]["n"] == 2**80


def test_names_that_differ_in_case_are_different(database: Database) -> None:
    s.write(database, s.end(s.trace(1, session_id="S1", user_id="ANNA")), s.end(s.trace(2)))
    assert {row["user_id"] for row in s.rows(database, "session")} == {"ANNA", "anna"}
    users = {key[3] for key in s.summed(database) if key[2] == "user"}
    assert users == {"ANNA", "anna"}


def test_two_workers_that_store_the_same_turns_count_them_once(database: Database) -> None:
    turns = [s.end(s.trace(n)) for n in range(1, 40)]
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for start in range(0, len(turns), 5):
                s.write(database, *turns[start : start + 5])
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert s.loss(database) == {"stored": 39}
    (row,) = s.rows(database, "session")
    assert row["trace_count"] == 39
    base = {key: sums for key, sums in s.summed(database).items() if key[0] == "hour" and key[2] == ""}
    assert sum(sums[0] for sums in base.values()) == 39


def test_an_empty_batch_is_nothing(database: Database) -> None:
    batches.write_batch(database, Batch(), now_us=s.NOW)
    assert s.loss(database) == {}


def test_a_crash_between_the_parts_of_a_batch_counts_late_steps_once(
    tmp_path: Path, fail: Callable[[str], None]
) -> None:
    """In a host's file a batch is several transactions; of a turn that was left out nothing tells what was counted."""
    with closing(sqlite3.connect(tmp_path / "host.db")) as host:
        host.execute("CREATE TABLE orders (id INTEGER)")
    database = Database(f"sqlite:///{tmp_path / 'host.db'}")
    migrate.upgrade(database)
    assert database.is_guest
    s.write(database, *(s.end(s.trace(n), is_kept=False) for n in range(1, 21)))
    late = [s.amend(n, observations=(s.generation(n, 9),)) for n in range(1, 31)]
    batch = [*late[:20], *(s.end(s.trace(n), is_kept=False) for n in range(21, 31)), *late[20:]]
    database.pace = Pace(1e-9, first=3, least=3)  # turns of a transaction, however quick it is
    fail("storage.after_fence=raise@3+")
    with pytest.raises(failpoint.FailPointReached):
        s.write(database, *batch, marks={"a": 3})
    fail("")
    s.write(database, *batch, marks={"a": 3})
    calls = [sums[1] for key, sums in s.summed(database).items() if key[0] == "hour" and key[2] == ""]
    assert sum(calls) == 60
    assert s.loss(database) == {"sampled": 30}
    database.close()
