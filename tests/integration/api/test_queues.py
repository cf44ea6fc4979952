"""Annotation queues over the API."""

import httpx
import pytest

from tests.integration.api.conftest import client_of, make_key
from tests.integration.turns import store, turn
from turntrace.storage.database import Database

pytestmark = pytest.mark.anyio

QUEUE = {"name": "weekly read", "questions": ["verdict: good | bad | unsure", "stars: 1 to 5"], "filter": {"q": "tea"}}


async def test_a_queue_lives_its_life(client: httpx.AsyncClient, small: Database) -> None:
    stored = [turn() for _ in range(3)]
    for one in stored:
        store(small, one)
    made = (await client.post("/annotation-queues", json=QUEUE)).json()
    assert (made["questions"], made["reviewers"], made["progress"]["total"]) == (QUEUE["questions"], 1, 0)
    ids = {"trace_ids": [one.id for one in stored]}
    path = f"/annotation-queues/{made['id']}"
    assert (await client.post(f"{path}/items", json=ids)).json() == {"added": 3}
    assert (await client.post(f"{path}/items", json=ids)).json() == {"added": 0}
    items = (await client.get(f"{path}/items")).json()["data"]
    assert {item["trace_id"] for item in items} == set(ids["trace_ids"])
    assert {item["status"] for item in items} == {"pending"}
    changed = await client.put(path, json={**QUEUE, "archived": True, "daily": 100})
    assert changed.json() == (await client.get(path)).json()
    assert changed.json()["progress"]["waiting"] == 3
    assert [queue["id"] for queue in (await client.get("/annotation-queues")).json()["data"]] == [made["id"]]


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("questions", ["verdict: good"], "$.questions"),
        ("questions", [], "$.questions"),
        ("filter", {"colour": "red"}, "$.filter"),
        ("filter", {"min_cost": "much"}, "$.filter"),
        ("reviewers", 0, "$.reviewers"),
        ("name", "", "$.name"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_place(
    client: httpx.AsyncClient, field: str, value: object, where: str
) -> None:
    answer = await client.post("/annotation-queues", json={**QUEUE, field: value})
    assert (answer.status_code, answer.json()["field"]) == (400, where)


async def test_a_queue_that_is_not_there(client: httpx.AsyncClient) -> None:
    path = f"/annotation-queues/{'0' * 32}"
    assert (await client.get(path)).status_code == 404
    assert (await client.put(path, json=QUEUE)).status_code == 404
    assert (await client.post(f"{path}/items", json={"trace_ids": []})).status_code == 404


async def test_a_key_that_reads_writes_nothing(small: Database) -> None:
    async with client_of(small, **make_key(small, "read")) as client:
        assert (await client.post("/annotation-queues", json=QUEUE)).status_code == 403
        assert (await client.get("/annotation-queues")).status_code == 200


async def test_a_filter_is_given_by_those_who_may_read(client: httpx.AsyncClient, small: Database) -> None:
    """How many turns a filter finds would tell what stands in them."""
    blind = make_key(small, "write")
    refused = await client.post("/annotation-queues", json=QUEUE, headers=blind)
    assert (refused.status_code, refused.json()["required_scopes"]) == (403, ["write", "read"])
    plain = {name: value for name, value in QUEUE.items() if name != "filter"}
    made = await client.post("/annotation-queues", json=plain, headers=blind)
    assert made.status_code == 201
    path = f"/annotation-queues/{made.json()['id']}"
    assert (await client.put(path, json=QUEUE, headers=blind)).status_code == 403
    assert (await client.put(path, json=QUEUE)).status_code == 200


async def test_who_is_named_in_a_queue_is_redacted(client: httpx.AsyncClient) -> None:
    """The redactor of these tests knows one address."""
    body = {**QUEUE, "name": "of anna@example.com", "instructions": "Ask anna@example.com."}
    made = (await client.post("/annotation-queues", json=body)).json()
    assert (made["name"], made["instructions"]) == ("of <EMAIL_k0123abcd>", "Ask <EMAIL_k0123abcd>.")
