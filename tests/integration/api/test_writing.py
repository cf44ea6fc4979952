"""Scores and prices come in."""

from typing import Any

import anyio
import httpx
import pytest

from tests.integration.api.conftest import client_of, make_key
from tests.integration.turns import store, turn
from turntrace.api.components import COMPONENTS
from turntrace.api.schema import check, reference
from turntrace.storage.database import Database

pytestmark = pytest.mark.anyio


async def _post(client: httpx.AsyncClient, status: int = 201, path: str = "/scores", **body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_score_is_stored_and_read_again_on_every_database(database: Database) -> None:
    stored = turn(user_id="u-7")
    store(database, stored)
    async with client_of(database, **make_key(database, "read", "write")) as client:
        made = await _post(client, name="thumbs", value=True, trace_id=stored.trace_id, comment="great 👍")
        listed = (await client.get("/scores", params={"trace_id": stored.trace_id})).json()
        trace = (await client.get(f"/traces/{stored.id}")).json()
        replaced = await _post(client, 200, id=made["id"], name="thumbs", value=False, trace_id=stored.id)
    check(made, reference("Score"), COMPONENTS)
    assert (made["data_type"], made["source"], made["value"], made["comment"]) == ("boolean", "api", True, "great 👍")
    assert (made["turn_id"], made["trace_id"], made["user_id"]) == (stored.id, stored.trace_id, "u-7")
    assert listed["data"] == trace["scores"] == [made]
    assert (replaced["value"], replaced["created_at"]) == (False, made["created_at"])


@pytest.mark.parametrize(
    ("value", "data_type", "expected"),
    [
        (0.5, None, "numeric"),
        (-3, "numeric", "numeric"),
        (False, None, "boolean"),
        ("tea", None, "categorical"),
        ("long", "text", "text"),
        ("better", "correction", "correction"),
    ],
)
async def test_the_data_type_follows_the_value(
    client: httpx.AsyncClient, small: Database, value: Any, data_type: str | None, expected: str
) -> None:
    stored = turn()
    store(small, stored)
    stated = {"data_type": data_type} if data_type else {}
    made = await _post(client, name="n", value=value, trace_id=stored.id, **stated)
    assert (made["data_type"], made["value"]) == (expected, value)


async def test_observations_and_sessions_are_scored_too(client: httpx.AsyncClient, small: Database) -> None:
    stored = turn(session_id="s-9", user_id="u-9")
    store(small, stored)
    step = await _post(client, name="faithful", value=1, observation_id=stored.observations[1].id)
    session = await _post(client, name="solved", value="yes", session_id="s-9")
    assert (step["observation_id"], step["trace_id"]) == (stored.observations[1].id, stored.trace_id)
    assert (session["session_id"], session["user_id"], session["trace_id"]) == ("s-9", "u-9", None)
    found = (await client.get("/scores", params={"observation_id": stored.observations[1].id})).json()["data"]
    assert found == [step]
    assert (await client.get("/sessions/s-9")).json()["scores"] == [session]


async def test_comments_and_texts_are_redacted_before_they_are_stored(
    client: httpx.AsyncClient, small: Database
) -> None:
    stored = turn()
    store(small, stored)
    made = await _post(
        client,
        name="n",
        value="mail anna@example.com",
        data_type="text",
        comment="anna@example.com",
        trace_id=stored.id,
    )
    assert "anna" not in f"{made['value']} {made['comment']}"
    found = (await client.get("/scores")).text
    assert "anna" not in found


async def test_a_shared_trace_id_is_ambiguous(client: httpx.AsyncClient, small: Database) -> None:
    one, two = turn(trace_id="c" * 32), turn(trace_id="c" * 32)
    store(small, one, two)
    problem = await _post(client, 409, name="n", value=1, trace_id="c" * 32)
    assert problem["turn_ids"] == [one.id, two.id]
    await _post(client, 201, name="n", value=1, trace_id=two.id)


async def test_feedback_that_is_faster_than_the_worker_waits_for_its_turn(
    client: httpx.AsyncClient, small: Database
) -> None:
    stored = turn()
    answers: list[Any] = []

    async def send() -> None:
        answers.append(await _post(client, name="thumbs", value=True, trace_id=stored.trace_id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(0.3)  # the answer has reached the client, the worker has not got to it yet
        await anyio.to_thread.run_sync(store, small, stored)
    assert answers[0]["turn_id"] == stored.id


async def test_an_unknown_target_is_not_found(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(10):
        problem = await _post(client, 404, name="n", value=1, trace_id="e" * 32)
    assert "trace_id" in problem["detail"]


@pytest.mark.parametrize("scope", ["feedback", "write"])
async def test_a_key_that_may_not_read_learns_not_whose_turn_it_scored(small: Database, scope: str) -> None:
    stored = turn(user_id="u-7", session_id="conv-7")
    store(small, stored)
    async with client_of(small, **make_key(small, scope)) as client:
        made = await _post(client, name="thumbs", value=True, trace_id=stored.trace_id)
        again = await _post(client, 200, id=made["id"], name="thumbs", value=False, trace_id=stored.trace_id)
    check(made, reference("Score"), COMPONENTS)
    assert (made["user_id"], again["user_id"]) == (None, None)
    async with client_of(small, **make_key(small, "read")) as client:
        (listed,) = (await client.get("/scores", params={"trace_id": stored.trace_id})).json()["data"]
    assert listed["user_id"] == "u-7"


async def test_a_feedback_key_scores_known_traces_and_nothing_else(small: Database) -> None:
    stored, other = turn(), turn()
    store(small, stored, other)
    async with client_of(small, **make_key(small, "write")) as backend:
        mine = await _post(backend, id="mine", name="quality", value=0.9, trace_id=stored.id)
    async with client_of(small, **make_key(small, "feedback")) as client:
        made = await _post(client, id="ui-1", name="thumbs", value=True, trace_id=stored.id)
        again = await _post(client, 200, id="ui-1", name="thumbs", value=False, trace_id=stored.id)
        taken = await _post(client, 409, id="mine", name="quality", value=0, trace_id=stored.id)
        moved = await _post(client, 409, id="ui-1", name="thumbs", value=0, trace_id=other.id)
        for body in ({"session_id": "s-1"}, {"observation_id": stored.observations[0].id}):
            await _post(client, 403, name="n", value=1, **body)
        await _post(client, 403, name="n", value=1, trace_id=stored.id, source="human")
        assert (await client.get("/scores")).status_code == 403
    assert (made["source"], again["value"], mine["source"]) == ("user", False, "api")
    assert taken["type"] == moved["type"] == "urn:turntrace:problem:id-taken"


_TARGET = {"trace_id": "a" * 32}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": 1, **_TARGET}, "$"),
        ({"name": "", "value": 1, **_TARGET}, "$.name"),
        ({"name": "x" * 101, "value": 1, **_TARGET}, "$.name"),
        ({"name": "n", "value": None, **_TARGET}, "$.value"),
        ({"name": "n", "value": [1], **_TARGET}, "$.value"),
        ({"name": "n", "value": "x" * 201, **_TARGET}, "$.value"),
        ({"name": "n", "value": "1", "data_type": "numeric", **_TARGET}, "$.value"),
        ({"name": "n", "value": True, "data_type": "numeric", **_TARGET}, "$.value"),
        ({"name": "n", "value": 1, "data_type": "boolean", **_TARGET}, "$.value"),
        ({"name": "n", "value": 1, "data_type": "stars", **_TARGET}, "$.data_type"),
        ({"name": "n", "value": 1}, "$"),
        ({"name": "n", "value": 1, "session_id": "s", **_TARGET}, "$"),
        ({"name": "n", "value": 1, "trace_id": "zz"}, "$.trace_id"),
        ({"name": "n", "value": 1, "observation_id": "a" * 32}, "$.observation_id"),
        ({"name": "n", "value": 1, "trace_id": 7}, "$.trace_id"),
        ({"name": "n", "value": 1, "id": "has space", **_TARGET}, "$.id"),
        ({"name": "n", "value": 1, "id": "x" * 65, **_TARGET}, "$.id"),
        ({"name": "n", "value": 1, "comment": "a\0b", **_TARGET}, "$.comment"),
        ({"name": "n", "value": 1, "comment": "x" * 10_001, **_TARGET}, "$.comment"),
        ({"name": "n", "value": 1, "stars": 5, **_TARGET}, "$"),
        ([], "$"),
        ("text", "$"),
    ],
)
async def test_a_wrong_body_is_told_where(client: httpx.AsyncClient, body: Any, field: str) -> None:
    answer = await client.post("/scores", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (400, field), problem
    check(problem, reference("Problem"), COMPONENTS)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"name": NaN}', {}, 400),
        (b'{"a":' * 40 + b"1" + b"}" * 40, {}, 400),
        (b"[" * 100_000, {}, 400),
        (b" " * 1_000_001, {}, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Encoding": "gzip"}, 415),
        (b"{}", {"Content-Length": "99999999999999999999999"}, 413),
    ],
    ids=range(10),
)
async def test_a_body_that_is_no_json_of_ours_is_refused(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await client.post("/scores", content=content, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


_PRICE = {
    "provider": "openai",
    "model": "our-tuned",
    "effective_from": "2026-01-01",
    "rates_per_mtok": {
        "input_mtok": "2.5",
        "output_mtok": {"base": "10", "tiers": [{"above_tokens": 200_000, "price": "15"}]},
    },
}


async def test_a_price_is_stored_and_the_same_again_replaces_on_every_database(database: Database) -> None:
    async with client_of(database, **make_key(database, "read", "write")) as client:
        made = await _post(client, path="/prices", **_PRICE)
        rates = {"input_mtok": "3"}
        await _post(client, 200, path="/prices", **{**_PRICE, "rates_per_mtok": rates})
        listed = (await client.get("/prices")).json()
    check(made, reference("Price"), COMPONENTS)
    assert (made["effective_from"], made["rates_per_mtok"]) == ("2026-01-01T00:00:00.000000Z", _PRICE["rates_per_mtok"])
    assert [price["rates_per_mtok"] for price in listed["data"]] == [rates]


@pytest.mark.parametrize(
    "change",
    [
        {"rates_per_mtok": {}},
        {"rates_per_mtok": {"inputs": "1"}},
        {"rates_per_mtok": {"input_mtok": 1.5}},
        {"rates_per_mtok": {"input_mtok": "-1"}},
        {"rates_per_mtok": {"input_mtok": "1e5"}},
        {"rates_per_mtok": {"input_mtok": {"base": "1", "tiers": [{"above_tokens": 2, "price": "1"}] * 2}}},
        {"effective_from": "soon"},
        {"model": ""},
    ],
)
async def test_a_wrong_price_is_refused(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    problem = await _post(client, 400, path="/prices", **{**_PRICE, **change})
    assert problem["field"].startswith("$")
