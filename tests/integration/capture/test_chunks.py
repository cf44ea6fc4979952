"""Every chunk reaches the client before the application makes the next one: whole, in order, never held back."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.integration.capture.recording import Client, Recording, Server, environ, http_scope
from turntrace.capture.asgi import TurntraceMiddleware
from turntrace.capture.wsgi import TurntraceWSGIMiddleware
from turntrace.records.fragment import FrameKind
from turntrace.tracing.context import current_turn, get_current
from turntrace.tracing.observation import generation
from turntrace.tracing.observe import observe

# What might tempt somebody to wait for more: pieces of one event, of one character, of a marker, and no bytes at all;
# and between them as much as is written to the spool each time.
_MUCH = b"x" * 5000
_EVENT, _CHARACTER, _MARKER = (b"data: a\n", b"\n", b""), (b"\xf0\x9f", b"\x8f\xba"), (b"data: [DO", b"NE]", b"\n\n")
CHUNKS = (_MUCH, *_EVENT, _MUCH, *_CHARACTER, _MUCH, *_MARKER, b"end", _MUCH)


def checked(chunks: tuple[bytes, ...], given: Callable[[], list[bytes]]) -> Iterator[bytes]:
    """The chunks, each only where all before it have arrived."""
    for number, chunk in enumerate(chunks):
        assert given() == list(chunks[:number])
        yield chunk
    assert given() == list(chunks)


@observe(type="generation", name="answer")
async def observed(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def by_hand(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    with generation(None, "answer", model="m"):
        for chunk in chunks:
            yield chunk


@pytest.mark.anyio
@pytest.mark.parametrize("way", [observed, by_hand])
async def test_asgi_passes_every_chunk_on_before_the_next_is_made(way: Any) -> None:
    recording = Recording()
    client = Client()

    def given() -> list[bytes]:
        return [message["body"] for message in client.messages if message["type"] == "http.response.body"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        response: Response = StreamingResponse(way(checked(CHUNKS, given)), media_type="text/event-stream")
        await response(scope, Request(scope, receive).receive, send)

    await TurntraceMiddleware(app, turntrace=recording)(http_scope(), client.receive, client.send)
    assert given() == [*CHUNKS, b""]
    assert len(recording.kinds()) > 2
    received = b"".join(CHUNKS).decode()
    frames = [document["turn"] for kind, document in recording.frames if kind is FrameKind.END]
    assert received.startswith(frames[0]["received"])


def test_wsgi_passes_every_chunk_on_before_the_next_is_made() -> None:
    recording, server = Recording(), Server()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        with generation(None, "answer", model="m"):
            yield from checked(CHUNKS, lambda: server.chunks)

    server.run(TurntraceWSGIMiddleware(app, turntrace=recording), environ())
    assert server.chunks == list(CHUNKS)
    assert len(recording.kinds()) > 2


@pytest.mark.parametrize("count", range(len(CHUNKS) + 1))
def test_wsgi_leaves_no_turn_behind_in_its_thread(count: int) -> None:
    """Servers use a thread again: neither the turn nor a step that the generator is inside of may stay current."""
    recording = Recording()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        with generation(None, "answer", model="m"):
            yield from CHUNKS[:count]

    before = get_current()
    Server().run(TurntraceWSGIMiddleware(app, turntrace=recording), environ())
    assert current_turn() is None
    assert get_current() is before
