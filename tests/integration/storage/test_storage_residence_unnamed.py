"""Content in stores that the settings do not name any more: who must have all of it waits, the others go on."""

import time
from collections.abc import Iterator

import pytest
import stored as s
import test_storage_residence as r
from sqlalchemy import URL, text
from test_storage_residence import CANARY, EU, late, told

from turntrace.api import portability
from turntrace.doctor import examine
from turntrace.errors import DatabaseUnavailable, TurntraceError
from turntrace.jobs import erase as job
from turntrace.settings import Settings
from turntrace.storage import bulk, migrate, residence, strays
from turntrace.storage.database import Database
from turntrace.storage.queries.opened import UNREADABLE
from turntrace.storage.queries.traces import by_ids


@pytest.fixture
def main(database: Database, store_url: URL) -> Iterator[Database]:
    """A main database whose content of one environment lies elsewhere."""
    found = r._opened(database, store_url)
    migrate.make_stores(found)
    yield found
    found.close()


def test_who_must_have_all_texts_gets_none_of_a_store_that_is_not_named(main: Database, database: Database) -> None:
    s.write(main, s.end(told(1)))
    with database.read() as c:  # opened without the setting
        assert UNREADABLE in by_ids(c, [s.turn_id(1)])[s.turn_id(1)].flags
        with pytest.raises(DatabaseUnavailable, match=f"{EU}, which content_urls does not name"):
            by_ids(c, [s.turn_id(1)], is_strict=True)
    with pytest.raises(DatabaseUnavailable):
        list(portability.records(database, ("anna",)))
    assert f"{CANARY} said" in str(list(portability.records(main, ("anna",))))


def test_an_erasure_waits_only_for_stores_that_have_something_of_the_person(main: Database, database: Database) -> None:
    s.write(main, s.end(told(1, user_id="bob", observations=())), s.end(s.trace(2, environment="staging")))
    s.write(main, late(1, "output", output="another"))  # what was there before is to go
    assert len(s.rows(main, "stray")) == 1
    with r.Away(main):
        assert job.erase_at_once(main, r.ANNA, r.RING, actor="test").is_finished
    s.write(main, s.end(s.trace(3, environment="staging")))
    assert job.erase_at_once(database, r.ANNA, r.RING, actor="test").is_finished  # the setting was taken away
    assert len(r.blobs(main)) == 2


def test_an_erasure_waits_for_a_store_of_the_person_that_is_not_named(main: Database, database: Database) -> None:
    s.write(main, s.end(told(1)))
    assert not job.erase_at_once(database, r.ANNA, r.RING, actor="test").is_finished
    (said,) = [found for found in examine(Settings(database_url=r._text(main.url))) if "content of" in found.text]
    assert (said.level, EU in said.text) == ("error", True)
    assert job.erase(main, keys=r.RING) == {"finished": 1, "left": 0}
    assert r.blobs(main) == []


def test_an_erasure_leaves_off_at_a_store_past_its_deadline(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "AT_ONCE", 1)
    turns = [s.turn_id(number) for number in (1, 2, 3)]
    s.write(main, *(s.end(told(number)) for number in (1, 2, 3)))
    s.write(main, *(late(number, "output", output="another") for number in (1, 2, 3)))
    assert len(r.blobs(main)) == 6
    assert not strays.clear(main, turns, [], deadline=time.monotonic() - 1)
    assert len(r.blobs(main)) == 4  # some of it is done each time
    assert strays.clear(main, turns, [], deadline=time.monotonic() + 60)
    assert (r.blobs(main), s.rows(main, "stray")) == ([], [])


def test_a_revision_that_knows_of_no_stores_is_refused_while_they_hold_something(main: Database) -> None:
    s.write(main, s.end(told(1)))
    with pytest.raises(TurntraceError, match="turntrace_content has rows"):
        migrate.downgrade(main, "0010")
    with main.write() as c:
        strays.put(c, [(s.turn_id(2), residence.Pointer(EU, "f" * 32))], is_staged=False, at_us=0)
    with pytest.raises(TurntraceError, match="turntrace_stray has rows"):
        migrate.downgrade(main, "0010")
    assert migrate.current(main) == migrate.HEAD
    assert (len(s.rows(main, "stray")), len(r.blobs(main))) == (1, 1)
    assert migrate.downgrade(main, "base") is None  # with the stores


def test_an_empty_outbox_goes_with_its_revision(main: Database) -> None:
    assert migrate.downgrade(main, "0010") == "0010"
    assert migrate.upgrade(main) == migrate.HEAD


def test_the_sql_tells_what_is_made_in_stores(main: Database) -> None:
    assert "-- CREATE TABLE turntrace_blob" in migrate.sql(main)
    assert "\nCREATE TABLE turntrace_blob" not in migrate.sql(main)


def test_what_is_to_go_is_found_by_an_index(main: Database) -> None:
    with main.read() as c:
        statement = strays.to_go(EU, after="0").compile(c, compile_kwargs={"literal_binds": True})
        bulk.go_by_index(c)
        plan_of = "QUERY PLAN" if main.dialect == "sqlite" else ""
        plan = str(c.execute(text(f"EXPLAIN {plan_of} {statement}")).all())
    assert "ix_turntrace_stray_store" in plan
    assert not any(word in plan for word in ("filesort", "Sort", "TEMP B-TREE"))
