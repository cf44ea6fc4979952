"""Outgoing calls of three HTTP clients: what goes with them, and what does not go to somebody else after a redirect."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import pytest
import requests

from tests.integration.borders.conftest import WHO, Recording
from turntrace import Turntrace
from turntrace.capture.asgi import TurntraceMiddleware
from turntrace.tracing.baggage import baggage_values, parse_baggage

FOREIGN = "tenant=a%20b;ttl=1;note=x%3By,other=1+1"


class Handler(BaseHTTPRequestHandler):
    server: "Site"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((headers["host"].partition(":")[0], headers))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/here")
        else:
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Site(ThreadingHTTPServer):
    daemon_threads = True
    seen: list[tuple[str, dict[str, str]]]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def with_httpx(tt: Turntrace, url: str) -> None:
    with tt.borders.httpx(tt.borders.httpx(httpx.Client(follow_redirects=True))) as client:
        client.get(url)


def with_async_httpx(tt: Turntrace, url: str) -> None:
    async def get() -> None:
        async with tt.borders.httpx(httpx.AsyncClient(follow_redirects=True)) as client:
            await client.get(url)

    asyncio.run(get())


def with_requests(tt: Turntrace, url: str) -> None:
    with tt.borders.requests(tt.borders.requests(requests.Session())) as session:
        session.get(url, timeout=30)


def with_aiohttp(tt: Turntrace, url: str) -> None:
    async def get() -> None:
        async with (
            aiohttp.ClientSession(trace_configs=[tt.borders.aiohttp()]) as session,
            session.get(url) as answer,
        ):
            await answer.read()

    asyncio.run(get())


CLIENTS = [with_httpx, with_async_httpx, with_requests, with_aiohttp]
Client = Callable[[Turntrace, str], None]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_carries_the_turn_and_a_redirect_takes_no_names_along(
    client: Client, recording: Recording, site: Site
) -> None:
    tt = recording.tt
    with tt.turn("ask", **WHO), tt.observation("call", type="tool"):
        client(tt, f"http://127.0.0.1:{site.server_address[1]}/away")
    step = recording.turns()["ask"]["steps"]["call"]["span_id"]
    (first, sent), (second, after) = site.seen
    assert (first, second) == ("127.0.0.1", "localhost")
    for headers in (sent, after):
        assert headers["traceparent"].split("-")[1:3] == [recording.turns()["ask"]["trace_id"], step]
    assert baggage_values(parse_baggage([sent["baggage"]])) == {
        "session.id": "s 1",
        "user.id": "ü-1",
        "feature": "search",
        "experiment": "b",
        "tags": "plan:pro,a%2Cb%25",
    }
    assert "baggage" not in after


@pytest.mark.parametrize("client", CLIENTS)
def test_outside_any_turn_nothing_is_added(client: Client, recording: Recording, site: Site) -> None:
    client(recording.tt, f"http://127.0.0.1:{site.server_address[1]}/here")
    assert not {"traceparent", "baggage"} & site.seen[0][1].keys()


async def test_what_a_caller_sent_besides_passes_to_the_octet(recording: Recording) -> None:
    tt, said = recording.tt, {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tt.update_trace(experiment="c")
        said.update(tt.inject({}, url="http://127.0.0.1/next"), carrier=tt.carrier())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = {"baggage": f"session.id=s%201,tags=plan:pro%2Ca%252Cb,{FOREIGN}"}
    transport = httpx.ASGITransport(TurntraceMiddleware(app, turntrace=tt), client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://here.test") as client:
        await client.get("/ask", headers=headers)
    assert said["baggage"].endswith(FOREIGN)
    assert said["carrier"]["baggage"].endswith(FOREIGN)
    own = baggage_values(parse_baggage([said["baggage"]]))
    assert own["session.id"] == "s 1"
    assert own["experiment"] == "c"
    (turn,) = recording.turns().values()
    assert turn["tags"] == ["plan:pro", "a,b"]


def test_everything_is_inherited_by_who_continues_from_a_carrier(recording: Recording) -> None:
    tt = recording.tt
    with tt.turn("ask", **WHO), tt.observation("send"):
        carried = tt.carrier()
        message = tt.borders.stamp({"text": "hello", "_meta": {"kept": 1}})
    with tt.continue_trace(carried, name="later", tags=["own"]):
        tt.observation("step").end()
    with tt.borders.received(message, name="answer", user_id="other"):
        pass
    turns = recording.turns()
    asked = turns["ask"]
    for name in ("later", "answer"):
        assert turns[name]["trace_id"] == asked["trace_id"]
        assert turns[name]["parent_span_id"] == asked["steps"]["send"]["span_id"]
        assert {key: turns[name][key] for key in ("session_id", "feature", "experiment")} == {
            key: WHO[key] for key in ("session_id", "feature", "experiment")
        }
    assert (turns["later"]["tags"], turns["answer"]["tags"]) == (["own"], WHO["tags"])
    assert (turns["later"]["user_id"], turns["answer"]["user_id"]) == (WHO["user_id"], "other")
    assert message["_meta"]["kept"] == 1


def test_pools_that_were_there_before_run_what_is_carried_in_the_turn(recording: Recording) -> None:
    tt, found = recording.tt, []
    with tt.turn("ask") as turn:
        carried = tt.borders.carry(lambda: found.append(tt.current_trace_id()))
    carried()
    with tt.turn("other"):
        carried()
        carried()
    assert turn is not None
    assert found == [turn.trace_id] * 3
