"""Copies of what is held about a person while a store is away: whole, refused, or said not to be whole."""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import stored as s
import test_storage_residence as r
from sqlalchemy import URL
from starlette.testclient import TestClient
from test_storage_residence import CANARY, EU, told

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.visitor import Visitor
from turntrace import api
from turntrace.api import portability
from turntrace.api.context import ApiContext
from turntrace.errors import DatabaseUnavailable
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage import keys, migrate
from turntrace.storage.database import Database
from turntrace.storage.queries import subject
from turntrace.storage.tables.residence import blob


@pytest.fixture
def main(database: Database, store_url: URL) -> Iterator[Database]:
    """A main database whose content of one environment lies elsewhere, with two turns of Anna's there."""
    found = r._opened(database, store_url)
    migrate.make_stores(found)
    s.write(found, s.end(told(1)), s.end(told(2)))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def one_turn_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PAGE", 1)


def _read(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def _broken_off(main: Database, parts: Iterator[bytes], *, after: int) -> bytes:
    """The parts, of which some are read before the store goes away."""
    found = [next(parts) for _ in range(after)]
    with r.Away(main):
        return b"".join([*found, *parts])


def test_a_copy_of_a_store_that_is_away_is_not_begun(main: Database) -> None:
    with r.Away(main):
        with pytest.raises(DatabaseUnavailable):
            portability.records(main, ("anna",))
        assert [item["record"] for item in portability.records(main, ("bob",))] == ["manifest", "end"]
    assert list(portability.records(main, ("anna",)))[-1]["is_complete"]


def test_a_copy_that_breaks_off_says_so_in_its_last_line(main: Database) -> None:
    found = _read(_broken_off(main, portability.lines(portability.records(main, ("anna",))), after=2))
    assert [item["record"] for item in found] == ["manifest", "trace", "end"]
    assert f"{CANARY} said" in str(found[1])
    assert (found[0]["traces"], found[-1]["is_complete"]) == (2, False)
    assert "not whole" in found[-1]["reason"]
    assert "127.0.0.1" not in str(found[-1])


def test_an_archive_that_breaks_off_can_be_opened_and_says_so(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portability, "_CHUNK", 0)
    packed = _broken_off(main, portability.archive(portability.records(main, ("anna",))), after=1)
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        found = _read(file.read("subject.jsonl"))
    assert (found[0]["record"], found[-1]["record"], found[-1]["is_complete"]) == ("manifest", "end", False)


def test_the_hosts_code_is_told_by_an_error(main: Database) -> None:
    found = portability.records(main, ("anna",))
    assert [next(found)["record"], next(found)["record"]] == ["manifest", "trace"]
    with r.Away(main), pytest.raises(DatabaseUnavailable):
        next(found)


def test_a_copy_counts_the_turns_whose_texts_are_gone(main: Database) -> None:
    with main.stores[EU].write() as c:
        c.execute(blob.delete().where(blob.c.turn_id == s.turn_id(1)))
    *_, end = portability.records(main, ("anna",))
    assert end == {"record": "end", "is_complete": False, "traces": 2, "unreadable_traces": 1}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["jsonl", "zip"])
async def test_the_api_answers_an_error_in_place_of_a_copy(main: Database, form: str) -> None:
    with main.write() as c:
        key = keys.create(c, name="test", scopes=("erase",), now_us=s.NOW).key
    loss = Loss(accepted=2, stored=2, sampled=0, dropped={})
    context = ApiContext(settings=Settings(), database=main, loss=lambda: loss, redact_text=str, keyring=r.RING)
    headers, path = {"Authorization": f"Bearer {key}"}, f"/subjects/anna/export?format={form}"
    transport = httpx.ASGITransport(api.build(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as client:
        with r.Away(main):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["title"]) == (503, "The database cannot be reached")
        assert (await client.get(path)).status_code == 200


def test_the_page_of_a_person_answers_an_error_in_place_of_a_copy(main: Database) -> None:
    add_people(main)

    def export(user_ids: tuple[str, ...], is_zip: bool) -> Iterator[bytes]:
        return portability.lines(portability.records(main, user_ids))

    context = replace(context_of(main), export_subject=export)
    with TestClient(mounted(context), follow_redirects=False) as client:
        operator = Visitor(client).log_in("operator")
        with r.Away(main):
            assert operator.post("/subjects/export", user_id="anna", format="jsonl").status_code == 503
        answer = operator.post("/subjects/export", user_id="anna", format="jsonl")
        assert (answer.status_code, _read(answer.content)[-1]["is_complete"]) == (200, True)
