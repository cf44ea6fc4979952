"""1,000 turns at concurrency 32 through the example app: nothing lost, everything readable soon after its answer."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from example_app.knowledge_base import passages
from tests.acceptance.servers import (
    Api,
    Server,
    api_key,
    environment,
    gunicorn,
    is_balanced,
    offline_model,
    turntrace,
    uvicorn,
    wait_until,
)

pytestmark = pytest.mark.alone

TURNS = 1000
CONCURRENCY = 32
READABLE_SECONDS = 5.0 if os.environ.get("CI") else 2.0


@dataclass(frozen=True)
class Asked:
    """One turn as its client saw it."""

    trace_id: str
    path: str
    question: str
    answered_at: float


@pytest.fixture(scope="module")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = {"OFFLINE_SECONDS_PER_TOKEN": "0", "OFFLINE_FAILURE_RATE": "0", "OFFLINE_SLOW_RATE": "0"}
    with offline_model(tmp_path_factory.mktemp("model") / "log", **options) as url:
        yield url


def ask(client: httpx.Client, number: int) -> Asked:
    """One question, in turn over a streaming and two other routes."""
    path = ("/chat", "/ask", "/research")[number % 3]
    question = passages()[number % len(passages())].question
    headers = {"X-Session-Id": f"s-{number // 5}", "X-User-Id": f"user-{number % 40}"}
    response = client.post(path, json={"question": question}, headers=headers)
    assert response.status_code == 200, response.text[:300]
    return Asked(response.headers["x-trace-id"], path, question, time.monotonic())


def drive(url: str) -> list[Asked]:
    """All turns, `CONCURRENCY` at a time."""
    limits = httpx.Limits(max_connections=CONCURRENCY)
    with httpx.Client(base_url=url, timeout=60, limits=limits) as client, ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(lambda number: ask(client, number), range(TURNS)))


def assert_all_readable(api: Api, asked: list[Asked]) -> None:
    """Every trace id answers, the last ones within the promised time of their response."""
    last = max(asked, key=lambda turn: turn.answered_at)
    wait_until(lambda: api.status(f"/traces/{last.trace_id}") == 200, seconds=READABLE_SECONDS, what="the last turn")
    # Side by side: under several processes uvicorn's connections wait for delayed acknowledgements, 40 ms an answer.
    with ThreadPoolExecutor(CONCURRENCY // 2) as pool:
        assert all(pool.map(lambda turn: _is_readable(api, turn), asked))


def _is_readable(api: Api, turn: Asked) -> bool:
    return wait_until(
        lambda: api.status(f"/traces/{turn.trace_id}") == 200, seconds=READABLE_SECONDS, what=turn.trace_id
    )


def assert_tree(api: Api, turn: Asked) -> None:
    """The turn has exactly its observations, rightly nested."""
    trace = api.get(f"/traces/{turn.trace_id}")
    names = {o["id"]: o["name"] for o in trace["observations"]}
    tree = sorted((o["name"], o["type"], names.get(o["parent_id"])) for o in trace["observations"])
    plain = [("answer", "generation", None), ("kb-search", "retrieval", None), ("rerank", "reranker", None)]
    agent = [
        ("answer", "generation", "research-agent"),
        ("choose-tool", "generation", "research-agent"),
        ("kb-search", "retrieval", "research-agent"),
        ("open_article", "tool", "research-agent"),
        ("rerank", "reranker", "research-agent"),
        ("research-agent", "agent", None),
    ]
    assert tree == (agent if turn.path == "/research" else plain)
    assert json.dumps(turn.question)[1:20] in json.dumps(trace["input"])


def assert_nothing_lost(api: Api, turns: int) -> None:
    """The balance is exact and nothing was dropped."""
    loss = wait_until(
        lambda: next((found for found in [api.loss()] if found["stored"] >= turns and is_balanced(found)), None),
        seconds=15,
        what="a quiet balance",
    )
    assert loss == {"accepted": turns, "stored": turns, "sampled": 0, "erased": 0, "dropped": {}, "in_spool": 0}


def check(server: Server) -> None:
    """Warm up with one turn, drive the rest, then look."""
    with Api(server.url, api_key(server.env, "read")) as api:
        check_with(api, server)


def check_with(api: Api, server: Server) -> None:
    """Drive and look through this key."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        first = ask(client, 0)
    wait_until(lambda: api.status(f"/traces/{first.trace_id}") == 200, seconds=30, what="the first turn of all")
    asked = drive(server.url)
    assert_all_readable(api, asked)
    assert_nothing_lost(api, TURNS + 1)
    for turn in asked[:60]:
        assert_tree(api, turn)


def test_a_thousand_turns_under_uvicorn_with_four_workers(model_url: str, tmp_path: Path) -> None:
    env = environment(tmp_path, f"sqlite:///{tmp_path / 'turntrace.db'}") | {"OPENAI_BASE_URL": model_url}
    turntrace(env, "db", "upgrade")
    with uvicorn("example_app.fastapi_app:app", env, tmp_path / "log", workers=4) as server:
        check(server)


def test_a_thousand_turns_on_flask_under_gunicorn_with_preload(model_url: str, tmp_path: Path) -> None:
    env = environment(tmp_path, f"sqlite:///{tmp_path / 'turntrace.db'}") | {"OPENAI_BASE_URL": model_url}
    turntrace(env, "db", "upgrade")
    with gunicorn("example_app.flask_app:app", env, tmp_path / "log") as server:
        check(server)
