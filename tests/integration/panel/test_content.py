import csv
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import MOUNT, add_people, context_of, mounted
from tests.integration.panel.scene import hostile, scene, store
from tests.integration.panel.visitor import Visitor
from turntrace.panel.templating import printable
from turntrace.records.trace import Trace
from turntrace.storage import migrate
from turntrace.storage.database import Database


class _Tags(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.scripts: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "hx-get")]
        if tag == "script":
            self.scripts.append(dict(attrs))


@pytest.fixture(scope="module")
def turns() -> list[Trace]:
    """600 turns whose every text tries to run a script."""
    return scene(time.time_ns() // 1000, turns=len(hostile()), texts=tuple(hostile()))


@pytest.fixture(scope="module")
def reader(turns: list[Trace], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """Somebody who reads them."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('hostile')}/turntrace.db")
    migrate.upgrade(database)
    add_people(database)
    store(database, turns, time.time_ns() // 1000)
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        yield Visitor(client).log_in("admin")
    database.close()


def _check(text: str, *, allowed: frozenset[str]) -> None:
    page = _Tags()
    page.feed(text)
    assert page.elements <= allowed, page.elements - allowed
    assert not [name for name in page.attributes if name.startswith("on") or name in ("style", "srcdoc", "formaction")]
    assert all(address.startswith((f"{MOUNT}/", "#")) for address in page.addresses), page.addresses
    for script in page.scripts:
        assert script.get("type") == "application/json" or (script.get("src") or "").startswith(f"{MOUNT}/static/")


@pytest.fixture(scope="module")
def ours(reader: Visitor) -> frozenset[str]:
    """The elements of our own templates."""
    elements: set[str] = set()
    for template in (Path(__file__).parents[3] / "src/turntrace/panel/templates").rglob("*.html"):
        elements.update(re.findall(r"<([a-z][a-z0-9]*)", template.read_text("utf-8")))
    return frozenset(elements)


def test_hostile_texts_are_inert_on_every_list(reader: Visitor, ours: frozenset[str]) -> None:
    for path in ("/", "/sessions", "/users", "/cost?group_by=user", "/cost?group_by=feature", "/cost?group_by=session"):
        _check(reader.get(path).text, allowed=ours)
    path = "/traces"
    pages = 0
    while path:
        text = reader.get(path).text
        _check(text, allowed=ours)
        older = re.search(r'rel="next" href="/llm-admin([^"]+)"', text)
        path = older[1].replace("&amp;", "&") if older else ""
        pages += 1
    assert pages == 12


def test_hostile_texts_are_inert_on_every_trace(reader: Visitor, turns: list[Trace], ours: frozenset[str]) -> None:
    for turn in turns[::9]:
        for chosen in ("turn", *(step.span_id for step in turn.observations)):
            answer = reader.get(f"/traces/{turn.id}", params={"observation": chosen})
            assert answer.status_code == 200
            _check(answer.text, allowed=ours)


def test_hostile_texts_are_inert_in_conversations(reader: Visitor, turns: list[Trace], ours: frozenset[str]) -> None:
    for turn in turns[::9]:
        page = reader.get("/traces", params={"q": turn.id})
        link = re.search(r'href="/llm-admin(/sessions/[^"]+)"', page.text)
        assert link is not None
        answer = reader.client.get(f"{MOUNT}{link[1]}".replace("&amp;", "&").replace("&#39;", "'"))
        assert answer.status_code in (200, 404)  # an id of dots or slashes alone cannot be an address
        _check(answer.text, allowed=ours)


@pytest.mark.parametrize("name", ["q", "user_id", "score", "from", "range", "cursor", "min_cost", "environment"])
def test_hostile_addresses_are_inert(reader: Visitor, ours: frozenset[str], name: str) -> None:
    for text in hostile()[::40]:
        for page in ("/traces", "/sessions", "/users", "/cost", "/", "/admin/price/list"):
            answer = reader.get(page, params={name: text, "search": text, "page": text, "sortBy": text})
            assert answer.status_code in (200, 400), (page, text)
            _check(answer.text, allowed=ours)


def test_spreadsheets_run_nothing_of_an_export(reader: Visitor, tmp_path: Path) -> None:
    texts = [*hostile("formula.jsonl"), "+1", "-1", "\t=1", "\r=1", 'plain, with "quotes"\nand lines']
    database = Database(f"sqlite:///{tmp_path}/formula.db")
    migrate.upgrade(database)
    add_people(database)
    turns = scene(time.time_ns() // 1000, turns=len(texts), texts=tuple(texts))
    store(database, [replace(turn, name=text) for turn, text in zip(turns, texts, strict=True)], 1)
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("reader")
        answer = visitor.get("/traces.csv")
        lines = visitor.get("/traces.jsonl").text.splitlines()
    database.close()
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(texts) == len(lines)
    assert all(value[:1] not in "=+-@\t\r" for row in rows for value in row.values() if value)
    assert "attachment" in answer.headers["content-disposition"]
    assert {json.loads(line)["user_id"] for line in lines} >= {"=10+20+cmd|' /C calc'!A0"}


def test_an_export_holds_exactly_what_is_filtered(reader: Visitor) -> None:
    text = hostile()[3]
    answer = reader.get("/traces.jsonl", params={"user_id": text[:60]})
    assert {json.loads(line)["user_id"] for line in answer.text.splitlines()} == {text[:60]}


def test_redacted_spans_show_as_numbered_chips_with_their_type(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/pii.db")
    migrate.upgrade(database)
    add_people(database)
    asked = "Mail <EMAIL_k00000001> or <EMAIL_k00000002>, again <EMAIL_k00000001>; call <PHONE_k00000003>; <b>"
    turns = [replace(scene(time.time_ns() // 1000, turns=1)[0], input={"question": asked}, name=asked)]
    store(database, turns, 1)
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        text = Visitor(client).log_in("reader").get(f"/traces/{turns[0].id}?observation=turn").text
    database.close()
    assert "_k0000000" not in text
    chips = re.findall(r'<span class="pii" title="Redacted: (\w+)">([\w ]+)</span>', text)
    assert {("email", "email 1"), ("email", "email 2"), ("phone", "phone 1")} == set(chips)


def test_control_characters_and_lone_surrogates_leave_the_page_valid() -> None:
    assert printable("a\x00b\x1b[31m\ud800\n\t") == "a\ufffdb\ufffd[31m\ufffd\n\t"
