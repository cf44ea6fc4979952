"""The receiver in a real server: exporters deliver, what was answered 200 is readable soon, memory stays as it was."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from tests.acceptance.servers import Api, Server, api_key, environment, is_balanced, uvicorn, wait_until
from tests.integration.otlp.inlet import as_protobuf, generation, request, span
from tests.unit.pipeline.otlp_fixture import FOLDER, NAMES

READABLE_SECONDS = 5.0
MOST_GROWTH = 64 << 20
OTLP = "/llm-admin/otlp/v1"


class Site:
    """A server, and keys for it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = Api(server.url, api_key(server.env, "read"))
        self._key = api_key(server.env, "ingest")
        self.headers = {"Authorization": f"Bearer {self._key}"}

    def post(
        self, body: bytes, media: str = "application/json", what: str = "traces", **headers: str
    ) -> httpx.Response:
        url = f"{self.server.url}{OTLP}/{what}"
        return httpx.post(url, content=body, headers={**self.headers, "content-type": media, **headers}, timeout=60)

    def observations(self, trace_id: str, least: int = 1) -> list[dict[str, Any]]:
        """Those of a trace, as soon as there are so many."""

        def look() -> list[dict[str, Any]]:
            if self.api.status(f"/traces/{trace_id}") != 200:
                return []
            found: list[dict[str, Any]] = self.api.get(f"/traces/{trace_id}")["observations"]
            return found if len(found) >= least else []

        return wait_until(look, seconds=READABLE_SECONDS, what=f"{least} observations of {trace_id}")

    def wait_for_session(self, session_id: str, tokens: int) -> None:
        """Until the session has so many input tokens: large traces are not read again and again."""

        def is_there() -> bool:
            found = self.api.get("/traces", session_id=session_id)["data"]
            return bool(found) and found[0]["usage"]["input"] == tokens

        wait_until(is_there, seconds=READABLE_SECONDS, what=f"{tokens} tokens of {session_id}")

    @contextmanager
    def watched(self) -> Iterator["Growth"]:
        """How much memory the server itself takes at the most; the worker is a process apart."""
        growth = Growth(psutil.Process(self.server.process.pid))
        growth.start()
        try:
            yield growth
        finally:
            growth.is_over.set()
            growth.join()


