"""Erasure and access over the API, on each database."""

import io
import json
import zipfile
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.api.conftest import context_of, make_key
from tests.integration.turns import store, turn
from turntrace import api
from turntrace.api.context import ApiContext
from turntrace.keyring import KeyRing
from turntrace.records.score import Score
from turntrace.storage import audit, receipts, scores
from turntrace.storage.database import Database

KEYS = KeyRing([b"k" * 32], is_explicit=True)


def w3c(n: int) -> str:
    return f"{n:x}".rjust(32, "c")


def _client(database: Database, *scopes: str) -> httpx.AsyncClient:
    found = context_of(database)
    context = ApiContext(settings=found.settings, database=database, loss=found.loss, keyring=KEYS)
    transport = httpx.ASGITransport(api.build(context), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=make_key(database, *scopes))


@pytest.fixture
async def people(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may erase, over turns of `anna/1` and `bob`."""
    mine = [turn(user_id="anna/1", session_id=f"s-{n}", trace_id=w3c(n)) for n in range(1, 4)]
    store(database, *mine, turn(user_id="bob", session_id="s-9", trace_id=w3c(9)))
    with database.write() as c:
        found = Score(id="x", name="n", value="fine", data_type="text", source="human", turn_id=mine[0].id)
        scores.upsert(c, found, now_us=1)
    async with _client(database, "erase", "read") as client:
        yield client


async def test_a_person_is_erased_with_a_signed_receipt(people: httpx.AsyncClient) -> None:
    dry = (await people.delete("/subjects/anna%2F1?dry_run=true")).json()
    assert (dry["id"], dry["dry_run"], dry["counts"]["trace"]) == (None, True, 3)
    answer = await people.delete("/subjects/anna%2F1")
    receipt = answer.json()
    assert answer.status_code == 200
    assert receipt["counts"]["trace"] == 3
    assert receipt["finished_at"] is not None
    assert receipts.is_valid(receipt, KEYS)
    assert (await people.get(f"/erasures/{receipt['id']}")).json() == receipt
    assert (await people.get("/erasures")).json()["data"] == [receipt]
    left = (await people.get("/traces")).json()["data"]
    assert [trace["user_id"] for trace in left] == ["bob"]
    assert (await people.get(f"/traces/{w3c(1)}")).status_code == 404
    again = await people.delete("/subjects/anna%2F1")
    assert (again.status_code, again.json()["counts"]) == (200, {})


async def test_a_trace_and_a_session_are_erased(people: httpx.AsyncClient) -> None:
    answer = await people.delete(f"/traces/{w3c(1)}")
    assert (answer.status_code, answer.json()["counts"]["trace"]) == (200, 1)
    assert (await people.delete(f"/traces/{w3c(1)}")).status_code == 404
    answer = await people.delete("/sessions/s-2")
    assert (answer.status_code, answer.json()["counts"]["session"]) == (200, 1)
    assert (await people.delete("/sessions/s-2")).status_code == 404
    assert [trace["session_id"] for trace in (await people.get("/traces")).json()["data"]] == ["s-9", "s-3"]
    assert (await people.get("/erasures/nothing")).status_code == 404


async def test_a_w3c_id_or_session_of_several_is_refused(database: Database, people: httpx.AsyncClient) -> None:
    store(database, turn(user_id="carl", session_id="s-9", trace_id=w3c(9)))
    answer = await people.delete(f"/traces/{w3c(9)}")
    assert answer.status_code == 409
    assert len(answer.json()["turn_ids"]) == 2
    answer = await people.delete("/sessions/s-9")
    assert (answer.status_code, answer.json()["user_ids"]) == (409, ["bob", "carl"])
    answer = await people.delete("/sessions/s-9?user_id=carl")
    assert (answer.status_code, answer.json()["counts"]["trace"]) == (200, 1)


async def test_everything_held_about_a_person_can_be_had(database: Database, people: httpx.AsyncClient) -> None:
    answer = await people.get("/subjects/anna%2F1/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0] == {"record": "manifest", "format": "turntrace subject export", "version": 1, "traces": 3}
    found = [line for line in lines if line["record"] == "trace"]
    assert [trace["user_id"] for trace in found] == ["anna/1"] * 3
    assert found[0]["input"] == "How do I descale the kettle?"
    assert found[0]["observations"][0]["documents"][0]["content"] == "Use vinegar."
    assert found[0]["scores"][0]["value"] == "fine"
    assert {line["record"] for line in lines} == {"manifest", "trace", "score", "session", "end"}
    assert lines[-1] == {"record": "end", "is_complete": True, "traces": 3, "unreadable_traces": 0}
    assert "bob" not in answer.text
    packed = await people.get("/subjects/anna%2F1/export?format=zip")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as file:
        assert file.read("subject.jsonl") == answer.content
    with database.read() as c:
        entries = audit.list_entries(c)
    assert [entry.action for entry in entries].count("subject.export") == 2
    assert "anna" not in repr(entries)


async def test_nobody_erases_with_a_key_for_reading(database: Database) -> None:
    async with _client(database, "read", "write") as reader:
        for path in ("/subjects/anna", "/traces/" + "0" * 32, "/sessions/s-1"):
            assert (await reader.delete(path)).status_code == 403
