"""Review in the panel: operators make and fill queues, annotators answer, everybody else stays out."""

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
from turntrace.storage import migrate
from turntrace.storage.database import Database
from turntrace.storage.queries.scores import ScoreFilter, list_scores

FORM = {
    "name": "weekly read",
    "instructions": "Read the whole answer.",
    "questions": "verdict: good | bad | unsure\non topic: yes/no\nbetter answer: correction",
    "reviewers": "1",
    "daily": "0",
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(made)
    add_people(made)
    now_us = time.time_ns() // 1000
    store(made, scene(now_us, turns=30), now_us)
    yield made
    made.close()


def person(database: Database, name: str) -> Visitor:
    context = replace(context_of(database), redact_text=lambda text: text.replace("Anna", "<PERSON>"))
    return Visitor(TestClient(mounted(context), follow_redirects=False)).log_in(name)


def made_by(operator: Visitor, **fields: str) -> str:
    answer = operator.post("/queues/save", **{**FORM, **fields})
    assert answer.status_code == 303, answer.text
    found = re.search(r"/queues/([0-9a-f]{32})", answer.headers["location"])
    assert found is not None
    return found[1]


def next_item(visitor: Visitor, queue: str) -> str:
    answer = visitor.post(f"/queues/{queue}/next")
    assert answer.status_code == 303
    return answer.headers["location"].removeprefix("/llm-admin")


def test_a_queue_is_made_filled_and_worked_through(database: Database) -> None:
    operator, annotator = person(database, "operator"), person(database, "annotator")
    queue = made_by(operator)
    assert "turns match" in operator.get("/queues/fill").text
    operator.post("/queues/fill", queue=queue, number="3")
    page = next_item(annotator, queue)
    shown = annotator.get(page).text
    assert "Read the whole answer." in shown
    assert "0 of 3 reviewed" in shown
    fields = {"answer-0": "bad", "answer-1": "no", "answer-2": "Ask Anna first.", "comment": "Anna was not asked"}
    after = annotator.post(f"{page}/save", **fields)
    assert after.headers["location"].removeprefix("/llm-admin") != page
    with database.read() as connection:
        found = list_scores(connection, ScoreFilter(source="human")).items
    mine = {score.name: score for score in found if score.author == "annotator"}
    assert {name: score.value for name, score in mine.items()} == {
        "verdict": "bad", "on topic": False, "better answer": "Ask <PERSON> first.",
    }  # fmt: skip
    assert [score.comment for score in mine.values() if score.comment] == ["<PERSON> was not asked"]
    assert 'value="bad" checked' in annotator.get(page).text
    for _ in range(2):
        annotator.post(f"{next_item(annotator, queue)}/skip")
    assert annotator.post(f"/queues/{queue}/next").headers["location"].endswith("?done=empty")
    assert "Agreement among people is not known" in annotator.get(f"/queues/{queue}").text


def test_a_turn_is_put_in_from_its_page(database: Database) -> None:
    operator = person(database, "operator")
    queue = made_by(operator)
    found = re.search(r"/traces/([0-9a-f]{32})", operator.get("/traces").text)
    assert found is not None
    assert f"queues/fill?turn={found[1]}" in operator.get(f"/traces/{found[1]}").text
    operator.post("/queues/fill", queue=queue, turn=found[1])
    assert found[1] in next_item_turn(operator, queue)


def next_item_turn(visitor: Visitor, queue: str) -> str:
    return visitor.get(next_item(visitor, queue)).text


def test_an_answer_that_is_not_allowed_is_told_and_kept_in_the_form(database: Database) -> None:
    operator = person(database, "operator")
    queue = made_by(operator)
    operator.post("/queues/fill", queue=queue, number="1")
    page = next_item(operator, queue)
    answer = operator.post(f"{page}/save", **{"answer-0": "great", "comment": "so long a thought"})
    assert answer.status_code == 400
    assert "verdict: one of good, bad, unsure" in answer.text
    assert "so long a thought" in answer.text
    assert operator.post(f"{page}/save").status_code == 400


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("questions", "verdict: good", "questions: verdict"),
        ("questions", "", "questions: 1 to 12"),
        ("reviewers", "0", "reviewers: 1 to 9"),
        ("daily", "many", "daily: a whole number"),
        ("filter", "colour=red", "the trace list does not know colour"),
        ("name", "", "name: 1 to 100"),
    ],
)
def test_a_queue_that_cannot_be_is_refused_with_its_form(database: Database, field: str, value: str, told: str) -> None:
    answer = person(database, "operator").post("/queues/save", **{**FORM, field: value})
    assert answer.status_code == 400
    assert told in answer.text


