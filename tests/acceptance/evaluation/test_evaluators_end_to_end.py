"""The example with its three evaluators on real servers; and thumbs from a web page of another origin."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from example_app.evaluators import install, make_table
from example_app.knowledge_base import passages
from tests.acceptance.panel.conftest import chromium
from tests.acceptance.servers import ROOT, Api, api_key, environment, free_port, offline_model, uvicorn, wait_until

TURNS = 12
NAMES = {"unsupported_claim", "groundedness", "hallucination"}


@dataclass
class Site:
    """The example on its servers, with `TURNS` turns that were asked after the evaluators were there."""

    url: str
    env: dict[str, str]
    origin: str
    trace_ids: list[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home, port = tmp_path_factory.mktemp("evaluators"), free_port()
    make_table(home / "answers.db")
    options = {"OFFLINE_SECONDS_PER_TOKEN": "0", "OFFLINE_FAILURE_RATE": "0", "OFFLINE_SLOW_RATE": "0"}
    with offline_model(home / "model.log", **options) as model_url:
        env = environment(
            home,
            f"sqlite:///{home / 'turntrace.db'}",
            judge_allowed_hosts="127.0.0.1",
            evaluator_functions="example_app.evaluators:hallucinated",
            evaluator_database_url=f"sqlite:///{home / 'answers.db'}",
            cors_origins=f"http://127.0.0.1:{port}",
        )
        env["OPENAI_BASE_URL"] = model_url
        with uvicorn("example_app.fastapi_app:app", env, home / "app.log") as server:
            httpx.get(f"{server.url}/llm-admin/login", timeout=60)
            install(f"{server.url}/llm-admin", api_key(env, "read", "write"), model_url)
            trace_ids = [_ask(server.url, number) for number in range(TURNS)]
            yield Site(server.url, env, f"http://127.0.0.1:{port}", trace_ids)


def _ask(url: str, number: int) -> str:
    body = {"question": passages()[number].question}
    answer = httpx.post(f"{url}/ask", json=body, headers={"X-Session-Id": f"s{number}"}, timeout=60)
    assert answer.status_code == 200
    return answer.headers["x-trace-id"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from chromium()


def test_three_evaluators_score_what_arrives_and_the_judges_runs_are_apart(site: Site) -> None:
    with Api(site.url, api_key(site.env, "read")) as reader:

        def judged() -> list[dict[str, Any]] | None:
            found = reader.get("/scores", source="evaluator", limit=1000)["data"]
            by_name = {name: {s["trace_id"] for s in found if s["name"] == name} for name in NAMES}
            is_whole = len(by_name["unsupported_claim"]) == len(by_name["groundedness"]) == TURNS
            return found if is_whole and by_name["hallucination"] else None

        scores = wait_until(judged, seconds=90, what="every turn is judged")
        assert {score["evaluator_version"] for score in scores} == {1}
        assert all(score["comment"] for score in scores)
        runs = wait_until(
            lambda: _if_whole(reader.get("/traces", environment="turntrace-evaluation", limit=1000)["data"]),
            seconds=60,
            what="the judge's runs are stored",
        )
        run = reader.get(f"/traces/{runs[0]['id']}")
        (call,) = [item for item in run["observations"] if item["type"] == "generation"]
        assert (call["model"], call["status"]) == ("offline-lexical-judge", "ok")
        assert run["tags"][0].startswith("evaluator:")
        # Nobody judges the judge.
        assert not any(score["turn_id"] in {item["id"] for item in runs} for score in scores)
        costs = reader.get("/costs", group_by="environment")["data"]
        assert {row["environment"] for row in costs} == {"default", "turntrace-evaluation"}


def _if_whole(runs: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return runs if len(runs) == TURNS else None


@pytest.mark.browser
def test_thumbs_come_from_a_page_of_another_origin_with_a_key_that_reads_nothing(site: Site, browser: Browser) -> None:
    key = api_key(site.env, "feedback")
    api = f"{site.url}/llm-admin/api/v1"
    with _page_server(ROOT / "docs" / "examples", int(site.origin.rpartition(":")[2])):
        page = browser.new_page()
        page.goto(f"{site.origin}/feedback.html?api={api}&key={key}&trace_id={site.trace_ids[0]}")
        page.get_by_text("Not helpful").click()
        page.get_by_text("Thank you").wait_for(timeout=60_000)
        status = page.evaluate(
            "([api, key]) => fetch(`${api}/scores`, {headers: {Authorization: `Bearer ${key}`}})"
            ".then((answer) => answer.status, () => 'refused')",
            [api, key],
        )
        page.close()
    assert status in (403, "refused")  # by the server, or by the browser that may not even ask
    denied = httpx.get(f"{api}/scores", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    assert denied.status_code == 403
    with Api(site.url, api_key(site.env, "read")) as reader:
        (score,) = reader.get("/scores", trace_id=site.trace_ids[0], source="user")["data"]
    assert (score["name"], score["value"]) == ("thumbs", False)


class _page_server:
    """Serves a folder on a port: another origin."""

    def __init__(self, folder: Path, port: int) -> None:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
