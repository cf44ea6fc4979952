"""Streams that do not reach their end, of every client: one finished observation with what it had until then.

Chat completions of the OpenAI client have theirs in `test_openai_client.py`.
"""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.exceptions import ModelConnectionError
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.acceptance.clients.provider import Provider
from tests.acceptance.clients.serving import served
from tests.acceptance.clients.test_openai_client import MODEL, Host, said
from turntrace.integrations.globalprovider import GlobalProvider
from turntrace.integrations.openai.switch import is_on, switch_off, switch_on
from turntrace.records.observation import Observation
from turntrace.tracing.provider import TurntraceTracerProvider

TRUSTED = ssl.create_default_context()  # made once: it takes a client longer than the call
CLAUDE = "claude-sonnet-4-6"
BROKEN = (openai.APIConnectionError, httpx2.RemoteProtocolError, ModelConnectionError)

Stream = Any
Opened = Callable[[str], AbstractAsyncContextManager[Stream]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(Provider().app) as found:
        yield found


@pytest.fixture
def host(url: str) -> Iterator[Host]:
    """A host with the drop-in switched on, for one test."""
    was_on = is_on()
    switch_on()
    yield Host(f"{url}/v1")
    if not was_on:
        switch_off()


# --- what happens to a stream ---------------------------------------------------------------------------------------


async def take(stream: Stream, pieces: int) -> None:
    """Read so many pieces that the provider has sent; Anthropic's helper adds `text` to each piece of text."""
    taken = 0
    while taken < pieces:
        piece = await anext(stream)
        taken += getattr(piece, "type", "") != "text"


async def broken(opened: Opened, pieces: int) -> None:
    with pytest.raises(BROKEN):
        async with opened(f"break {pieces}") as stream:
            await take(stream, 100)


async def closed(opened: Opened, pieces: int) -> None:
    async with opened(f"hold {pieces}") as stream:
        await take(stream, pieces)


async def cancelled(opened: Opened, pieces: int) -> None:
    has_read = asyncio.Event()

    async def read() -> None:
        async with opened(f"hold {pieces}") as stream:
            await take(stream, pieces)
            has_read.set()
            await take(stream, 100)

    task = asyncio.create_task(read())
    await has_read.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def unfinished(found: Observation) -> bool:
    return "incomplete" in found.flags


async def one_at_last(host: Host, work: Callable[[], Awaitable[None]]) -> Observation:
    """The observation that a turn has at its end already, when the garbage collector has been at work."""
    await host.one(work)
    for _ in range(200):
        (found,) = host.stored().observations
        if not unfinished(found):
            break
        gc.collect()
        await asyncio.sleep(0.02)
    return found


# --- OpenAI's Responses ---------------------------------------------------------------------------------------------


def gpt(host: Host) -> openai.AsyncOpenAI:
    http_client = openai.DefaultAsyncHttpxClient(verify=TRUSTED)
    return openai.AsyncOpenAI(base_url=host.base_url, api_key="k", max_retries=0, http_client=http_client)


def responses(client: openai.AsyncOpenAI) -> Opened:
    @asynccontextmanager
    async def opened(text: str) -> AsyncIterator[Stream]:
        stream = await client.responses.create(model=MODEL, input=text, stream=True)
        try:
            yield stream
        finally:
            await stream.close()

    return opened


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [0, 1, 5])
@pytest.mark.parametrize(
    ("how", "end", "reason"),
    [(broken, "error", "failed"), (closed, "ok", "left"), (cancelled, "ok", "cancelled")],
    ids=["broken", "closed", "cancelled"],
)
async def test_a_streamed_response(host: Host, how: Any, end: str, reason: str, pieces: int) -> None:
    async def work() -> None:
        async with gpt(host) as client:
            await how(responses(client), pieces)

    found = await host.one(work)
    assert (found.type, found.status, found.metadata["incomplete"]) == ("generation", end, reason)
    assert (found.metadata["stream_chunks"], unfinished(found)) == (pieces, True)
    assert (said(found) if found.output else "") == {0: "", 1: "", 5: "The kettle"}[pieces]
    assert (found.usage, found.finish_reasons) == (None, ())


# --- Anthropic ------------------------------------------------------------------------------------------------------


def claude(host: Host) -> anthropic.AsyncAnthropic:
    """A client with the tracer provider that `tt.instrument()` makes the global one."""
    options: Any = {"tracer_provider": GlobalProvider(host.recording), "traces": {"content_mode": "content"}}
    http_client = anthropic.DefaultAsyncHttpxClient(verify=TRUSTED)
    url = host.base_url.removesuffix("/v1")
    return anthropic.AsyncAnthropic(
        base_url=url, api_key="k", max_retries=0, open_telemetry=options, http_client=http_client
    )


def asked(text: str) -> Any:
    return {"model": CLAUDE, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}