def test_reviewers_see_their_queues_only(database: Database) -> None:
    operator, annotator = person(database, "operator"), person(database, "annotator")
    theirs, others = made_by(operator, assignees="annotator"), made_by(operator, name="other", assignees="bob")
    operator.post("/queues/fill", queue=others, number="1")
    shown = annotator.get("/queues").text
    assert theirs in shown
    assert others not in shown
    assert annotator.get(f"/queues/{others}").status_code == 403
    assert annotator.post(f"/queues/{others}/next").status_code == 403
    item = next_item(operator, others)
    assert annotator.get(item).status_code == 403
    assert annotator.post(f"{item}/save", **{"answer-0": "good"}).status_code == 403
    assert annotator.get(item.replace(others, theirs)).status_code == 404


def test_a_reviewer_sees_the_turns_of_their_queues_and_nothing_else(database: Database) -> None:
    operator, reviewer = person(database, "operator"), person(database, "reviewer")
    theirs, others = made_by(operator, assignees="reviewer"), made_by(operator, name="other", assignees="bob")
    operator.post("/queues/fill", queue=theirs, number="1")
    home = reviewer.get("/")
    assert (home.status_code, home.headers["location"]) == (303, "/llm-admin/queues")
    shown = reviewer.get("/queues").text
    assert theirs in shown
    assert others not in shown
    assert "/llm-admin/traces" not in shown
    item = next_item(reviewer, theirs)
    page = reviewer.get(item).text
    assert "descale the kettle" in page or "bubble answered" in page
    assert "Open trace" not in page
    turn = re.search(r"/traces/([0-9a-f]{32})", operator.get("/traces").text)
    assert turn is not None
    for path in (f"/traces/{turn[1]}", "/traces", "/sessions", "/quality", "/evaluators", "/admin/account/list"):
        assert reviewer.get(path).status_code == 403, path
    assert reviewer.get("/queues/edit").status_code == 403
    assert reviewer.get(f"/queues/{others}").status_code == 403
    assert reviewer.post("/scores", target=turn[1], name="x", data_type="boolean", value="yes").status_code == 403
    assert reviewer.post("/comments", target=turn[1], text="x").status_code == 403
    saved = reviewer.post(f"{item}/save", **{"answer-0": "good"})
    assert saved.status_code == 303
    entries = operator.get("/audit").text
    assert "queue.review" in entries


@pytest.mark.parametrize("name", ["viewer", "reader"])
def test_who_may_not_score_finds_no_queue(database: Database, name: str) -> None:
    queue = made_by(person(database, "operator"))
    visitor = person(database, name)
    for path in ("/queues", f"/queues/{queue}", "/queues/edit", "/queues/fill"):
        assert visitor.get(path).status_code == 403
    assert visitor.post(f"/queues/{queue}/next").status_code == 403


def test_an_annotator_makes_and_fills_none(database: Database) -> None:
    queue = made_by(person(database, "operator"))
    annotator = person(database, "annotator")
    assert annotator.get("/queues/edit").status_code == 403
    assert annotator.post("/queues/save", **FORM).status_code == 403
    assert annotator.post("/queues/fill", queue=queue).status_code == 403
