"""A turn that calls a second service, leaves a task to a queue and calls an MCP tool: one trace, page and session."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.servers import ROOT, Api, api_key, environment, turntrace, uvicorn, wait_until

APPS = "tests.acceptance.borders.apps"
PASSWORD = "a long enough password"


@contextmanager
def celery(env: dict[str, str], log: Path) -> Iterator[None]:
    """A worker of the queue; messages wait for it in their folder."""
    command = [sys.executable, "-m", "celery", "--app", f"{APPS}:tasks", "worker", "--pool", "solo"]
    with log.open("ab") as output:
        process = subprocess.Popen([*command, "--loglevel", "warning"], env=env, cwd=ROOT, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Api, str]]:
    """The shop after one order: its address, its API and the W3C trace id of the order."""
    home = tmp_path_factory.mktemp("borders")
    (home / "broker").mkdir()
    env = environment(home, f"sqlite:///{home / 'turntrace.db'}", panel_user="admin", panel_password=PASSWORD)
    env["BROKER_FOLDER"] = str(home / "broker")
    turntrace(env, "db", "upgrade")
    with (
        uvicorn(f"{APPS}:stock", {**env, "TURNTRACE_SERVICE_NAME": "stock"}, home / "stock.log") as stock,
        uvicorn(
            f"{APPS}:shop", {**env, "TURNTRACE_SERVICE_NAME": "shop", "STOCK_URL": stock.url}, home / "shop.log"
        ) as shop,
        celery({**env, "TURNTRACE_SERVICE_NAME": "queue"}, home / "celery.log"),
        Api(shop.url, api_key(env, "read")) as api,
    ):
        answer = httpx.post(f"{shop.url}/order", timeout=120)
        assert answer.json() == {"count": 3}, (home / "shop.log").read_text()[-3000:]
        trace_id = answer.headers["x-trace-id"]

        def is_whole() -> bool:
            if api.status(f"/traces/{trace_id}") != 200:
                return False
            found = api.get(f"/traces/{trace_id}")
            return len(found["turn_ids"]) == 5 and len(found["observations"]) == 8

        wait_until(is_whole, seconds=120, what=f"five turns under {trace_id}; see {home}")
        yield shop.url, api, trace_id


def test_it_is_one_trace_whose_steps_hang_below_their_callers(site: tuple[str, Api, str]) -> None:
    _, api, trace_id = site
    trace = api.get(f"/traces/{trace_id}")
    steps: dict[str, Any] = {}
    for step in trace["observations"]:
        assert step["trace_id"] == trace_id
        steps.setdefault(step["name"], []).append(step)
    names = {step["id"]: step["name"] for step in trace["observations"]}
    parents = {name: sorted(str(names.get(step["parent_id"])) for step in found) for name, found in steps.items()}
    assert parents == {
        "ask-stock": ["None"],
        "guess": ["None", "ask-stock"],
        "leave-a-task": ["None"],
        "summary": ["leave-a-task"],
        "ask-weather": ["None"],
        "weather": ["ask-weather"],
        "look": ["weather"],
    }
    assert trace["usage"]["input"] == 11 + 11 + 13 + 17


def test_all_of_it_has_one_session_user_and_tags(site: tuple[str, Api, str]) -> None:
    _, api, trace_id = site
    turns = [api.get(f"/traces/{turn_id}") for turn_id in api.get(f"/traces/{trace_id}")["turn_ids"]]
    same = ("session_id", "user_id", "feature", "experiment", "tags")
    assert {json.dumps({name: turn[name] for name in same}) for turn in turns} == {
        json.dumps(
            {"session_id": "s-77", "user_id": "u-77", "feature": "orders", "experiment": "b", "tags": ["plan:pro"]}
        )
    }
    (session,) = api.get("/sessions")["data"]
    assert (session["id"], session["trace_count"]) == ("s-77", 5)


def test_it_is_shown_nested_on_one_page(site: tuple[str, Api, str]) -> None:
    url, _, trace_id = site
    with httpx.Client(base_url=f"{url}/llm-admin", follow_redirects=True, timeout=60) as client:
        token = re.search(r'name="csrf[^"]*" value="([^"]+)"', client.get("/login").text)
        assert token is not None
        name = re.search(r'name="(csrf[^"]*)"', client.get("/login").text)
        assert name is not None
        form = {name[1]: token[1], "username": "admin", "password": PASSWORD}
        assert client.post("/login", data=form, headers={"origin": url}).status_code == 200
        page = client.get(f"/traces/{trace_id}")
        assert page.status_code == 200
        rows = re.findall(r'class="wf-name(?: d(\d+))?">.*?label-text">(.*?)<', page.text, re.DOTALL)
        shown = [(int(depth or 0), unescape(label)) for depth, label in rows]
        assert shown == [
            (0, "POST /order"),
            (1, "ask-stock"),
            (2, "GET /stock/{item}"),
            (3, "guess"),
            (1, "GET /stock/{item}"),
            (2, "guess"),
            (1, "leave-a-task"),
            (2, "shop.remember"),
            (3, "summary"),
            (1, "ask-weather"),
            (2, "tools/call weather"),
            (3, "weather"),
            (4, "look"),
        ]
        assert set(re.findall(r'href="[^"]*/sessions/([^"?#]+)', page.text)) == {"s-77"}
        (turn,) = set(re.findall(r'href="([^"]*/traces/[0-9a-f]{32}\?observation=turn)"', page.text)[:1])
        alone = client.get(f"{url}{turn}")
        assert "One of 5 turns in this trace" in alone.text
