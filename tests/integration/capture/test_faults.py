"""A fault at each internal seam leaves the answer of the host byte for byte as it is without us, or without headers."""

from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from tests.integration.capture.recording import Client, Recording, Server, environ, http_scope
from turntrace.capture import asgi, exchange, wsgi
from turntrace.capture.asgi import TurntraceMiddleware
from turntrace.capture.completion import Completion
from turntrace.capture.exchange import Exchange
from turntrace.capture.wsgi import TurntraceWSGIMiddleware
from turntrace.tracing.observation import observation
from turntrace.tracing.turn import Turn

OURS = {b"x-trace-id", b"traceresponse"}


def broken(*arguments: Any, **more: Any) -> Any:
    raise RuntimeError("a fault of ours")


SHARED = [
    (exchange, "Turn"),
    (exchange, "host_span"),
    (exchange, "activate"),
    (exchange, "deactivate"),
    (exchange, "describe"),
    (exchange, "format_traceparent"),
    (Completion, "expect"),
    (Completion, "is_last"),
    (Completion, "ends_stream"),
    (Exchange, "begin"),
    (Exchange, "trace_headers"),
    (Exchange, "_followed"),
    (Exchange, "_settle"),
    (Exchange, "_identify"),
    (Exchange, "_finish"),
    (Exchange, "_close"),
    (Exchange, "_fail"),
    (Turn, "begin_response"),
    (Turn, "sent"),
    (Turn, "is_due"),
    (Turn, "is_recorded"),
    (Turn, "checkpoint"),
    (Turn, "finish"),
    (Recording, "write"),
    (Recording, "start"),
]
ASGI = [*SHARED, (asgi, "read_request"), (asgi, "asgi_headers"), (asgi, "asgi_route"), (asgi, "new_turn")]
WSGI = [*SHARED, (wsgi, "read_request"), (wsgi, "wsgi_headers"), (wsgi, "wsgi_route"), (wsgi, "new_turn")]


def seams(places: list[tuple[Any, str]]) -> Any:
    return pytest.mark.parametrize("seam", places, ids=[f"{place.__name__}.{name}" for place, name in places])


class Quiet(Recording):
    """As in production: faults are counted, not raised."""

    def __init__(self) -> None:
        super().__init__(delta_ms=20)
        self.guard.reraise = False


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    with observation(None, "step"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-own", b"1")]})
    for chunk in (b"one", b"t" * 5000, b"data: [DONE]\n\n"):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def wsgi_app(environ: Any, start_response: Any) -> Iterator[bytes]:
    with observation(None, "step"):
        pass
    start_response("201 Created", [("X-Own", "1"), ("Content-Length", "5003")])
    yield b"one"
    yield b"t" * 5000


def faulty(error: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


@seams(ASGI)
async def test_asgi_answers_survive_a_fault(seam: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Client()
    await asgi_app(http_scope(), plain.receive, plain.send)
    recording = Quiet()
    middleware = TurntraceMiddleware(asgi_app, turntrace=recording)
    monkeypatch.setattr(*seam, broken)
    client = Client()
    await middleware(http_scope(), client.receive, client.send)
    monkeypatch.undo()
    assert client.messages[1:] == plain.messages[1:]
    assert client.status == 201
    assert [pair for pair in client.headers if pair[0] not in OURS] == plain.headers


@seams(ASGI)
async def test_errors_of_the_host_survive_a_fault(seam: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    error = ValueError("of the host")
    middleware = TurntraceMiddleware(faulty(error), turntrace=Quiet())
    monkeypatch.setattr(*seam, broken)
    client = Client()
    with pytest.raises(ValueError, match="of the host") as caught:
        await middleware(http_scope(), client.receive, client.send)
    assert caught.value is error


@seams(WSGI)
def test_wsgi_answers_survive_a_fault(seam: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Server().run(wsgi_app, environ())
    middleware = TurntraceWSGIMiddleware(wsgi_app, turntrace=Quiet())
    monkeypatch.setattr(*seam, broken)
    # A context of its own: the fault may be that ours is not put back.
    server = copy_context().run(Server().run, middleware, environ())
    monkeypatch.undo()
    assert server.chunks == plain.chunks
    assert server.status == plain.status
    assert [pair for pair in server.headers if pair[0].lower().encode() not in OURS] == plain.headers


async def test_twenty_faults_pause_recording_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Quiet()
    middleware = TurntraceMiddleware(asgi_app, turntrace=recording)
    monkeypatch.setattr(asgi, "read_request", broken)
    for _ in range(30):
        client = Client()
        await middleware(http_scope(), client.receive, client.send)
        assert client.status == 201
    assert recording.guard.faults()["capture.request"] == 20
    assert not recording.guard.is_recording()
