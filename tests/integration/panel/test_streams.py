"""Turns that are going on, and streams whose clients left, as the panel tells them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.scene import scene, store, store_running
from tests.integration.panel.visitor import Visitor
from turntrace.records.trace import Trace
from turntrace.storage import migrate
from turntrace.storage.database import Database

Told = tuple[Visitor, list[Trace]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """An admin, and the turns: three in progress, one cut off, four ordinary ones of which the client left the last."""
    folder: Path = tmp_path_factory.mktemp("streams")
    database = Database(f"sqlite:///{folder / 'turntrace.db'}")
    migrate.upgrade(database)
    add_people(database)
    now_us = time.time_ns() // 1000
    ordinary = scene(now_us - 600_000_000, turns=4)
    store(database, ordinary, now_us)
    turns = [*store_running(database, now_us), *ordinary]
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        yield Visitor(client).log_in("admin"), turns
    database.close()


def words(html: str) -> str:
    """The text of a page as it is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_turns_in_progress_stand_above_the_list_and_are_marked_in_it(told: Told) -> None:
    visitor, turns = told
    page = visitor.get("/traces").text
    above, _, listed = page.partition('id="turns"')
    for turn in turns[:3]:
        assert f"/traces/{turn.id}" in above
        assert f"/traces/{turn.id}" in listed
    assert above.count("in progress</span>") == listed.count("in progress</span>") == 3
    assert "17 chunks so far" in words(above)


@pytest.mark.parametrize("query", ["?status=error", "?q=kettle", "?status=in_progress"])
def test_they_do_not_stand_above_what_somebody_looks_for(told: Told, query: str) -> None:
    assert 'id="running"' not in told[0].get(f"/traces{query}").text


def test_a_running_turn_is_shown_with_what_it_has_until_now(told: Told) -> None:
    visitor, turns = told
    page = words(visitor.get(f"/traces/{turns[0].id}").text)
    assert "in progress" in page
    assert "open" in page


def test_a_stream_that_was_left_tells_both_ends_and_what_was_paid_for_after(told: Told) -> None:
    visitor, turns = told
    left = turns[-1]
    assert left.outcome == "client_disconnected"
    page = words(visitor.get(f"/traces/{left.id}").text)
    assert "client left" in page
    assert "49 characters sent by the model, 12 given to the client" in page
    assert re.search(r"the model went on for [\d.]+ m?s , about \$0\.0000", page), page
    assert re.search(r"First token [\d.]+ m?s [\d.]+ m?s after its call, then [\d.]+ [mµ]s per token", page)


def test_a_call_that_nobody_read_to_its_end_is_incomplete_and_says_what_is_unknown(told: Told) -> None:
    visitor, turns = told
    page = words(visitor.get(f"/traces/{turns[3].id}").text)
    assert "incomplete" in page
    assert "no model call went on" in page
    assert "usage and cost of answer: it was left before the provider said them" in page


def test_what_was_cleared_away_late_is_cut_at_the_edge(told: Told) -> None:
    visitor, turns = told
    page = visitor.get(f"/traces/{turns[3].id}").text
    assert page.count('class="cut"') == 1
