"""Closed by default: keys, scopes, revocation, origins."""

import httpx
import pytest

from tests.integration.api.conftest import ORIGIN, client_of, make_key
from tests.integration.turns import START_US, store, turn
from turntrace import api
from turntrace.api.access import RecentKeys
from turntrace.storage import keys
from turntrace.storage.database import Database

pytestmark = pytest.mark.anyio
PATHS = [
    (endpoint.method, endpoint.path.replace(":path", "").replace("{", "").replace("}", ""), endpoint)
    for endpoint in api.ENDPOINTS
]


async def test_without_a_key_everything_but_health_answers_401(stranger: httpx.AsyncClient) -> None:
    for method, path, endpoint in PATHS:
        answer = await stranger.request(method, path)
        assert answer.status_code == (401 if endpoint.scopes else 200), path
    for path in ("/", "/nothing", "/traces/", "/openapi.json/x", "/HEALTH"):
        assert (await stranger.get(path)).status_code == 401, path
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert (await stranger.request(method, "/traces")).status_code == 401, method
    assert (await stranger.request("POST", "/health")).status_code == 401


async def test_a_refusal_says_what_to_do(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/traces")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "turntrace keys create" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["", "Basic eDp5", "Bearer", "Bearer ", "Bearer ttk_x_y", "bearer " + "a" * 5000])
async def test_other_credentials_are_no_key(stranger: httpx.AsyncClient, text: str) -> None:
    assert (await stranger.get("/traces", headers={"Authorization": text})).status_code == 401


async def test_each_call_needs_one_of_its_scopes(small: Database) -> None:
    clients = {scope: client_of(small, **make_key(small, scope)) for scope in keys.SCOPES}
    for method, path, endpoint in PATHS:
        for scope, client in clients.items():
            answer = await client.request(method, path)
            has_all = scope in endpoint.scopes and {scope} >= {*endpoint.besides}
            is_allowed = not endpoint.scopes or scope == "admin" or has_all
            assert (answer.status_code != 403) == is_allowed, (method, path, scope)
            assert answer.status_code != 401


async def test_a_missing_scope_is_named(small: Database) -> None:
    async with client_of(small, **make_key(small, "feedback")) as client:
        problem = (await client.get("/traces")).json()
    assert (problem["status"], problem["required_scopes"]) == (403, ["read"])


async def test_a_revoked_or_expired_key_is_refused_within_the_promised_time(small: Database) -> None:
    clock = [0.0]
    check = keys.KeyCheck(small, clock=lambda: clock[0], wall=lambda: START_US)
    with small.write() as c:
        made = keys.create(c, name="k", scopes=("read",), now_us=START_US)
        old = keys.create(c, name="old", scopes=("read",), now_us=START_US, expires_at_us=START_US)
    assert check.find(made.key) is not None
    assert check.find(old.key) is None
    with small.write() as c:
        keys.revoke(c, made.id, now_us=START_US)
    clock[0] = keys.FRESH_SECONDS
    assert check.find(made.key) is None


def test_a_key_is_believed_half_a_second_without_another_look() -> None:
    clock = [0.0]
    recent = RecentKeys(lambda: clock[0])
    key = keys.ApiKey(id="a", name="n", scopes=("read",), created_at_us=START_US)
    recent.put("ttk_a_b", key)
    recent.put("ttk_a_wrong", None)
    assert (recent.get("ttk_a_b"), recent.get("ttk_a_wrong"), recent.get("ttk_a_c")) == (key, None, None)
    clock[0] = 5.0 - keys.FRESH_SECONDS - 0.5
    assert recent.get("ttk_a_b") is None


async def test_head_is_answered_like_get(client: httpx.AsyncClient) -> None:
    assert (await client.head("/traces")).status_code == 200


async def test_another_method_names_the_allowed_ones(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/scores")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert (await client.get("/nothing")).status_code == 404


async def test_only_configured_origins_may_send_scores(small: Database) -> None:
    stored = turn()
    store(small, stored)
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    async with client_of(small, **make_key(small, "feedback")) as client:
        preflight = await client.options("/scores", headers=ask)
        body = {"name": "thumbs", "value": True, "trace_id": stored.trace_id}
        sent = await client.post("/scores", json=body, headers={"Origin": ORIGIN})
        foreign = await client.post("/scores", json=body, headers={"Origin": "https://evil.example"})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert (sent.status_code, sent.headers["access-control-allow-origin"], sent.headers["vary"]) == (
        201,
        ORIGIN,
        "Origin",
    )
    assert "access-control-allow-origin" not in foreign.headers
    async with client_of(small) as stranger:
        assert (await stranger.options("/scores", headers={**ask, "Origin": "https://evil.example"})).status_code == 401
        elsewhere = await stranger.options("/traces", headers={**ask, "Access-Control-Request-Method": "GET"})
        refused = await stranger.post("/scores", headers={"Origin": ORIGIN})
    assert elsewhere.status_code == 401
    assert "access-control-allow-origin" not in elsewhere.headers
    # a front end must be able to read why
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)


async def test_answers_are_not_cached_and_not_sniffed(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/traces")).headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
