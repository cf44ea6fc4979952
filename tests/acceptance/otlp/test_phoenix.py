"""Turns sent on to a real Phoenix server, in an environment of its own (`make test-long`)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.otlp.test_export import Place, Trace
from tests.acceptance.servers import free_port, offline_model, serve, wait_until

pytestmark = pytest.mark.timeout(1200)
KINDS = {"generation": "LLM", "retrieval": "RETRIEVER", "reranker": "RERANKER", "tool": "TOOL", "agent": "AGENT"}
TOKENS = {"input": "prompt", "output": "completion", "cache_read": "prompt_details.cache_read"}


def phoenix_command(home: Path) -> list[str]:
    """The server's command, installed where it is not yet."""
    place = Path(os.environ.get("TURNTRACE_TEST_ENVIRONMENTS") or home) / "phoenix"
    if not (place / "bin" / "phoenix").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "arize-phoenix>=20,<21"], check=True, timeout=900)
    return [str(place / "bin" / "phoenix"), "serve"]


@pytest.fixture
def phoenix(tmp_path: Path) -> Iterator[str]:
    home, port = tmp_path / "phoenix", free_port()
    home.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith("PHOENIX_")}
    env |= {"PHOENIX_WORKING_DIR": str(home), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_TELEMETRY_ENABLED": "false"}
    env |= {"PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port())}
    command = phoenix_command(tmp_path)
    url = f"http://127.0.0.1:{port}"
    with serve(command, env, url, home / "log", path="/healthz", start_seconds=300) as server:
        yield server.url


def spans_at(phoenix: str, trace_id: str) -> list[dict[str, Any]]:
    """What Phoenix has of a trace."""
    found = httpx.get(f"{phoenix}/v1/projects/default/spans", params={"limit": 1000}).json().get("data", ())
    return [span for span in found if span["context"]["trace_id"] == trace_id]


def differences(spans: list[dict[str, Any]], turn: Trace) -> list[str]:
    """Where Phoenix tells something else about the steps of a turn than we do."""
    by_id = {span["context"]["span_id"]: span for span in spans}
    (top,) = [span_id for span_id, span in by_id.items() if span["parent_id"] is None]
    parents = {item["id"]: item["span_id"] for item in turn["observations"]}
    problems = []
    for item in turn["observations"]:
        span = by_id[item["span_id"]]
        stated = span["attributes"]
        wanted = {
            "kind": (span["span_kind"], KINDS[item["type"]]),
            "parent": (span["parent_id"], parents.get(item["parent_id"], top)),
            "session": (stated.get("session.id"), turn["session_id"]),
            "model": (stated.get("llm.model_name"), item["model"]),
        }
        for ours, theirs in TOKENS.items():
            wanted[ours] = (stated.get(f"llm.token_count.{theirs}"), (item["usage"] or {}).get(ours))
        problems += [
            f"{item['name']}: {name} {got!r}, not {want!r}" for name, (got, want) in wanted.items() if got != want
        ]
    return problems


def shown(phoenix: str, trace_id: str, *, count: int = 1) -> list[dict[str, Any]]:
    """Spans of a trace, as soon as there are so many."""

    def look() -> list[dict[str, Any]]:
        found = spans_at(phoenix, trace_id)
        return found if len(found) >= count else []

    return wait_until(look, seconds=60, what=f"{count} spans of {trace_id} at Phoenix")


def test_phoenix_shows_the_turn_as_we_do(phoenix: str, tmp_path: Path) -> None:
    with offline_model(tmp_path / "model.log") as model, ExitStack() as stack:
        place = Place(tmp_path / "here", model)
        place.send_to_url(f"{phoenix}/v1/traces", name="phoenix")
        place.run(stack)
        asked = [place.ask(path, "s-phoenix") for path in ("/ask", "/research", "/chat")]
        for trace_id in asked:
            shown(phoenix, trace_id)  # it is over, then
            turn = place.trace(trace_id)
            spans = shown(phoenix, trace_id, count=len(turn["observations"]) + 1)
            (top,) = [span for span in spans if span["parent_id"] is None]
            assert (top["name"], top["span_kind"]) == (f"POST {turn['route']}", "CHAIN")
            assert top["attributes"]["input.value"] == turn["input"]
            assert top["attributes"]["output.value"] == turn["output"]
            assert differences(spans, turn) == []
    (session,) = httpx.get(f"{phoenix}/v1/projects/default/sessions").json()["data"]
    assert session["session_id"] == "s-phoenix"
    assert {trace["trace_id"] for trace in session["traces"]} == set(asked)
