"""Under real servers: streams that are read and streams that are left, and answers on the wire."""

import asyncio
import http.client
import socket
import threading
import time
import wsgiref.simple_server
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.integration.capture.recording import Client, Recording, http_scope
from turntrace.capture.asgi import TurntraceMiddleware
from turntrace.capture.wsgi import TurntraceWSGIMiddleware
from turntrace.records.fragment import FrameKind
from turntrace.tracing.observation import observation
from turntrace.tracing.provider import TurntraceTracerProvider

PARENT = "00-12345678901234567890123456789012-1234567890123456-01"


def wait_until(probe: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Quiet(uvicorn.Server):
    """uvicorn in a thread: signals stay with the test run."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def serving(app: Any) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = Quiet(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started, "uvicorn starts")
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


async def _stream(request: Request) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        with observation(None, "answer", type="generation"):
            for number in range(20):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.005)
        yield "data: [DONE]\n\n"

    async def after() -> None:
        with observation(None, "after"):
            await asyncio.sleep(0)

    return StreamingResponse(body(), media_type="text/event-stream", background=BackgroundTask(after))


async def _read(client: httpx.AsyncClient, leaves: bool) -> str:
    async with client.stream("GET", "/stream") as response:
        trace_id: str = response.headers["x-trace-id"]
        async for _ in response.aiter_bytes():
            if leaves:
                break
    return trace_id


async def _read_all(port: int, count: int) -> tuple[set[str], set[str]]:
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30) as client:
        jobs = [_read(client, leaves=number % 10 < 3) for number in range(count)]
        ids = await asyncio.gather(*jobs)
    left = {one for number, one in enumerate(ids) if number % 10 < 3}
    return left, set(ids) - left


def test_every_stream_is_accounted_for_whether_read_or_left() -> None:
    recording = Recording(delta_ms=30)
    app = TurntraceMiddleware(Starlette(routes=[Route("/stream", _stream)]), turntrace=recording)

    def ends() -> list[dict[str, Any]]:
        return [document["turn"] for kind, document in list(recording.frames) if kind is FrameKind.END]

    with serving(app) as port:
        left, whole = asyncio.run(_read_all(port, 60))
        wait_until(lambda: len(ends()) == 60, "all turns have ended")
    outcomes = Counter(end.get("outcome", "complete") for end in ends())
    assert outcomes == {"complete": 42, "client_disconnected": 18}
    assert {end["trace_id"] for end in ends() if end.get("outcome")} == left
    assert {end["trace_id"] for end in ends() if not end.get("outcome")} == whole
    assert not recording.open_turns
    assert all("error" not in end for end in ends())
    # The background task ran for each: within END of a stream that was left, as an AMEND of one that was read.
    after = [span for _, document in recording.frames for span in document["spans"] if span["name"] == "after"]
    assert len({span["span_id"] for span in after}) == 60


def _wsgi(environ: Any, start_response: Any) -> Any:
    with observation(None, "step"):
        path = environ["PATH_INFO"]
    if path == "/304":
        start_response("304 Not Modified", [("ETag", "x")])
        return []
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"whole"] if path == "/list" else iter([b"one", b"two"])


class _NoLog(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


def _on_the_wire(app: Any, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    with wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=_NoLog) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        found = response.status, dict(response.getheaders()), response.read()
        connection.close()
        thread.join()
    return found


@pytest.mark.parametrize("path", ["/list", "/generator", "/304"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_wsgi_answers_are_the_same_on_the_wire(method: str, path: str) -> None:
    recording = Recording()
    status, headers, body = _on_the_wire(TurntraceWSGIMiddleware(_wsgi, turntrace=recording), method, path)
    plain_status, plain_headers, plain_body = _on_the_wire(_wsgi, method, path)
    assert (status, body) == (plain_status, plain_body)
    assert headers.pop("X-Trace-Id") == recording.turn()["trace_id"]
    del headers["traceresponse"]
    assert {**headers, "Date": ""} == {**plain_headers, "Date": ""}
    assert recording.turn().get("outcome", "complete") == "complete"


@pytest.mark.parametrize("is_instrumented", [True, False])
async def test_calls_of_an_instrumented_client_carry_the_turn(recording: Recording, is_instrumented: bool) -> None:
    """With our provider the call has a span of its own; where nobody provides spans it is the turn's."""
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200)

    provider = TurntraceTracerProvider(recording) if is_instrumented else trace.NoOpTracerProvider()
    transport = AsyncOpenTelemetryTransport(httpx.MockTransport(answer), tracer_provider=provider)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with observation(None, "step"):
            pass
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://example.com/")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    client = Client()
    scope = http_scope(headers=[("traceparent", PARENT), ("tracestate", "foo@@bar=1,b=2")])
    await TurntraceMiddleware(app, turntrace=recording)(scope, client.receive, client.send)
    (headers,) = sent
    assert headers["traceparent"][:36] == PARENT[:36]
    assert headers["tracestate"] == "foo@@bar=1,b=2"
    assert "baggage" not in headers
    parent_id, root_id = headers["traceparent"][36:52], recording.turn()["span_id"]
    assert (parent_id == root_id) is not is_instrumented
    assert parent_id != PARENT[36:52]
