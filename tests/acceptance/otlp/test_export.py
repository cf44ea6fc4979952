"""Two applications that send each other all their turns: the same observations at both, and no turn goes in circles."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.servers import (
    Api,
    Server,
    api_key,
    environment,
    free_port,
    is_balanced,
    offline_model,
    serve,
    turntrace,
    wait_until,
)

ARRIVAL_SECONDS = 60.0
Trace = dict[str, Any]


class Place:
    """One of the two applications: its own database, spool and keys; it may not run yet."""

    def __init__(self, home: Path, model: str) -> None:
        home.mkdir()
        self.port, self._log = free_port(), home / "log"
        self.env = environment(home, f"sqlite:///{home / 'turntrace.db'}", export_allowed_hosts="127.0.0.0/8")
        self.env |= {"OPENAI_BASE_URL": model, "TURNTRACE_SERVICE_NAME": home.name, "TURNTRACE_EXPORT_TO": "[]"}
        turntrace(self.env, "db", "upgrade")
        self.ingest, self.read = api_key(self.env, "ingest"), api_key(self.env, "read")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send_to(self, other: "Place") -> None:
        headers = {"Authorization": f"Bearer {other.ingest}"}
        self.send_to_url(f"{other.url}/llm-admin/otlp/v1/traces", name="other", headers=headers)

    def send_to_url(self, url: str, **options: Any) -> None:
        self.env["TURNTRACE_EXPORT_TO"] = json.dumps([{"url": url, "content": True, **options}])

    def run(self, stack: ExitStack) -> Server:
        command = [sys.executable, "-m", "uvicorn", "example_app.fastapi_app:app", "--port", str(self.port)]
        return stack.enter_context(serve([*command, "--log-level", "warning"], self.env, self.url, self._log))

    def ask(self, path: str, session: str) -> str:
        """A turn; answers its W3C trace id."""
        asked = {"question": "Can I bring a blender back, write to bo@example.com?", "feature": "help"}
        answer = httpx.post(f"{self.url}{path}", json=asked, headers={"X-Session-Id": session}, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-trace-id"]

    def trace(self, trace_id: str, *, steps: int = 1) -> Trace:
        """What is stored under a W3C trace id, as soon as it has so many steps."""

        def look() -> Trace | None:
            with Api(self.url, self.read) as api:
                if api.status(f"/traces/{trace_id}") != 200:
                    return None
                found: Trace = api.get(f"/traces/{trace_id}")
                return found if len(found["observations"]) >= steps else None

        found = wait_until(look, seconds=ARRIVAL_SECONDS, what=f"{steps} steps of {trace_id} at {self.url}")
        assert found is not None
        return found

    def is_quiet(self, accepted: int) -> bool:
        with Api(self.url, self.read) as api:
            loss = api.loss()
        return loss["accepted"] >= accepted and loss["in_spool"] == 0 and is_balanced(loss)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Place, Place, ExitStack]]:
    with offline_model(tmp_path / "model.log") as model, ExitStack() as stack:
        here, there = Place(tmp_path / "here", model), Place(tmp_path / "there", model)
        here.send_to(there)
        there.send_to(here)
        yield here, there, stack


_SAME = ("name", "session_id", "user_id", "feature", "status", "input", "output", "usage", "cost", "environment")
_OWN = ("id", "parent_id", "turn_id", "scope", "flags")


def comparable(trace: Trace) -> dict[str, Any]:
    """Observations by span id, parents by span id: turns have ids of their own at each place."""
    spans = {item["id"]: item["span_id"] for item in trace["observations"]}
    return {
        item["span_id"]: {
            **{name: value for name, value in item.items() if name not in _OWN},
            "parent": spans.get(item["parent_id"]),
        }
        for item in trace["observations"]
    }


def differences(copy: Trace, original: Trace) -> list[str]:
    there, here = comparable(copy), comparable(original)
    problems = [f"{span_id} only at one place" for span_id in there.keys() ^ here.keys()]
    for span_id in there.keys() & here.keys():
        got, sent = there[span_id], here[span_id]
        problems += [f"{sent['name']}: {key} {got[key]!r}, not {sent[key]!r}" for key in sent if got[key] != sent[key]]
    return problems


def test_turns_arrive_as_the_same_observations_and_go_round_no_circle(places: tuple[Place, Place, ExitStack]) -> None:
    here, there, stack = places
    here.run(stack)
    sent = [here.ask(path, f"s{path}") for path in ("/ask", "/research", "/chat")]
    at_home = [here.trace(trace_id) for trace_id in sent]
    there.run(stack)  # it was away when the turns were stored
    for original in at_home:
        copy = there.trace(original["trace_id"], steps=len(original["observations"]))
        assert differences(copy, original) == []
        names = (
            "name",
            "session_id",
            "user_id",
            "feature",
            "status",
            "input",
            "output",
            "usage",
            "cost",
            "environment",
        )
        assert {name: copy[name] for name in names} == {name: original[name] for name in names}
        assert "bo@example.com" not in json.dumps(copy)
    back = there.ask("/ask", "s-back")
    assert differences(here.trace(back), there.trace(back)) == []
    # Both have said and heard everything: each has its own turns and the other's, once.
    for place in (here, there):
        wait_until(lambda at=place: at.is_quiet(4), seconds=ARRIVAL_SECONDS, what="a quiet place")
        assert place.is_quiet(4)
        with Api(place.url, place.read) as api:
            assert api.loss()["accepted"] == 4
            assert len(api.get("/traces")["data"]) == 4
