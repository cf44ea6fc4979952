"""A user's page: facts, a copy, erasure by people who may, and receipts that name nobody."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import Visitor
from turntrace.records.filter import TraceFilter
from turntrace.storage import audit, migrate
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import list_traces

USER = "user-3"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(found)
    add_people(found)
    now_us = time.time_ns() // 1000
    store(found, scene(now_us, turns=60), now_us)
    yield found
    found.close()


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    context = context_of(database)
    context = replace(context, export_subject=lambda ids, is_zip: iter([repr((ids[0], is_zip)).encode()]))
    with TestClient(mounted(context), follow_redirects=False) as found:
        yield found


def _names(database: Database) -> str:
    with database.read() as connection:
        return repr(audit.list_entries(connection))


def test_an_operator_erases_a_person_after_typing_their_id(client: TestClient, database: Database) -> None:
    operator = Visitor(client).log_in("operator")
    page = operator.get(f"/users/{USER}")
    assert page.status_code == 200
    assert "Erase for good" in page.text
    counted = operator.post("/subjects/rehearse", user_id=USER)
    assert "Rows that would go now" in counted.text
    refused = operator.post("/subjects/erase", user_id=USER, typed="user-4")
    assert refused.status_code == 400
    assert "Nothing was erased" in refused.text
    assert operator.get(f"/users/{USER}").status_code == 200
    done = operator.post("/subjects/erase", user_id=USER, typed=USER)
    assert done.status_code == 303
    path = done.headers["location"].removeprefix("/llm-admin")
    receipt = operator.get(path)
    assert "Every row is gone" in receipt.text
    assert USER not in receipt.text
    document = json.loads(operator.get(f"{path}.json").text)
    assert document["counts"]["trace"] > 0
    assert document["verification"]["physical"] == "done"
    assert document["id"][:12] in operator.get("/erasures").text
    assert operator.get(f"/users/{USER}").status_code == 404
    assert USER not in _names(database)


def test_a_copy_is_audited(client: TestClient, database: Database) -> None:
    operator = Visitor(client).log_in("operator")
    answer = operator.post("/subjects/export", user_id=USER, format="zip")
    assert answer.text == f"('{USER}', True)"
    assert answer.headers["content-disposition"] == 'attachment; filename="subject.zip"'
    assert "subject.export" in _names(database)
    assert USER not in _names(database)


@pytest.mark.parametrize("role", ["viewer", "reader", "annotator"])
def test_others_see_the_person_and_may_do_neither(client: TestClient, role: str) -> None:
    person = Visitor(client).log_in(role)
    page = person.get(f"/users/{USER}")
    assert page.status_code == 200
    assert "Erase for good" not in page.text
    assert ("descale" in page.text) == (role != "viewer")
    for path in ("/subjects/rehearse", "/subjects/erase", "/subjects/export"):
        assert person.post(path, user_id=USER, typed=USER).status_code == 403
    assert person.get("/erasures").status_code == 403
    assert person.get(f"/users/{USER}").status_code == 200


def test_the_forms_want_our_token(client: TestClient) -> None:
    operator = Visitor(client).log_in("operator")
    for path in ("/subjects/rehearse", "/subjects/erase", "/subjects/export"):
        assert operator.post(path, token="0" * 64, user_id=USER, typed=USER).status_code == 403
    assert operator.get(f"/users/{USER}").status_code == 200


def test_a_turn_and_a_conversation_are_erased_after_typing_the_word(client: TestClient, database: Database) -> None:
    operator = Visitor(client).log_in("operator")
    with database.read() as connection:
        found = list_traces(connection, TraceFilter(user_id=USER), limit=50).items
    turn, session_id = found[0], found[0].session_id
    assert session_id is not None
    page = operator.get(f"/traces/{turn.id}?observation=turn")
    assert "Erase this turn" in page.text
    assert operator.post("/subjects/turn", turn_id=turn.id, typed="yes").status_code == 400
    assert operator.get(f"/traces/{turn.id}").status_code == 200
    assert operator.post("/subjects/turn", turn_id=turn.id, typed="erase").status_code == 303
    assert operator.get(f"/traces/{turn.id}").status_code == 404
    assert "Erase this conversation" in operator.get(f"/sessions/{session_id}").text
    done = operator.post("/subjects/session", session_id=session_id, user_id=USER, typed="erase")
    receipt = operator.get(done.headers["location"].removeprefix("/llm-admin"))
    assert "Erasure of a conversation" in receipt.text
    assert operator.get(f"/sessions/{session_id}").status_code == 404
    reader = Visitor(client).log_in("reader")
    assert reader.post("/subjects/turn", turn_id=found[-1].id, typed="erase").status_code == 403
    assert reader.post("/subjects/session", session_id="x", typed="erase").status_code == 403
