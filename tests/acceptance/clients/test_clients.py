"""Current client libraries, each in a FastAPI turn: one trace, the right tree, usage and cost counted once."""

from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.clients.provider import Provider
from tests.acceptance.clients.serving import served
from tests.acceptance.clients.turns import USAGE, Turns, calls, counted, tree
from tests.acceptance.servers import Api, api_key, environment, turntrace, uvicorn


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turns]:
    home = tmp_path_factory.mktemp("clients")
    env = environment(home, f"sqlite:///{home / 'turntrace.db'}", worker="thread", redaction="off", content="full")
    turntrace(env, "db", "upgrade")
    key = api_key(env, "read")
    with served(Provider().app) as provider:
        env["PROVIDER_URL"] = provider
        env["ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE"] = "content"
        app = "tests.acceptance.clients.apps.everything:app"
        with uvicorn(app, env, home / "log") as server, Api(server.url, key) as api:
            yield Turns(server, api)


def test_it_says_what_it_found(turns: Turns) -> None:
    said = httpx.get(turns.server.url + "/instrumented").json()
    assert sorted(said) == [
        "anthropic: on by itself",
        "mcp: on by itself",
        "openai: on by turntrace",
        "pydantic-ai: on by itself",
    ]


def test_openai(turns: Turns) -> None:
    turn = turns.turn("/openai")
    assert tree(turn) == [
        ("generation", "chat gpt-4o-mini", None),
        ("embedding", "embeddings text-embedding-3-small", None),
        ("generation", "chat gpt-4o-mini", None),
    ]
    whole, embedding, stream = turn["observations"]
    assert (counted(whole), counted(embedding), counted(stream)) == (USAGE, {"input": 7}, USAGE)
    assert stream["ttft_ms"] is not None
    assert all(float(item["cost"]["total"]) > 0 for item in calls(turn))


def test_anthropic(turns: Turns) -> None:
    turn = turns.turn("/anthropic")
    assert [kind for kind, _, _ in tree(turn)] == ["generation", "generation"]
    for item in calls(turn):
        assert counted(item) == {"input": 100, "output": 10, "cache_read": 64, "cache_write": 0}
        assert (item["provider"], item["finish_reasons"]) == ("anthropic", ["stop"])
        assert "vinegar" in str(item["output"])
        assert float(item["cost"]["total"]) > 0


def test_pydantic_ai(turns: Turns) -> None:
    turn = turns.turn("/pydantic-ai")
    assert [kind for kind, _, _ in tree(turn)] == ["agent", "generation", "tool", "generation"]
    agent = turn["observations"][0]
    assert {item["parent_id"] for item in turn["observations"][1:]} == {agent["id"]}
    assert [counted(item)["input"] for item in calls(turn)] == [100, 100]
    assert turn["usage"]["input"] == 200
    assert agent["agent_name"] == "helper"


def test_mcp(turns: Turns) -> None:
    turn = turns.turn("/mcp")
    (call,) = calls(turn)
    tools = [item for item in turn["observations"] if item["type"] == "tool"]
    assert {item["tool_name"] for item in tools} == {"look_up"}
    assert counted(call) == USAGE
    assert len({item["trace_id"] for item in turn["observations"]}) == 1
