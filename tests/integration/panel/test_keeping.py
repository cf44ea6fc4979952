"""What people leave on the trace pages: views of the list, and remarks on turns."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import Visitor
from turntrace.storage import comments, migrate
from turntrace.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(made)
    add_people(made)
    now_us = time.time_ns() // 1000
    store(made, scene(now_us, turns=12), now_us)
    yield made
    made.close()


def person(database: Database, name: str) -> Visitor:
    context = replace(context_of(database), redact_text=lambda text: text.replace("Anna", "<PERSON>"))
    return Visitor(TestClient(mounted(context), follow_redirects=False)).log_in(name)


def views_on(visitor: Visitor) -> dict[str, str]:
    """Names and addresses of the saved views that the trace list offers."""
    page = visitor.get("/traces").text
    listed = re.search(r'<ul class="menu-list kept">(.*?)</ul>', page, re.DOTALL)
    found = re.findall(r'<li><a href="([^"]+)">([^<]+)', listed[1]) if listed else []
    return {name.strip(): href.replace("&amp;", "&") for href, name in found}


def test_a_view_is_kept_opened_and_forgotten(database: Database) -> None:
    reader = person(database, "reader")
    query = "status=error&feature=support&cursor=stale&nothing=at+all"
    saved = reader.post("/views", name="failed support", query=query, next="/llm-admin/traces?status=error")
    assert saved.headers["location"] == "/llm-admin/traces?status=error"
    assert views_on(reader) == {"failed support": "/llm-admin/traces?status=error&feature=support"}
    reader.post("/views", name="failed support", query="status=error")
    assert views_on(reader) == {"failed support": "/llm-admin/traces?status=error"}
    assert views_on(person(database, "operator")) == {}
    view = re.search(r'name="id" value="([0-9a-f]{32})"', reader.get("/traces").text)
    assert view is not None
    assert person(database, "operator").post("/views/remove", id=view[1]).status_code == 404
    reader.post("/views/remove", id=view[1])
    assert views_on(reader) == {}


def test_a_shared_view_is_everybodys_but_what_people_search_for_is_no_number(database: Database) -> None:
    operator = person(database, "operator")
    operator.post("/views", name="slow", query="min_duration_ms=900", is_shared="1")
    operator.post("/views", name="kettles", query="q=kettle", is_shared="1")
    assert set(views_on(person(database, "reader"))) == {"slow", "kettles"}
    assert set(views_on(person(database, "viewer"))) == {"slow"}


@pytest.mark.parametrize(("name", "query"), [("", "status=error"), ("all", ""), ("x" * 101, "status=error")])
def test_a_view_that_cannot_be_kept_is_refused(database: Database, name: str, query: str) -> None:
    assert person(database, "reader").post("/views", name=name, query=query).status_code == 400


def a_turn(visitor: Visitor) -> str:
    found = re.search(r"/traces/([0-9a-f]{32})", visitor.get("/traces").text)
    assert found is not None
    return found[1]


def test_a_remark_stands_on_its_turn_redacted_until_it_is_taken_back(database: Database) -> None:
    annotator, reader = person(database, "annotator"), person(database, "reader")
    turn = a_turn(reader)
    annotator.post("/comments", target=turn, text="Anna asked twice")
    page = f"/traces/{turn}?observation=turn"
    assert "asked twice" in reader.get(page).text
    with database.read() as connection:
        (stored,) = comments.of_turn(connection, turn)
    assert (stored.text, stored.author) == ("<PERSON> asked twice", "annotator")
    assert stored.quote is None
    annotator.post("/comments", target=turn, text="Not so", quote=" Anna said:  four\nweeks ")
    with database.read() as connection:
        anchored = comments.of_turn(connection, turn)[-1]
    assert anchored.quote == "<PERSON> said: four weeks"
    annotator.post("/comments", target=turn, text="Not so either", quote="every four-week period")
    assert 'href="#:~:text=every%20four%2Dweek%20period"' in reader.get(page).text
    assert reader.post("/comments", target=turn, text="me too").status_code == 403
    assert "asked twice" not in person(database, "viewer").get(page).text
    assert person(database, "operator").post("/comments/remove", id=stored.id).status_code == 404
    annotator.post("/comments/remove", id=stored.id)
    assert "asked twice" not in reader.get(page).text


def test_a_remark_without_words_or_turn_is_refused(database: Database) -> None:
    annotator = person(database, "annotator")
    assert annotator.post("/comments", target=a_turn(annotator), text=" ").status_code == 400
    assert annotator.post("/comments", target="f" * 32, text="lost").status_code == 404
