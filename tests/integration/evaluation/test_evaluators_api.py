"""Evaluators and score configs over the API: life cycle, versions, and refusals that name their place."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import context_of, make_key
from tests.integration.evaluation.bench import CHECK, put, some
from turntrace import api
from turntrace.evaluating import workbench
from turntrace.keyring import KeyRing
from turntrace.settings import Settings
from turntrace.storage import migrate
from turntrace.storage.database import Database
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.sealing import unseal

JUDGE: dict[str, Any] = {
    "name": "helpful",
    "kind": "judge",
    "judge": {"base_url": "http://10.1.2.3:9/v1", "model": "small", "api_key": "sk-secret"},
    "prompt": "Did it help? {{input}} {{output}}",
    "variables": {"input": "$.input", "output": "$.output"},
    "score": {"name": "helpful", "data_type": "numeric", "min": 0, "max": 1},
}
SETTINGS = Settings(
    secret_key="0123456789abcdef" * 4, judge_allowed_hosts=("10.0.0.0/8",), evaluator_functions=("shop.q:right",)
)
KEYS = KeyRing.from_settings(SETTINGS, None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def small(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(database)
    return database


@pytest.fixture
async def client(small: Database) -> AsyncIterator[httpx.AsyncClient]:
    context = replace(context_of(small), settings=SETTINGS, keyring=KEYS, workbench=workbench(SETTINGS, KEYS))
    transport = httpx.ASGITransport(api.build(context))
    headers = make_key(small, "read", "write")
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as found:
        yield found
    small.close()


async def test_an_evaluator_lives_through_versions(client: httpx.AsyncClient, small: Database) -> None:
    made = await client.post("/evaluators", json=JUDGE)
    assert made.status_code == 201, made.text
    body = made.json()
    assert (body["version"], body["enabled"], body["has_api_key"]) == (1, True, True)
    assert "sk-secret" not in made.text
    path = f"/evaluators/{body['id']}"
    off = (await client.patch(path, json={"enabled": False})).json()
    assert (off["version"], off["enabled"]) == (1, False)
    changed = (await client.patch(path, json={"prompt": "Was it of help? {{output}}", "sample_rate": 0.5})).json()
    assert (changed["version"], changed["sample_rate"], changed["enabled"]) == (2, 0.5, False)
    with small.read() as c:
        stored = queries.get(c, body["id"])
    assert stored.sealed is not None
    assert unseal(KEYS, stored.sealed) == "sk-secret"
    assert [item["id"] for item in (await client.get("/evaluators")).json()["data"]] == [body["id"]]
    assert (await client.post("/evaluators", json=JUDGE)).status_code == 400
    assert (await client.delete(path)).status_code == 200
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("judge", "is_kept"),
    [
        ({"base_url": "http://10.1.2.3:9/v2"}, True),
        ({"base_url": "http://10.1.2.4:9/v1"}, False),
        ({"base_url": "http://10.1.2.3:10/v1"}, False),
        ({"base_url": "https://10.1.2.3:9/v1"}, False),
        ({"base_url": "http://10.1.2.3:9/v1", "provider": "anthropic"}, False),
    ],
)
async def test_a_stored_key_does_not_follow_a_changed_address(
    client: httpx.AsyncClient, small: Database, judge: dict[str, Any], is_kept: bool
) -> None:
    evaluator_id = (await client.post("/evaluators", json=JUDGE)).json()["id"]
    path, moved = f"/evaluators/{evaluator_id}", {"model": "small", **judge}
    answers = [
        await client.patch(path, json={"judge": moved}),
        await client.put(path, json={**JUDGE, "judge": {**moved, "model": "other"}}),
    ]
    assert [answer.status_code for answer in answers] == ([200, 200] if is_kept else [400, 400])
    with small.read() as c:
        assert queries.get(c, evaluator_id).version == (3 if is_kept else 1)
    if not is_kept:
        assert "$.judge.api_key" in answers[0].text
    changed = await client.patch(path, json={"judge": {**moved, "api_key": "sk-new"}})
    assert changed.status_code == 200, changed.text
    with small.read() as c:
        assert unseal(KEYS, queries.get(c, evaluator_id).sealed or "") == "sk-new"


async def test_a_stored_key_is_not_kept_by_what_asks_nobody(client: httpx.AsyncClient) -> None:
    path = f"/evaluators/{(await client.post('/evaluators', json=JUDGE)).json()['id']}"
    assert (await client.put(path, json=dict(CHECK))).json()["has_api_key"] is False
    elsewhere = {**JUDGE, "judge": {"base_url": "http://10.9.9.9/v1", "model": "m"}}
    assert (await client.put(path, json=elsewhere)).json()["has_api_key"] is False


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"prompt": "Did it {{help}}?"}, "$.prompt"),
        ({"variables": {"input": "$.[", "output": "$"}}, "$.variables.input"),
        ({"judge": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}, "$.judge.base_url"),
        ({"judge": {"base_url": "http://[::1]:9/v1", "model": "m"}}, "$.judge.base_url"),
        ({"judge": {"base_url": "ftp://10.1.2.3/v1", "model": "m"}}, "$.judge.base_url"),
        ({"judge": {"callable": "os:system", "model": "m"}}, "$.judge.callable"),
        ({"score": {"data_type": "categorical"}}, "$.score.categories"),
        ({"score": {"data_type": "numeric", "min": 1, "max": 0}}, "$.score.max"),
        ({"filter": {"environment": "turntrace-evaluation"}}, "$.filter.environment"),
        ({"filter": {"colour": "red"}}, "$.filter.colour"),
        ({"schedule": {"cron": "every day"}}, "$.schedule.cron"),
        ({"schedule": {"cron": "0 6 * * *", "interval_seconds": 5}}, "$.schedule"),
        ({"kind": "code", "code": {"function": "os:system"}, "judge": None, "prompt": None}, "$"),
        ({"daily_budget_usd": "much"}, "$.daily_budget_usd"),
        ({"template": "nothing"}, "$.template"),
    ],
)
async def test_what_cannot_work_is_refused_with_its_place(
    client: httpx.AsyncClient, change: dict[str, Any], place: str
) -> None:
    body = {name: value for name, value in {**JUDGE, **change}.items() if value is not None}
    refused = await client.post("/evaluators", json=body)
    assert refused.status_code == 400, refused.text
    assert place in refused.text
    assert (await client.get("/evaluators")).json()["data"] == []


async def test_only_functions_that_the_settings_name_are_called(client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"name": "right", "kind": "code", "code": {"function": "os:system"}}
    refused = await client.post("/evaluators", json=body)
    assert refused.status_code == 400
    assert "evaluator_functions" in refused.text
    assert (await client.post("/evaluators", json={**body, "code": {"function": "shop.q:right"}})).status_code == 201


async def test_a_preview_runs_on_past_turns_and_stores_nothing(client: httpx.AsyncClient, small: Database) -> None:
    now_us = time.time_ns() // 1000
    put(small, *[replace(t, started_at_us=now_us - 5_000_000 - i) for i, t in enumerate(some(7))], at_us=now_us)
    found = (await client.post("/evaluators/preview", json=dict(CHECK))).json()
    assert (found["matched"], len(found["samples"])) == (7, 5)
    assert {sample["value"] for sample in found["samples"]} == {True}
    assert (await client.get("/scores")).json()["data"] == []


async def test_a_key_that_may_not_read_sees_no_texts(client: httpx.AsyncClient, small: Database) -> None:
    blind, now_us = make_key(small, "write"), time.time_ns() // 1000
    put(small, replace(*some(1), started_at_us=now_us - 5_000_000), at_us=now_us)
    check = {**CHECK, "check": {"name": "regex", "pattern": "."}}
    (seen,) = (await client.post("/evaluators/preview", json=check)).json()["samples"]
    assert seen["question"]
    assert seen["answer"]
    # Even the yes or no of a check would tell what stands in a text, by asking often enough.
    for definition in (check, JUDGE):
        tried = await client.post("/evaluators/preview", json=definition, headers=blind)
        assert (tried.status_code, tried.json()["required_scopes"]) == (403, ["write", "read"])
        assert "samples" not in tried.json()
    made = (await client.post("/evaluators", json=check)).json()["id"]
    counted = await client.post(f"/evaluators/{made}/backfills", json={"dry_run": True}, headers=blind)
    assert counted.status_code == 403


async def test_evaluators_are_written_by_those_who_may_read(client: httpx.AsyncClient, small: Database) -> None:
    reader, writer, admin = (make_key(small, scope) for scope in ("read", "write", "admin"))
    path = f"/evaluators/{(await client.post('/evaluators', json=dict(CHECK))).json()['id']}"
    for key in (reader, writer):
        for method, where in (("POST", "/evaluators"), ("PUT", path), ("PATCH", path)):
            refused = await client.request(method, where, json=dict(CHECK), headers=key)
            assert (refused.status_code, refused.json()["required_scopes"]) == (403, ["write", "read"])
    assert (await client.patch(path, json={"enabled": False}, headers=admin)).status_code == 200
    described = (await client.get("/openapi.json")).json()["paths"]["/evaluators"]["post"]["description"]
    assert described == "Scope: write and read."


async def test_history_is_estimated_before_it_is_asked_for(client: httpx.AsyncClient, small: Database) -> None:
    put(small, *some(4))
    evaluator_id = (await client.post("/evaluators", json=dict(CHECK))).json()["id"]
    period = {"from": "2020-01-01", "to": "2030-01-01"}
    dry = await client.post(f"/evaluators/{evaluator_id}/backfills", json={**period, "dry_run": True})
    assert (dry.status_code, dry.json()["runs"]) == (200, 4)
    again = await client.post(f"/evaluators/{evaluator_id}/repeats", json={"targets": 5})
    assert (again.status_code, again.json()) == (200, {"asked": 0})  # it has judged nothing yet
    for wrong in ({"times": 0}, {"targets": 100_000}, {"often": 2}):
        assert (await client.post(f"/evaluators/{evaluator_id}/repeats", json=wrong)).status_code == 400
    made = await client.post(f"/evaluators/{evaluator_id}/backfills", json=period)
    assert (made.status_code, made.json()["status"]) == (201, "running")


async def test_scores_fit_the_config_of_their_name(client: httpx.AsyncClient, small: Database) -> None:
    (turn,) = some(1)
    put(small, turn)
    ready = (await client.get("/score-configs")).json()["data"]
    assert [(config["name"], config["categories"]) for config in ready] == [("verdict", ["good", "bad", "unsure"])]
    config = {"name": "stars", "data_type": "numeric", "min": 1, "max": 5}
    assert (await client.post("/score-configs", json=config)).status_code == 201
    score = {"trace_id": turn.id, "name": "stars"}
    assert (await client.post("/scores", json={**score, "value": 7})).status_code == 400
    assert (await client.post("/scores", json={**score, "value": "many"})).status_code == 400
    assert (await client.post("/scores", json={**score, "value": 4})).status_code == 201
    assert (await client.post("/score-configs", json={**config, "max": None, "min": None})).status_code == 200
    assert (await client.post("/scores", json={**score, "value": 7})).status_code == 201
    assert (await client.delete("/score-configs/stars")).status_code == 200


async def test_a_turn_is_found_by_the_hosts_own_id_but_not_by_a_public_key(
    client: httpx.AsyncClient, small: Database
) -> None:
    public = make_key(small, "feedback")
    (turn,) = some(1, request_id="order-77")
    put(small, turn)
    score = {"request_id": "order-77", "name": "thumbs", "value": True}
    answer = await client.post("/scores", json=score)
    assert (answer.status_code, answer.json()["turn_id"]) == (201, turn.id)
    refused = await client.post("/scores", json=score, headers=public)
    assert refused.status_code == 403
    put(small, *some(1, request_id="order-77"))
    assert (await client.post("/scores", json=score)).status_code == 409


async def test_items_are_scored_by_their_ids(client: httpx.AsyncClient, small: Database) -> None:
    with small.write() as c:
        c.exec_driver_sql(
            "INSERT INTO turntrace_dataset_item (id, dataset_id, item_key, input, from_version, user_id, created_at_us,"
            " updated_at_us) VALUES ('i1', 'd1', 'k', '{}', 1, 'bo', 1, 1)"
        )
    answer = await client.post("/scores", json={"dataset_item_id": "i1", "name": "hard", "value": True})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["dataset_item_id"], answer.json()["user_id"]) == ("i1", "bo")
