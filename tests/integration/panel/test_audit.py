"""Who looked at what is written down before it is shown, and can be asked for."""

import html
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest
from sqlalchemy import event, select, update
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.integration.panel.conftest import MOUNT, add_people, context_of, mounted
from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import Visitor
from turntrace.evaluating import workbench
from turntrace.evaluation.queue import Queue, read_questions
from turntrace.keyring import subject_names
from turntrace.panel.gate import witness
from turntrace.storage import audit, migrate, queues, tables
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import list_traces


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a few turns and people, to be copied."""
    path = tmp_path_factory.mktemp("audit") / "turntrace.db"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database)
    add_people(database)
    now_us = time.time_ns() // 1000
    store(database, scene(now_us, turns=8), now_us)
    database.checkpoint()
    database.close()
    return path


@pytest.fixture
def watched(template: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copy(template, tmp_path / "turntrace.db")
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    yield database
    database.close()


def _entries(database: Database, **wanted: Any) -> list[tuple[str, str, str | None]]:
    with database.read() as connection:
        found = audit.list_entries(connection, audit.Wanted(**wanted))
    return [(item.actor, item.action, item.target) for item in reversed(found)]


def _visitor(host: Starlette, role: str) -> Visitor:
    return Visitor(TestClient(host, follow_redirects=False)).log_in(role)


def test_every_look_at_texts_is_written_once_a_minute(watched: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    host = mounted(context_of(watched))
    with watched.read() as connection:
        turn = list_traces(connection, limit=1).items[0]
    reader, viewer = _visitor(host, "reader"), _visitor(host, "viewer")
    pages = ("/", "/traces", "/traces", f"/traces/{turn.id}", f"/traces/{turn.id}?observation=turn", "/cost", "/system")
    pages += (f"/sessions/{turn.session_id}?user_id={turn.user_id}", f"/traces?user_id={turn.user_id}", "/prompts/new")
    for path in pages:
        viewer.get(path)
        reader.get(path)
    reader.get("/traces.csv")
    reader.post("/logout")
    seen = _entries(watched, actor="reader")
    keys = context_of(watched).keyring
    (session,), (user,) = subject_names(keys, turn.session_id or ""), subject_names(keys, turn.user_id or "")
    assert [entry[1:] for entry in seen] == [
        ("login", None),
        ("traces.list", None),
        ("trace.view", turn.id),
        ("session.view", session),
        ("traces.list", user),
        ("page.view", f"/prompts/{subject_names(keys, 'new')[0]}"),
        ("traces.export", "traces.csv"),
        ("logout", None),
    ]
    assert [entry[1] for entry in _entries(watched, actor="viewer")] == ["login"]
    with watched.read() as connection:
        assert audit.broken_at(connection) is None
        rows = connection.execute(select(tables.audit)).all()
    assert turn.user_id not in repr(rows)
    assert turn.session_id not in repr(rows)
    monkeypatch.setattr(witness, "SAME_SECONDS", 0.0)
    again = _visitor(host, "reader")
    again.get("/traces")
    again.get("/traces")
    assert sum(entry[1] == "traces.list" for entry in _entries(watched, actor="reader")) == 4


@pytest.mark.parametrize("person", ["/", "//", "a/", "/a", "a//b", "100%", "☃ ?#&"])
def test_a_look_at_somebody_is_written_under_the_very_id(watched: Database, person: str) -> None:
    now_us = time.time_ns() // 1000
    store(
        watched, [replace(item, user_id=person, session_id=person) for item in scene(now_us, turns=2, seed=5)], now_us
    )
    context = context_of(watched)
    reader = _visitor(mounted(context), "reader")
    for page in ("users", "sessions"):
        assert reader.get(f"/{page}/{quote(person, safe='')}").status_code == 200
    (digest,) = subject_names(context.keyring, person)
    assert [entry[1:] for entry in _entries(watched, actor="reader")][1:] == [
        ("subject.view", digest),
        ("session.view", digest),
    ]


@pytest.mark.parametrize("person", [".", ".."])
def test_a_browser_gets_to_ids_that_it_takes_for_steps_up_the_path(watched: Database, person: str) -> None:
    now_us = time.time_ns() // 1000
    store(
        watched, [replace(item, user_id=person, session_id=person) for item in scene(now_us, turns=2, seed=5)], now_us
    )
    context = context_of(watched)
    reader = _visitor(mounted(context), "reader")
    link = re.compile(rf'<a class="row-link" href="([^"]*)">{re.escape(person)}</a>')
    for page, title in (("users", "User"), ("sessions", "Session")):
        found = link.search(reader.get(f"/{page}").text)
        assert found is not None
        followed = urljoin(f"http://testserver{MOUNT}/{page}", html.unescape(found[1]))
        answer = reader.client.get(followed)
        assert answer.status_code == 200
        assert f"<title>{title}" in answer.text, followed
    (digest,) = subject_names(context.keyring, person)
    assert [entry[1:] for entry in _entries(watched, actor="reader")][1:] == [
        ("subject.view", digest),
        ("session.view", digest),
    ]


def test_texts_in_the_answer_to_a_form_are_written_down_too(watched: Database) -> None:
    context = context_of(watched)
    bench = workbench(context.settings, context.keyring)
    operator = _visitor(mounted(replace(context, workbench=bench)), "operator")
    with watched.read() as connection:
        turn = list_traces(connection, limit=1).items[0]
    now_us = time.time_ns() // 1000
    with watched.write() as connection:
        questions = read_questions(["verdict: good | bad"])
        queue = queues.put(connection, Queue(id="", name="weekly", questions=questions), now_us=now_us)
        queues.fill(connection, queue, [turn.id], now_us=now_us)
        item = queues.claim(connection, queue, "operator", now_us=now_us)
    assert item is not None
    place = f"/queues/{queue.id}/items/{item.id}"
    check = {"kind": "check", "name": "says vinegar", "check": '{"name": "contains", "texts": ["vinegar"]}'}
    rate = {"data_type": "boolean", "score_name": "vinegar", "target": "trace", "sample_rate": "1"}
    (person,) = subject_names(context.keyring, turn.user_id or "")
    looks = {
        "/subjects/rehearse": ({"user_id": turn.user_id or ""}, "subject.view", person),
        "/subjects/erase": ({"user_id": turn.user_id or "", "typed": "another"}, "subject.view", person),
        f"{place}/save": ({}, "page.view", place),
        "/evaluators/preview": (check | rate, "page.view", "/evaluators/preview"),
    }
    for path, (fields, action, target) in looks.items():
        before = _entries(watched, actor="operator")
        answer = operator.post(path, **fields)
        assert "descale" in answer.text or "turn-link" in answer.text, path
        assert ("operator", action, target) in _entries(watched, actor="operator")[len(before) :], path


def test_nothing_is_shown_that_cannot_be_written_down(watched: Database) -> None:
    host = mounted(context_of(watched))
    reader = _visitor(host, "reader")

    def refuse(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO turntrace_audit"):
            raise OSError("no space left on device")

    event.listen(watched.engine, "before_cursor_execute", refuse)
    try:
        answer = reader.get("/traces")
        assert answer.status_code == 500
        assert "descale" not in answer.text
        assert reader.get("/cost").status_code == 200
    finally:
        event.remove(watched.engine, "before_cursor_execute", refuse)
    assert reader.get("/traces").status_code == 200


def test_the_page_filters_and_tells_a_broken_chain(watched: Database) -> None:
    host = mounted(context_of(watched))
    reader, operator = _visitor(host, "reader"), _visitor(host, "operator")
    with watched.read() as connection:
        turn = list_traces(connection, limit=1).items[0]
    reader.get(f"/sessions/{turn.session_id}?user_id={turn.user_id}")
    reader.get(f"/traces/{turn.id}")
    assert reader.get("/audit").status_code == 403
    assert ">trace.view<" in operator.get("/audit").text
    assert ">trace.view<" not in operator.get("/audit?action=login").text
    about = operator.get(f"/audit?about={turn.session_id}").text
    assert ">session.view<" in about
    assert ">trace.view<" not in about
    assert turn.id in operator.get(f"/audit?about={turn.id}&actor=reader").text
    assert "Nothing was done" in operator.get("/audit?actor=nobody").text
    assert "The chain holds" in operator.get("/audit?check=1").text
    for before in ("x", "²", "9" * 30):
        assert operator.get(f"/audit?before={before}").status_code == 400
    with watched.write() as connection:
        connection.execute(update(tables.audit).where(tables.audit.c.action == "trace.view").values(actor="somebody"))
    assert "The chain breaks at row" in operator.get("/audit?check=1").text


def test_long_logs_come_in_pages(watched: Database) -> None:
    host = mounted(context_of(watched))
    admin = _visitor(host, "admin")
    with watched.write() as connection:
        for number in range(230):
            audit.append(connection, actor=f"a{number}", action="login", now_us=number)
    pages = [admin.get("/audit?action=login").text]
    while 'rel="next"' in pages[-1]:
        older = pages[-1].split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
        pages.append(admin.get(older.removeprefix(MOUNT)).text)
    assert len(pages) == 3
    assert all(sum(f">a{number}<" in page for page in pages) == 1 for number in range(230))


def test_the_hosts_people_are_logged_in_once(watched: Database) -> None:
    host = mounted(context_of(watched, panel_auth=lambda _: {"name": "eva", "role": "reader"}))
    with TestClient(host, follow_redirects=False) as client:
        for _ in range(3):
            assert client.get(f"{MOUNT}/cost").status_code == 200
    assert _entries(watched) == [("eva", "login", None)]