async def helped(client: anthropic.AsyncAnthropic, text: str) -> Stream:
    return await client.messages.stream(**asked(text)).__aenter__()


async def created(client: anthropic.AsyncAnthropic, text: str) -> Stream:
    return await client.messages.create(**asked(text), stream=True)


def closing(start: Any, client: anthropic.AsyncAnthropic) -> Opened:
    @asynccontextmanager
    async def opened(text: str) -> AsyncIterator[Stream]:
        stream = await start(client, text)
        try:
            yield stream
        finally:
            await stream.close()

    return opened


def told_by(start: Any, pieces: int) -> str:
    """The text of so many events: the client's own spans have it only where its helper puts the message together."""
    return "The kettle" if pieces == 4 and start is helped else ""


def has_what_it_had(found: Observation, start: Any, pieces: int) -> bool:
    usage = None if found.usage is None else (found.usage.input_tokens, found.usage.output_tokens)
    text = said(found) if found.output else ""
    return (usage, text, found.finish_reasons) == ((100, None) if pieces else None, told_by(start, pieces), ())


@pytest.mark.anyio
@pytest.mark.parametrize("start", [helped, created])
@pytest.mark.parametrize("pieces", [0, 1, 4])
@pytest.mark.parametrize(("how", "end"), [(broken, "error"), (closed, "ok"), (cancelled, "ok")])
async def test_a_stream_of_anthropic(host: Host, start: Any, how: Any, end: str, pieces: int) -> None:
    async def work() -> None:
        async with claude(host) as client:
            await how(closing(start, client), pieces)

    found = await host.one(work)
    assert (found.type, found.status, found.model_requested) == ("generation", end, CLAUDE)
    assert has_what_it_had(found, start, pieces)


@pytest.mark.anyio
@pytest.mark.parametrize("start", [helped, created])
@pytest.mark.parametrize("pieces", [0, 1, 4])
async def test_a_stream_of_anthropic_that_is_dropped(host: Host, start: Any, pieces: int) -> None:
    async def work() -> None:
        async with claude(host) as client:
            stream = await start(client, f"hold {pieces}")
            await take(stream, pieces)
            del stream
            gc.collect()

    found = await one_at_last(host, work)
    assert (found.type, found.status, unfinished(found)) == ("generation", "ok", False)
    assert has_what_it_had(found, start, pieces)


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [0, 1, 4])
async def test_a_stream_of_anthropic_that_outlives_its_turn(host: Host, pieces: int) -> None:
    """Somebody holds it: the turn says what is known of it, and the end replaces that."""
    kept: list[Any] = []

    async def work() -> None:
        kept.append(await helped(client, f"hold {pieces}"))
        await take(kept[0], pieces)

    async with claude(host) as client:
        found = await host.one(work)
        assert (found.type, found.model_requested, unfinished(found)) == ("generation", CLAUDE, True)
        await kept[0].close()
    (found,) = host.stored().observations
    assert unfinished(found) is False
    assert has_what_it_had(found, helped, pieces)


# --- Pydantic AI ----------------------------------------------------------------------------------------------------


def helper(host: Host, client: openai.AsyncOpenAI) -> "Agent[None, str]":
    """An agent with the settings that `tt.instrument()` gives to all agents."""
    settings = InstrumentationSettings(tracer_provider=TurntraceTracerProvider(host.recording))
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))
    return Agent(model, name="helper", capabilities=[Instrumentation(settings=settings)])


def running(agent: "Agent[None, str]") -> Opened:
    """Its pieces are texts: an empty chunk goes before the first, and no run begins before that has come."""

    @asynccontextmanager
    async def opened(text: str) -> AsyncIterator[Stream]:
        verb, pieces = text.split()
        wanted = int(pieces) if verb == "break" else max(2, int(pieces) + 1)
        async with agent.run_stream(f"{verb} {wanted}") as run:
            yield run.stream_text(delta=True, debounce_by=None)

    return opened


SAID_BY_PYDANTIC = {
    (True, 0): "",
    (True, 1): "",
    (True, 3): "The kettle",
    (False, 0): "The",
    (False, 1): "The",
    (False, 3): "The kettle needs",
}


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [0, 1, 3])
@pytest.mark.parametrize("how", [broken, closed, cancelled])
async def test_a_streamed_run_of_pydantic_ai(host: Host, how: Any, pieces: int) -> None:
    async def work() -> None:
        async with gpt(host) as client:
            await how(running(helper(host, client)), pieces)

    run, call = (await host.turn(work)).observations
    assert (run.type, run.status) == ("agent", "error" if how is broken else "ok")
    assert (call.type, call.parent_id, call.model_requested) == ("generation", run.id, MODEL)
    assert (unfinished(run), unfinished(call)) == (False, False)
    # (Held back, the library has read one more piece before it gives the first.)
    assert (said(call) if call.output else "") == SAID_BY_PYDANTIC[how is broken, pieces]
    assert call.usage is None