class Growth(threading.Thread):
    """Looks at the resident memory of a process a few hundred times a second; `most` in bytes above the beginning."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._before = process.memory_info().rss
        self.most = 0
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.003):
            self.most = max(self.most, self._process.memory_info().rss - self._before)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("otlp")
    env = environment(home, f"sqlite:///{home / 'turntrace.db'}", redaction="off", content="full")
    with uvicorn("example_app.fastapi_app:app", env, home / "log") as server:
        found = Site(server)
        with found.api:
            found.api.loss()  # the panel is put together at the first request: what that takes is no growth
            assert found.post(b"{}").status_code == 200
            yield found


@pytest.mark.parametrize("processor", [BatchSpanProcessor, SimpleSpanProcessor])
def test_the_exporter_of_python_delivers(site: Site, processor: Any) -> None:
    exporter = OTLPSpanExporter(
        endpoint=f"{site.server.url}{OTLP}/traces", headers=site.headers, compression=Compression.Gzip
    )
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(processor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("POST /ask") as root:
        trace_id = f"{root.get_span_context().trace_id:032x}"
        for number in range(3):
            with tracer.start_as_current_span("chat gpt-4o-mini") as call:
                call.set_attribute("gen_ai.operation.name", "chat")
                call.set_attribute("gen_ai.request.model", "gpt-4o-mini")
                call.set_attribute("gen_ai.usage.input_tokens", 10 + number)
                call.set_attribute("gen_ai.usage.output_tokens", 1)
    provider.shutdown()
    found = site.observations(trace_id, 4)
    top = next(item for item in found if item["name"] == "POST /ask")
    calls = [item for item in found if item["type"] == "generation"]
    assert sorted(item["usage"]["input"] for item in calls) == [10, 11, 12]
    assert {item["parent_id"] for item in calls} == {top["id"]}
    turn = site.api.get(f"/traces/{trace_id}")
    assert (turn["name"], turn["usage"]["input"], turn["status"]) == ("POST /ask", 33, "ok")


@pytest.mark.parametrize("name", NAMES)
def test_what_libraries_export_is_readable_through_the_api(site: Site, name: str) -> None:
    expected = json.loads((FOLDER / f"{name}.expected.json").read_text())
    for what, file in (("logs", expected["logs"]), ("traces", expected["fixture"])):
        if file:
            assert site.post((FOLDER / file).read_bytes(), what=what).status_code == 200
    wanted = {item["span_id"]: item for item in expected["observations"]}
    found: dict[str, dict[str, Any]] = {}
    for trace_id in {item["trace_id"] for item in wanted.values()}:
        least = sum(item["trace_id"] == trace_id for item in wanted.values())
        found |= {item["span_id"]: item for item in site.observations(trace_id, least)}
    assert found.keys() == wanted.keys()
    by_id = {item["id"]: item["span_id"] for item in found.values()}
    for span_id, item in found.items():
        want = wanted[span_id]
        assert item["type"] == want["type"]
        assert by_id.get(item["parent_id"]) == want["parent_span_id"]
        for key in {"model", "provider", "finish_reasons", "tool_name", "session_id"} & want.keys():
            assert (item[key] or None) == (want[key] or None)
        if "usage" in want:
            assert {key: (item["usage"] or {}).get(key) for key in want["usage"] or ()} == (want["usage"] or {})


@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "protobuf"])
def test_ten_thousand_spans_are_readable_soon_and_cost_little_memory(site: Site, is_binary: bool) -> None:
    trace = 0xA0 + is_binary
    more = {f"app.attribute.{n}": f"value {n} of some length" for n in range(12)}
    spans = [
        span(trace, 1, attributes={"session.id": f"s-{trace}"}),
        *(generation(trace, n, 1, **more) for n in range(2, 10_001)),
    ]
    document = request(*spans)
    body = as_protobuf(document) if is_binary else json.dumps(document, separators=(",", ":")).encode()
    media = "application/x-protobuf" if is_binary else "application/json"
    packed = gzip.compress(body, 1)
    started = time.monotonic()
    with site.watched() as growth:
        answer = site.post(packed, media, **{"content-encoding": "gzip"})
    assert answer.status_code == 200, answer.text
    answered = time.monotonic()
    site.wait_for_session(f"s-{trace}", 9_999 * 100)
    readable = time.monotonic()
    print(f"\n{len(body) / 1e6:.1f} MB: answered in {answered - started:.2f} s, ", end="")
    print(f"readable {readable - answered:.2f} s later, {growth.most / 1e6:.1f} MB more at the most")
    assert growth.most <= MOST_GROWTH
    assert len(site.observations(f"{trace:032x}")) == 10_000


def test_bombs_take_little_memory(site: Site) -> None:
    packed = gzip.compress(bytes(512 << 20), 9)
    head = b'{"resourceSpans":[{"scopeSpans":[{"spans":['
    with site.watched() as growth:
        for media in ("application/json", "application/x-protobuf"):
            assert site.post(packed, media, **{"content-encoding": "gzip"}).status_code == 413
        for count in (490_000, 5_000_000):
            assert site.post(head + b"{}," * count + b"{}]}]}]}").status_code in (400, 413)
        assert site.post(b'{"resourceSpans":' + b"[" * 4_000_000).status_code == 400
        assert site.post(b"\x0a\x00" * (8 << 20), "application/x-protobuf").status_code in (400, 413)
    print(f"\n{growth.most / 1e6:.1f} MB more at the most")
    assert growth.most <= MOST_GROWTH


def test_the_balance_holds(site: Site) -> None:
    def is_quiet() -> bool:
        loss = site.api.loss()
        return loss["in_spool"] == 0 and is_balanced(loss) and loss["accepted"] >= len(NAMES)

    wait_until(is_quiet, seconds=READABLE_SECONDS, what="a balanced loss")
