"""Stores that refuse, lose blobs or are slow: no turn is lost over it, no text strays, no blob is forgotten."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stored as s
import test_storage_residence as r
from sqlalchemy import URL, create_engine, select, text
from test_storage_residence import CANARY, EU, late, told

from turntrace import failpoint
from turntrace.errors import DatabaseUnavailable, SchemaOutOfDate
from turntrace.jobs.stores import empty
from turntrace.records.batch import Batch
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import ErrorInfo
from turntrace.storage import content, migrate, residence, strays, tables
from turntrace.storage.database import Database
from turntrace.storage.queries.opened import UNREADABLE
from turntrace.storage.queries.traces import by_ids
from turntrace.storage.staging import LOST, Staging
from turntrace.storage.tables.residence import blob
from turntrace.worker.delivery import Delivery


@pytest.fixture
def main(database: Database, store_url: URL) -> Iterator[Database]:
    """A main database whose content of one environment lies elsewhere."""
    found = r._opened(database, store_url)
    migrate.make_stores(found)
    yield found
    found.close()


@pytest.fixture
def refusing(main: Database) -> Iterator[Database]:
    """The same, and its store can be read only: a standby, whose errors are of no connection."""
    store = main.stores[EU]
    if store.dialect != "postgresql":
        pytest.skip("no PostgreSQL, which knows standbys")
    _read_only(store, True)
    yield main
    _read_only(store, False)


def _read_only(store: Database, is_it: bool) -> None:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        state = "on" if is_it else "off"
        c.execute(text(f"ALTER DATABASE {store.url.database} SET default_transaction_read_only = {state}"))
    store.close()


def delivered(main: Database, *worked: Any, on_error: Any) -> None:
    """Deliver as the worker does."""
    delivery = Delivery(main, wall=lambda: s.NOW, tell=on_error)
    delivery.deliver(Batch(worked=worked), threading.Event())


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)  # whose store lies in PostgreSQL
def test_a_store_that_refuses_is_waited_for(refusing: Database) -> None:
    told_of = []

    def tell(error: Exception) -> None:
        told_of.append(type(error))
        _read_only(refusing.stores[EU], False)

    delivered(refusing, s.end(told(1)), on_error=tell)
    assert told_of == [DatabaseUnavailable]
    assert s.loss(refusing) == {"stored": 1}
    assert r.read(refusing).output == f"{CANARY} output"


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)  # whose store lies in PostgreSQL
def test_a_store_that_refuses_keeps_what_is_to_go_waiting(refusing: Database) -> None:
    store = refusing.stores[EU]
    _read_only(store, False)
    s.write(refusing, s.start(told(1)), s.end(told(2)))
    s.write(refusing, s.end(told(1)))
    _read_only(store, True)
    assert empty(refusing) == {"gone": 0, "left": 1}
    assert not r.erase(refusing).is_finished
    _read_only(store, False)
    assert empty(refusing)["left"] == 0


def _lose(main: Database) -> None:
    with main.stores[EU].write() as c:
        c.execute(blob.delete())


def test_a_late_fragment_joins_a_turn_whose_blob_is_gone(main: Database) -> None:
    s.write(main, s.end(told(1)))
    _lose(main)
    delivered(main, late(1, "output", output=f"{CANARY} late"), on_error=_fail)
    found = r.read(main)
    assert (found.input, found.output, LOST in found.flags) == (None, f"{CANARY} late", True)
    assert UNREADABLE not in found.flags
    assert s.loss(main) == {"stored": 1}
    empty(main)
    assert (r.blobs(main), s.rows(main, "stray")) == ([s.turn_id(1)], [])


def test_an_end_replaces_a_late_fragment_whose_blob_is_gone(main: Database) -> None:
    s.write(main, late(1, observations=(s.generation(1, 7, output=f"{CANARY} step"),)))
    _lose(main)
    delivered(main, s.end(told(1)), on_error=_fail)
    found = r.read(main)
    assert (found.output, LOST in found.flags) == (f"{CANARY} output", True)
    assert [item.output for item in found.observations if item.span_id == s.span_id(7)] == [None]
    assert s.loss(main) == {"stored": 1}


def test_many_ends_that_come_after_their_late_fragments_are_one_batch(
    main: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = range(1, 31)
    s.write(main, *(late(turn, observations=(s.generation(turn, 7, output=f"{CANARY} early"),)) for turn in turns))
    whole, asked = residence.blobs, []
    monkeypatch.setattr(residence, "blobs", lambda *given: asked.append(True) or whole(*given))
    s.write(main, *(s.end(told(turn)) for turn in turns))
    assert len(asked) <= 3  # whatever their number
    found = [r.read(main, turn) for turn in turns]
    assert {trace.output for trace in found} == {f"{CANARY} output"}
    assert {item.output for trace in found for item in trace.observations if item.span_id == s.span_id(7)} == {
        f"{CANARY} early"
    }
    assert s.loss(main) == {"stored": 30}


@pytest.mark.parametrize("pointer", [b"{", b"[]", b'{"store": "production-eu"}', b"\xff"])
def test_a_damaged_pointer_is_a_flag_and_the_others_are_followed(main: Database, pointer: bytes) -> None:
    s.write(main, s.end(told(1)), s.end(told(2)))
    with main.write() as c:
        c.execute(tables.content.update().where(tables.content.c.turn_id == s.turn_id(1)).values(data=pointer))
    for is_strict in (False, True):
        with main.read() as c:
            found = by_ids(c, [s.turn_id(1), s.turn_id(2)], is_strict=is_strict)
        damaged, whole = found[s.turn_id(1)], found[s.turn_id(2)]
        assert (damaged.input, damaged.output, UNREADABLE in damaged.flags) == (None, None, True)
        assert (whole.output, UNREADABLE in whole.flags) == (f"{CANARY} output", False)


def _fail(error: Exception) -> None:
    raise AssertionError("refused") from error


def test_a_blob_that_was_replaced_meanwhile_is_not_taken_for_lost(
    main: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    s.write(main, s.end(told(1)))
    whole, asked = residence.blobs, []

    def overtaken(store: Database, blob_ids: Any) -> Any:
        if not asked:
            asked.append(True)
            s.write(main, late(1, "input", input=f"{CANARY} other"))
            empty(main)
        return whole(store, blob_ids)

    monkeypatch.setattr(residence, "blobs", overtaken)
    s.write(main, late(1, "output", output=f"{CANARY} late"))
    found = r.read(main)
    assert (found.input, found.output, found.flags) == (f"{CANARY} other", f"{CANARY} late", ())


def test_a_worker_without_the_setting_waits(main: Database, database: Database) -> None:
    s.write(main, s.end(told(1)))
    other = Database(database.url)
    other.stores = {"staging": main.stores[EU]}
    for each in (database, other):
        with pytest.raises(DatabaseUnavailable):
            s.write(each, late(1, "output", output=f"{CANARY} late"))
    other.close()
    s.write(main, late(1, "output", output=f"{CANARY} late"))
    assert r.read(main).output == f"{CANARY} late"


def test_a_step_that_joins_before_its_turn_moves_takes_its_messages_along(main: Database) -> None:
    s.write(main, s.end(told(1, environment="production", observations=(), error=None)))
    error = ErrorInfo(type="Late", message=f"{CANARY} message")
    step = s.generation(1, 7, error=error, status="error", status_message=f"{CANARY}!")
    s.write(main, late(1, observations=(step,), environment="production"), late(1, "environment", environment=EU))
    assert CANARY not in r.held(main)
    found = r.read(main)
    assert (found.environment, found.observations[0].error) == (EU, error)
    assert found.observations[0].status_message == f"{CANARY}!"


def test_a_pointer_that_is_replaced_while_its_rows_are_deleted_is_not_forgotten(main: Database) -> None:
    """Two writers of one turn: the second waits for the first, and deletes what that has made of it, or nothing."""
    s.write(main, s.end(told(1), kind=FrameKind.OTLP))
    second: list[threading.Thread] = []

    def replace(connection: Any) -> None:
        strays.drop_contents(connection, [s.turn_id(1)])
        data = residence.Pointer(EU, "f" * 32).written()
        content.insert(connection, [(s.turn_id(1), int(content.Codec.STORE), None, 2, data)])
        second.append(threading.Thread(target=main.transact, args=(strays.drop_contents, [s.turn_id(1)])))
        second[0].start()
        _wait_until_it_waits(main)

    with main.stores[EU].write() as c:
        c.execute(blob.insert().values(id="f" * 32, turn_id=s.turn_id(1), codec=0, size=2, data=b"{}"))
    main.transact(replace)
    second[0].join()
    known = {row["blob_id"] for row in s.rows(main, "stray")}
    known |= {residence.Pointer.read(row["data"]).blob_id for row in s.rows(main, "content")}
    with main.stores[EU].read() as c:
        assert known == set(c.execute(select(blob.c.id)).scalars())


_WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
    "ON id = trx_mysql_thread_id WHERE db = DATABASE() AND trx_state = 'LOCK WAIT'",
}


def _wait_until_it_waits(main: Database) -> None:
    if main.dialect == "sqlite":
        return  # it waits at its beginning already
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with main.engine.connect() as c:
            if c.execute(text(_WAITING[main.dialect])).scalar_one():
                return
        threading.Event().wait(0.2)  # MariaDB shows the same table for a tenth of a second after it was read
    raise AssertionError("nobody waits")


@pytest.fixture
def two(main: Database, tmp_path: Path) -> Database:
    """A main database with a second store, of the name that comes last, which has no table."""
    stores: Any = main.stores
    stores["staging"] = Database(f"sqlite:///{tmp_path / 'second.db'}")
    return main


def test_what_a_healthy_store_took_goes_when_another_refuses(two: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residence, "look", lambda _: None)  # it breaks down after it was looked at
    for _ in range(3):
        with pytest.raises(SchemaOutOfDate):
            s.write(two, s.end(told(1)), s.end(told(2, environment="staging")))
    assert {(row["store"], bool(row["is_staged"])) for row in s.rows(two, "stray")} == {(EU, False)}
    migrate.make_stores(two)
    s.write(two, s.end(told(1)), s.end(told(2, environment="staging")))
    assert empty(two) == {"gone": 3, "left": 0}
    assert (r.blobs(two), s.rows(two, "stray")) == ([s.turn_id(1)], [])


def test_what_no_store_was_asked_to_take_is_forgotten_at_once(two: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residence, "look", lambda _: None)
    two.stores["staging"].close()
    with r.Away(two), pytest.raises(DatabaseUnavailable):
        s.write(two, s.end(told(1)), s.end(told(2, environment="staging")))
    assert {row["store"] for row in s.rows(two, "stray")} <= {EU}


@pytest.mark.parametrize("point", ["residence.after_stage", "residence.after_write"])
def test_a_blob_whose_time_had_lapsed_is_not_forgotten(
    main: Database, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lapsed: list[Any] = []

    def lapse(name: str) -> None:
        if name == point and not lapsed:
            lapsed.append(empty(main, now_us=s.rows(main, "stray")[0]["at_us"] + strays.LAPSE_US + 1))

    monkeypatch.setattr("turntrace.storage.staging.reach", lapse)
    with pytest.raises(DatabaseUnavailable):
        s.write(main, s.end(told(1)))
    s.write(main, s.end(told(1)))
    empty(main)
    assert (r.blobs(main), s.rows(main, "stray")) == ([s.turn_id(1)], [])
    assert r.read(main).output == f"{CANARY} output"


def test_nothing_is_written_long_after_it_was_staged(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    moments = iter([begin, begin + strays.LAPSE_US / 1e6])
    monkeypatch.setattr("turntrace.storage.staging.time", SimpleNamespace(monotonic=lambda: next(moments)))
    with pytest.raises(DatabaseUnavailable):
        s.write(main, s.end(told(1)))
    assert (r.blobs(main), s.rows(main, "stray")) == ([], [])


def test_staged_blobs_are_dated_by_the_clock_of_the_database(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Staging, "abandon", lambda _: None)
    failpoint.activate("residence.after_write=raise")
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time_ns", lambda: 0)  # a host whose clock is wrong
        with pytest.raises(failpoint.FailPointReached):
            s.write(main, s.end(told(1)))
    failpoint.activate("")
    assert empty(main) == {"gone": 0, "left": 0}
    assert len(r.blobs(main)) == 1


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)  # where others write meanwhile
def test_an_erasure_of_the_hosts_sees_what_is_staged_now(main: Database) -> None:
    """Its transaction began before: under REPEATABLE READ (MariaDB) a plain read sees that moment."""
    engine = create_engine(main.url)
    try:
        with engine.connect() as connection:
            assert connection.execute(select(tables.stray)).all() == []
            pointer = residence.Pointer(EU, "f" * 32)
            main.transact(strays.put, [(s.turn_id(1), pointer)], is_staged=True, at_us=0)
            assert strays.staged(connection) == [pointer.blob_id]
    finally:
        engine.dispose()
