"""`tt.privacy` as the host's own code calls it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tests.integration.turns import store, turn
from turntrace import Turntrace, cli
from turntrace.errors import NotFound, SchemaOutOfDate
from turntrace.jobs.subject import stored_ids
from turntrace.keyring import KeyRing
from turntrace.storage.database import Database

KEY = "0123456789abcdef" * 4


def users(database: Database) -> list[str]:
    with database.read() as connection:
        rows = connection.execute(text("SELECT user_id FROM turntrace_trace ORDER BY user_id"))
        return [row[0] for row in rows]


@pytest.fixture
def tt(database: Database, tmp_path: Path) -> Iterator[Turntrace]:
    """A host's Turntrace over a database with turns of anna and bob."""
    url = database.url.render_as_string(hide_password=False)
    made = Turntrace(url, worker="external", secret_key=KEY, spool_dir=str(tmp_path / "spool"))
    store(database, turn(user_id="anna", session_id="a"), turn(user_id="bob", session_id="b"))
    yield made
    made.shutdown()


def test_a_person_is_erased_and_the_receipt_checked(tt: Turntrace, database: Database) -> None:
    dry = tt.privacy.erase_subject("anna", dry_run=True)
    assert (dry.id, dry["counts"]["trace"]) == (None, 1)
    assert users(database) == ["anna", "bob"]
    receipt = tt.privacy.erase_subject("anna")
    assert users(database) == ["bob"]
    assert receipt.is_finished
    assert tt.privacy.is_valid(receipt)
    assert tt.privacy.receipt(str(receipt.id)) == receipt
    assert not tt.privacy.is_valid({**receipt.document(), "counts": {"trace": 9}})


def test_the_hosts_own_transaction_decides(tt: Turntrace, database: Database) -> None:
    engine = create_engine(database.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customer (id VARCHAR(20))"))
        connection.execute(text("INSERT INTO customer VALUES ('anna')"))
    with engine.connect() as connection:
        connection.execute(text("DELETE FROM customer"))
        assert tt.privacy.erase_subject("anna", connection=connection)["counts"]["trace"] == 1
        connection.rollback()
    assert users(database) == ["anna", "bob"]
    with Session(engine) as session, session.begin():
        session.execute(text("DELETE FROM customer"))
        receipt = tt.privacy.erase_subject("anna", connection=session)
        assert receipt["finished_at"] is None
    assert users(database) == ["bob"]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE customer"))
    engine.dispose()


def test_turns_and_sessions_are_erased_and_unknown_ones_said(tt: Turntrace, database: Database) -> None:
    assert tt.privacy.erase_session("a").counts["trace"] == 1
    with pytest.raises(NotFound):
        tt.privacy.erase_session("a")
    with pytest.raises(NotFound):
        tt.privacy.erase_trace("0" * 32)
    assert users(database) == ["bob"]


def test_a_copy_of_everything(tt: Turntrace) -> None:
    found = list(tt.privacy.export_subject("anna"))
    assert [record["record"] for record in found] == ["manifest", "trace", "session", "end"]
    assert found[-1] == {"record": "end", "is_complete": True, "traces": 1, "unreadable_traces": 0}
    assert found[1]["user_id"] == "anna"


def test_a_person_is_found_under_their_pseudonym(tt: Turntrace, database: Database) -> None:
    plain, *hashed = stored_ids(KeyRing.from_settings(tt.settings, None), "anna")
    assert plain == "anna"
    store(database, turn(user_id=hashed[0], session_id="h"))
    assert tt.privacy.erase_subject("anna").counts["trace"] == 2
    assert users(database) == ["bob"]


def test_a_suppression_can_be_lifted(tt: Turntrace, database: Database) -> None:
    tt.privacy.erase_subject("anna", suppress=True)
    store(database, turn(user_id="anna", started_at_us=time.time_ns() // 1000))
    assert users(database) == ["bob"]
    assert tt.privacy.lift_suppression("anna")
    assert not tt.privacy.lift_suppression("anna")
    store(database, turn(user_id="anna"), turn(user_id="anna", started_at_us=time.time_ns() // 1000 + 1))
    assert users(database) == ["anna", "bob"]


def test_a_connection_to_another_database_is_refused(tt: Turntrace, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.connect() as connection, pytest.raises(SchemaOutOfDate, match="connection"):
        tt.privacy.erase_subject("anna", connection=connection)
    engine.dispose()


def test_the_command_line_erases_and_verifies(
    tt: Turntrace, database: Database, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("TURNTRACE_SECRET_KEY", KEY)
    monkeypatch.setenv("TURNTRACE_SPOOL_DIR", str(tmp_path / "spool"))
    url = ["--database-url", database.url.render_as_string(hide_password=False)]
    assert cli.main(["erase", "anna", "--dry-run", *url]) == 0
    assert capsys.readouterr().out.startswith("would erase: ")
    assert users(database) == ["anna", "bob"]
    assert cli.main(["erase", "anna", "--json", *url]) == 0
    receipt = capsys.readouterr().out
    assert users(database) == ["bob"]
    kept = tmp_path / "receipt.json"
    kept.write_text(receipt)
    assert cli.main(["erase", "--verify", str(kept), *url]) == 0
    assert cli.main(["erase", "--receipt", json.loads(receipt)["id"], "--json", *url]) == 0
    capsys.readouterr()
    kept.write_text(receipt.replace('"trace": 1', '"trace": 2'))
    assert cli.main(["erase", "--verify", str(kept), *url]) == 1
    assert cli.main(["erase", *url]) == 1
    assert "name one of" in capsys.readouterr().err


def test_what_a_hosts_transaction_began_is_finished_in_memory_too(tmp_path: Path) -> None:
    """No file, no worker process: the worker's thread has the timer."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    tt = Turntrace(engine=engine, secret_key=KEY, spool_dir=str(tmp_path / "spool"), redaction="off", content="full")
    with tt.turn("chat", user_id="anna"):
        tt.update_trace(input="hello")
    assert tt.flush(30)
    with engine.connect() as connection:
        receipt = tt.privacy.erase_subject("anna", connection=connection)
        connection.commit()
    assert receipt["counts"]["trace"] == 1
    deadline = time.monotonic() + 60
    while not tt.privacy.receipt(str(receipt.id)).is_finished:
        assert time.monotonic() < deadline, "the timer did not finish the erasure"
        time.sleep(0.1)
    assert tt.privacy.is_valid(tt.privacy.receipt(str(receipt.id)))
    tt.shutdown()
    engine.dispose()
