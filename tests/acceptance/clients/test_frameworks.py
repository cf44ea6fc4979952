"""Frameworks that bring many packages with them, each in an environment of its own (`make test-long`).

`TURNTRACE_TEST_ENVIRONMENTS` names a directory where the environments are kept between runs.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.clients.provider import Provider
from tests.acceptance.clients.serving import served
from tests.acceptance.clients.turns import USAGE, Turns, calls, counted, tree
from tests.acceptance.servers import ROOT, Api, api_key, environment, free_port, serve, turntrace

PACKAGES = {
    "langchain": ["langchain", "langgraph", "langchain-openai", "openinference-instrumentation-langchain"],
    "llama_index": [
        *("llama-index-core", "llama-index-llms-openai", "openinference-instrumentation-llama-index"),
    ],
    "openai_agents": ["openai-agents", "openinference-instrumentation-openai-agents"],
    "langfuse": ["langfuse", "openai"],
    "genai_openai": ["openai", "opentelemetry-instrumentation-genai-openai"],
}
pytestmark = pytest.mark.timeout(1200)


def python_with(library: str, home: Path) -> Path:
    """An interpreter with Turntrace, a server and one library."""
    place = Path(os.environ.get("TURNTRACE_TEST_ENVIRONMENTS") or home) / library
    if not (place / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-e", str(ROOT), "fastapi", "uvicorn", *PACKAGES[library]], check=True, timeout=900)
    return place / "bin" / "python"


@contextmanager
def running(library: str, home: Path) -> Iterator[Turns]:
    """The application of one library under its own interpreter."""
    python = python_with(library, home / "environments")
    env = environment(
        home,
        f"sqlite:///{home / 'turntrace.db'}",
        worker="thread",
        redaction="off",
        content="full",
        stream_usage_hosts="127.0.0.1",
    )
    turntrace(env, "db", "upgrade")
    key = api_key(env, "read")
    env["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
    port = free_port()
    with served(Provider().app) as provider:
        env |= {"PROVIDER_URL": provider, "LANGFUSE_HOST": provider, "OPENAI_API_KEY": ""}
        env |= {"LANGFUSE_PUBLIC_KEY": "p", "LANGFUSE_SECRET_KEY": "s"}
        target = f"tests.acceptance.clients.apps.{library}:app"
        command = [str(python), "-m", "uvicorn", target, "--port", str(port), "--log-level", "warning"]
        with serve(command, env, f"http://127.0.0.1:{port}", home / "log") as server, Api(server.url, key) as api:
            yield Turns(server, api)


def found(turns: Turns) -> set[str]:
    return set(httpx.get(turns.server.url + "/instrumented").json())


def test_langchain_and_langgraph(tmp_path: Path) -> None:
    with running("langchain", tmp_path) as turns:
        assert found(turns) == {"langchain: on by openinference-instrumentation-langchain", "openai: on by turntrace"}
        turn = turns.turn("/agent")
        assert tree(turn) == [
            ("chain", "helper", None),
            ("chain", "model", "helper"),
            ("generation", "ChatOpenAI", "model"),
            ("chain", "tools", "helper"),
            ("tool", "find", "tools"),
            ("chain", "model", "helper"),
            ("generation", "ChatOpenAI", "model"),
        ]
        assert [counted(item) for item in calls(turn)] == [USAGE, USAGE]
        assert turn["cost"]["total"] == "0.0000324"
        (stream,) = turns.turn("/stream")["observations"]
        assert counted(stream) == USAGE
        assert stream["ttft_ms"] is not None


def test_llama_index(tmp_path: Path) -> None:
    with running("llama_index", tmp_path) as turns:
        turn = turns.turn("/agent")
        assert [counted(item) for item in calls(turn)] == [USAGE, USAGE]
        assert turn["cost"]["total"] == "0.0000324"
        roots = {name for kind, name, parent in tree(turn) if parent is None}
        assert roots == {"FunctionAgent.run"}
        assert [kind for kind, _, _ in tree(turn)].count("tool") == 1
        (stream,) = calls(turns.turn("/stream"))
        assert counted(stream) == USAGE


def test_openai_agents(tmp_path: Path) -> None:
    with running("openai_agents", tmp_path) as turns:
        turn = turns.turn("/agent")
        assert len(calls(turn)) == 2
        assert (turn["usage"]["input"], turn["usage"]["output"], turn["usage"]["cache_read"]) == (200, 20, 128)
        assert turn["cost"]["total"] == "0.0000324"
        kinds = [kind for kind, _, _ in tree(turn)]
        assert (kinds.count("tool"), "agent" in kinds) == (1, True)
        assert len([1 for _, _, parent in tree(turn) if parent is None]) == 1
        assert len(calls(turns.turn("/stream"))) == 1


def test_langfuse(tmp_path: Path) -> None:
    with running("langfuse", tmp_path) as turns:
        for path in ("/agent", "/drop-in"):
            turn = turns.turn(path)
            (call,) = calls(turn)
            assert tree(turn)[:2] == [("agent", "answer", None), ("retrieval", "search", "answer")]
            assert tree(turn)[2][::2] == ("generation", "answer")
            assert counted(call) == USAGE
            assert turn["cost"]["total"] == "0.0000162"


def test_openai_with_the_official_instrumentation(tmp_path: Path) -> None:
    with running("genai_openai", tmp_path) as turns:
        assert found(turns) == {"openai: on by opentelemetry-instrumentation-genai-openai"}
        turn = turns.turn("/agent")
        assert [item["type"] for item in turn["observations"]] == ["generation", "generation"]
        assert [counted(item) for item in calls(turn)] == [USAGE, USAGE]
        assert "vinegar" in str(turn["observations"][0]["output"])
