"""What was erased does not come back, whatever is still on its way."""

import threading

import stored as s

from turntrace.storage import tables, tombstones
from turntrace.storage.database import Database


def _bury(database: Database, *, user: str | None = None, turn: str | None = None, until_us: int | None = None) -> None:
    with database.write() as connection:
        key = tombstones.take_fence(connection, exclusive=True)
        found = []
        if user is not None:
            found.append(tombstones.Row(tombstones.SUBJECT, tombstones.subject_digest(key, user), until_us))
        if turn is not None:
            found.append(tombstones.Row(tombstones.TURN, turn, None))
        tombstones.add(connection, found, now_us=s.NOW)
        tombstones.add(connection, found, now_us=s.NOW)


def test_turns_of_an_erased_subject_are_refused_and_counted_once(database: Database) -> None:
    _bury(database, user="anna")
    other = s.trace(2, user_id="bob", observations=(s.retrieval(2, 1, user_id="bob"),))
    s.write(database, s.end(s.trace(1)), s.end(other))
    assert [row["user_id"] for row in s.rows(database, "trace")] == ["bob"]
    assert s.loss(database) == {"stored": 1, "erased": 1}
    s.write(database, s.end(s.trace(1)), s.amend(1, observations=(s.retrieval(1, 4),)))
    assert s.loss(database) == {"stored": 1, "erased": 1}
    assert {key[3] for key in s.summed(database) if key[2] == "user"} == {"bob"}


def test_turns_that_began_after_the_erasure_are_stored(database: Database) -> None:
    _bury(database, user="anna", until_us=s.T0 + 1000)
    s.write(database, s.end(s.trace(1)), s.end(s.trace(2)))
    assert [row["id"] for row in s.rows(database, "trace")] == [s.turn_id(2)]


def test_a_running_turn_whose_user_turns_out_to_be_erased_goes(database: Database) -> None:
    nobody = s.trace(1, user_id=None, observations=(s.retrieval(1, 1, user_id=None),))
    s.write(database, s.start(nobody))
    _bury(database, user="anna")
    s.write(database, s.end(s.trace(1)))
    assert s.rows(database, "trace") == s.rows(database, "observation") == s.rows(database, "content") == []
    assert s.loss(database) == {"erased": 1}


def test_a_stored_turn_that_is_told_an_erased_user_late_goes(database: Database) -> None:
    nobody = s.trace(1, user_id=None, observations=(s.retrieval(1, 1, user_id=None),))
    s.write(database, s.end(nobody))
    _bury(database, user="anna")
    s.write(database, s.amend(1, stated="user_id", user_id="anna"))
    assert s.rows(database, "trace") == s.rows(database, "observation") == s.rows(database, "session") == []
    assert s.loss(database) == {"erased": 1}


def test_an_erased_turn_is_refused_without_being_counted_again(database: Database) -> None:
    _bury(database, turn=s.turn_id(1))
    s.write(database, s.end(s.trace(1)))
    assert s.rows(database, "trace") == []
    assert s.loss(database) == {}


def test_an_observation_of_an_erased_subject_takes_its_turn_with_it(database: Database) -> None:
    _bury(database, user="carl")
    s.write(database, s.end(s.trace(1, observations=(s.retrieval(1, 1, user_id="carl"),))))
    assert s.rows(database, "trace") == []


def test_a_tombstone_names_nobody(database: Database) -> None:
    _bury(database, user="anna")
    (row,) = s.rows(database, "tombstone")
    assert "anna" not in repr(row)
    assert len(row["key"]) == 64


def test_a_writer_that_began_before_an_erasure_is_waited_for(database: Database) -> None:
    """The eraser cannot commit a tombstone between a writer's look at the tombstones and its commit."""
    order: list[str] = []
    has_fence, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with database.write() as connection:
            tombstones.take_fence(connection)
            connection.execute(tables.setting.insert().values(name="x", value="1", updated_at_us=1))
            has_fence.set()
            may_commit.wait(10)
            order.append("writer")

    def erase() -> None:
        with database.write() as connection:
            tombstones.take_fence(connection, exclusive=True)
            order.append("eraser")

    writer, eraser = threading.Thread(target=write), threading.Thread(target=erase)
    writer.start()
    assert has_fence.wait(10)
    eraser.start()
    eraser.join(0.3)
    assert eraser.is_alive()
    may_commit.set()
    writer.join()
    eraser.join()
    assert order == ["writer", "eraser"]
