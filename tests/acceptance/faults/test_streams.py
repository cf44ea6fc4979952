"""Many streams at once, some of whose clients leave, and providers that break: each is told as it was.

Short form: 100 streams; `TURNTRACE_TEST_LONG=1`: 1,000.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.acceptance.faults.stream_app import CHUNKS, GAP_SECONDS, word
from tests.acceptance.servers import Api, Server, api_key, environment, turntrace, uvicorn, wait_until

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
STREAMS = 1000 if IS_LONG else 100
LEAVING_SHARE = 0.3
APP = "tests.acceptance.faults.stream_app:app"

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1800 if IS_LONG else 180)]


@dataclass(frozen=True)
class Seen:
    """One stream as its client saw it. `is_whole`: it was read to its end."""

    name: str
    trace_id: str
    text: str
    is_whole: bool


def whole(name: str) -> str:
    """All that a stream has to say."""
    return "".join(word(name, number) for number in range(CHUNKS))


async def _head(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = [line.partition(":") for line in head.split("\r\n")]
    return next(value.strip() for name, _, value in lines if name.lower() == "x-trace-id")


async def read_stream(port: int, name: str, *, leave_after: int | None = None, query: str = "") -> Seen:
    """Read a stream, to its end or until some chunks have come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /stream?name={name}{query} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n".encode())
    trace_id, pieces, is_whole = await _head(reader), [], False
    with suppress(asyncio.IncompleteReadError, ConnectionError):  # where the server breaks off
        while leave_after is None or len(pieces) < leave_after:
            size = int((await reader.readuntil(b"\r\n")).strip(), 16)
            piece = (await reader.readexactly(size + 2))[:-2]
            if not size:
                is_whole = True
                break
            pieces.append(piece.decode())
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return Seen(name, trace_id, "".join(pieces), is_whole)


async def read_many(port: int, count: int, chance: random.Random) -> list[Seen]:
    """All at once; a share of the clients leaves somewhere in the first half."""
    cuts = [chance.randint(1, CHUNKS // 2) if chance.random() < LEAVING_SHARE else None for _ in range(count)]
    ways = ("", "&way=by_hand")
    streams = (
        read_stream(port, f"s{number}", leave_after=cut, query=ways[number % 2]) for number, cut in enumerate(cuts)
    )
    return list(await asyncio.gather(*streams))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("streams")
    env = environment(home, f"sqlite:///{home / 'turntrace.db'}", redaction="off")
    turntrace(env, "db", "upgrade")
    with uvicorn(APP, env, home / "log") as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    with Api(server.url, api_key(server.env, "read")) as made:
        yield made


@pytest.fixture
def port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def trace_of(api: Api, seen: Seen) -> dict[str, Any]:
    """The trace of a stream, once it has ended."""

    def ended() -> dict[str, Any] | None:
        if api.status(f"/traces/{seen.trace_id}") != 200:
            return None
        found: dict[str, Any] = api.get(f"/traces/{seen.trace_id}")
        return found if found["outcome"] != "in_progress" else None

    return wait_until(ended, seconds=30, what=f"the trace of {seen.name}")


def held(server: Server) -> Counter[str]:
    """Tasks, threads, files and open turns of the server."""
    counts = httpx.get(f"{server.url}/held", timeout=10).json()
    counts.pop("pid")
    return Counter(counts)


def check(seen: Seen, trace: dict[str, Any]) -> None:
    """The trace tells what the client got."""
    expected = whole(seen.name)
    assert trace["outcome"] == ("complete" if seen.is_whole else "client_disconnected"), seen
    assert expected.startswith(trace["received"])
    assert trace["received"].startswith(seen.text), "the client has read more than was noted as given to it"
    (answer,) = trace["observations"]
    assert expected.startswith(answer["output"])
    assert answer["output"].startswith(trace["received"]), "the provider's text is at least what was given on"
    assert answer["duration_ms"] <= trace["duration_ms"], "however late its generator is cleared away"
    if seen.is_whole:
        assert trace["received"] == expected
        assert trace["client_left_ms"] is None
    else:
        assert trace["last_byte_ms"] <= trace["client_left_ms"] <= trace["duration_ms"]


def test_streams_that_clients_leave_are_all_accounted_for(server: Server, api: Api, port: int) -> None:
    chance = random.Random(20261121)
    for seen in asyncio.run(read_many(port, 20, chance)):  # what is made once is made: panel, pools
        check(seen, trace_of(api, seen))
    before = held(server)
    streams = asyncio.run(read_many(port, STREAMS, chance))
    for seen in streams:
        check(seen, trace_of(api, seen))
    left = sum(not seen.is_whole for seen in streams)
    more = held(server) - before
    for _ in range(100):
        if not more:
            break
        time.sleep(0.1)
        more = held(server) - before
    print(f"\n{STREAMS} streams, {left} of them left early; held before {dict(before)}, after {dict(held(server))}")
    assert not more, "held for ever"
    assert left > STREAMS * LEAVING_SHARE / 2


def test_what_the_application_goes_on_to_read_is_told_with_its_true_end(api: Api, port: int) -> None:
    seen = asyncio.run(read_stream(port, "r1", leave_after=3, query="&way=read_on"))
    trace = wait_until(lambda: ended_answer(api, seen), seconds=30, what="the end of the answer that went on")
    (answer,) = trace["observations"]
    assert trace["outcome"] == "client_disconnected"
    assert answer["output"] == whole(seen.name)
    assert trace["received"].startswith(seen.text)
    assert len(trace["received"]) < len(answer["output"])
    assert answer["duration_ms"] > trace["client_left_ms"] + 1000 * GAP_SECONDS, "it was paid for after the client left"


def ended_answer(api: Api, seen: Seen) -> dict[str, Any] | None:
    """The trace, once its one observation has ended."""
    if api.status(f"/traces/{seen.trace_id}") != 200:
        return None
    found: dict[str, Any] = api.get(f"/traces/{seen.trace_id}")
    return found if found["observations"] and not found["observations"][0]["is_open"] else None


@pytest.mark.parametrize("chunks", [0, 1, CHUNKS // 2])
def test_a_provider_that_breaks_is_told_with_what_it_gave(api: Api, port: int, chunks: int) -> None:
    seen = asyncio.run(read_stream(port, f"b{chunks}", query=f"&breaks_after={chunks}"))
    trace = trace_of(api, seen)
    given = "".join(word(seen.name, number) for number in range(chunks))
    (answer,) = trace["observations"]
    assert trace["outcome"] == "interrupted"
    assert (trace["received"] or "") == given == seen.text
    assert (answer["output"] or "") == given
    assert answer["error"]["type"] == trace["error"]["type"] == "ConnectionResetError"
