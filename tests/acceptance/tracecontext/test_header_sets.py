"""The header sets recorded from the W3C harness, sent over sockets through real servers; outgoing calls are checked."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.servers import environment, gunicorn, uvicorn
from turntrace.tracing.propagation import read_context

ROWS = Path(__file__).resolve().parents[2] / "unit" / "data" / "w3c" / "trace_context.jsonl"
SENT_TRACE_IDS = ("12345678901234567890123456789012", "12345678901234567890123456789011")
SENT_PARENT_ID = "1234567890123456"


class Callbacks(ThreadingHTTPServer):
    """Takes the calls of the service under test and keeps their headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.headers: list[http.client.HTTPMessage] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/callback"


class _Handler(BaseHTTPRequestHandler):
    server: Callbacks

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.headers.append(self.headers)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def listening() -> Iterator[Callbacks]:
    with Callbacks() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp(request.param)
    env = environment(home, f"sqlite:///{home / 'turntrace.db'}", worker="external")
    target = f"tests.acceptance.tracecontext.app:{request.param}"
    log = home / "server.log"
    running = uvicorn(target, env, log) if request.param == "asgi" else gunicorn(target, env, log, workers=1)
    with running as server:
        yield server.url


def call(service: str, headers: list[list[str]], count: int, callbacks: Callbacks) -> list[http.client.HTTPMessage]:
    """Send one request with exactly these headers; answer the headers of the calls that it caused."""
    place = urlsplit(service)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    body = json.dumps([{"url": callbacks.url, "arguments": []}] * count).encode()
    connection.putrequest("POST", "/test")
    for name, value in [["content-type", "application/json"], ["content-length", str(len(body))], *headers]:
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()
    return callbacks.headers


def test_every_header_set_is_passed_on_as_w3c_says(service: str) -> None:
    for line in ROWS.read_text("ascii").splitlines():
        row = json.loads(line)
        with listening() as callbacks:
            (out,) = call(service, row["headers"], 1, callbacks)
        context = read_context(out.get_all("traceparent", []), out.get_all("tracestate", []))
        assert context is not None, row["id"]
        assert context.span_id != SENT_PARENT_ID, row["id"]
        if row["continues_trace"] is not None:
            assert (context.trace_id in SENT_TRACE_IDS) is row["continues_trace"], row["id"]
            assert out.get("tracestate") == row["tracestate_out"], row["id"]


def test_a_repeated_traceparent_starts_a_new_trace(service: str) -> None:
    parents = [["traceparent", f"00-{trace_id}-{SENT_PARENT_ID}-01"] for trace_id in SENT_TRACE_IDS]
    with listening() as callbacks:
        (out,) = call(service, parents, 1, callbacks)
    assert out["traceparent"][3:35] not in SENT_TRACE_IDS


def test_every_outgoing_call_has_a_parent_id_of_its_own(service: str) -> None:
    with listening() as callbacks:
        sent = call(service, [["traceparent", f"00-{SENT_TRACE_IDS[0]}-{SENT_PARENT_ID}-03"]], 3, callbacks)
    contexts = [read_context([one["traceparent"]]) for one in sent]
    assert {one.trace_id for one in contexts if one} == {SENT_TRACE_IDS[0]}
    assert len({one.span_id for one in contexts if one}) == 3
    assert {one.flags for one in contexts if one} == {3}
