"""The drop-in OpenAI client in turns of a FastAPI application, against a server that speaks the provider's protocol."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import orjson
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from tests.acceptance.clients.provider import TEXT, Provider
from tests.acceptance.clients.serving import served
from tests.integration.capture.recording import Recording
from turntrace import TurntraceMiddleware
from turntrace.integrations.openai.switch import is_on, switch_off, switch_on
from turntrace.pipeline import Pipeline
from turntrace.pipeline.decode import decode
from turntrace.pipeline.merge import merge
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.tracing.context import suspended
from turntrace.tracing.guard import Guard
from turntrace.tracing.observation import generation, observation
from turntrace.tracing.recorder import set_default

MODEL = "gpt-4o-mini"
USAGE = (100, 10, 64, 4)
# 36 + 64 cached + 10 out tokens of gpt-4o-mini, in nano-dollars
COST = 36 * 150 + 64 * 75 + 10 * 600
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Find an article",
        "parameters": {"type": "object", "properties": {"about": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
def base_url(provider: Provider) -> Iterator[str]:
    with served(provider.app) as url:
        yield f"{url}/v1"


@pytest.fixture
def traced() -> Iterator[None]:
    """The drop-in, for one test."""
    was_on = is_on()
    switch_on()
    yield
    if not was_on:
        switch_off()


@pytest.fixture
def client(base_url: str, traced: None) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as made:
        yield made


class Host:
    """A FastAPI application whose one route runs what the test gives it, and the turns it leaves.

    Frames go to a list and through the pipeline, not to a spool and a database: what is tested here is the client.
    """

    def __init__(self, base_url: str, **settings: Any) -> None:
        self.base_url = base_url
        self.recording = Recording(content="full", redaction="off", **settings)
        self._pipeline = Pipeline(self.recording.settings)
        self._app = FastAPI()
        self._app.add_middleware(TurntraceMiddleware, turntrace=self.recording)
        self._app.post("/turn")(self._turn)
        self._app.post("/later")(self._later)
        self._work: Callable[[], Any] = lambda: None

    def _turn(self) -> dict[str, str]:
        self._work()
        return {}

    async def _later(self) -> dict[str, str]:
        await self._work()
        return {}

    async def turn(self, work: Callable[[], Any]) -> Trace:
        """One turn, as it is stored."""
        self._work = work
        self.recording.frames.clear()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://host.test") as visitor:
            answer = await visitor.post("/later" if asyncio.iscoroutinefunction(work) else "/turn", timeout=60)
        assert answer.status_code == 200
        return self.stored()

    def stored(self) -> Trace:
        """What the pipeline makes of the frames."""
        fragments = [decode(kind, orjson.dumps(document)) for kind, document in self.recording.frames]
        (found,) = self._pipeline.work([merge(fragments)])
        assert found.trace is not None
        return found.trace

    async def one(self, work: Callable[[], Any]) -> Observation:
        """The only observation of a turn, which has ended."""
        (found,) = (await self.turn(work)).observations
        assert found.duration_us is not None
        return found


@pytest.fixture
def host(base_url: str) -> Host:
    return Host(base_url, stream_usage_hosts=("127.0.0.1",))


def asked(text: str) -> Any:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def counted(item: Observation) -> tuple[Any, ...]:
    assert item.usage is not None
    usage = item.usage
    return usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens


def said(item: Observation) -> Any:
    assert isinstance(item.output, list)
    return "".join(message["content"] or "" for message in item.output)


@pytest.mark.anyio
async def test_a_chat_is_a_generation_with_usage_and_cost(host: Host, client: openai.OpenAI) -> None:
    kept: list[Any] = []

    def work() -> None:
        kept.append(client.chat.completions.create(model=MODEL, messages=asked("How?"), temperature=0.5, user="u-7"))

    found = await host.one(work)
    assert type(kept[0]) is openai.types.chat.ChatCompletion
    assert (found.type, found.name, found.provider) == ("generation", f"chat {MODEL}", "openai")
    assert (found.model_requested, found.model) == (MODEL, f"{MODEL}-2024-07-18")
    assert (counted(found), found.finish_reasons, found.response_id) == (USAGE, ("stop",), kept[0].id)
    assert found.cost is not None
    assert found.cost.total_nano == COST
    assert (found.parameters, found.flags, found.level) == ({"temperature": 0.5}, (), "default")
    assert (found.input, said(found)) == (asked("How?"), TEXT)


@pytest.mark.anyio
async def test_the_asynchronous_client_is_traced_alike(host: Host, traced: None) -> None:
    async def work() -> None:
        async with openai.AsyncOpenAI(base_url=host.base_url, api_key="k") as client:
            await client.chat.completions.create(model=MODEL, messages=asked("How?"))

    found = await host.one(work)
    assert (counted(found), said(found)) == (USAGE, TEXT)


@pytest.mark.anyio
async def test_azures_client_is_traced_alike(host: Host, traced: None) -> None:
    endpoint = host.base_url.removesuffix("/v1")

    def work() -> None:
        with openai.AzureOpenAI(azure_endpoint=endpoint, api_key="k", api_version="2025-04-01-preview") as client:
            client.chat.completions.create(model=MODEL, messages=asked("How?"))

    found = await host.one(work)
    assert (counted(found), found.name, said(found)) == (USAGE, f"chat {MODEL}", TEXT)


@pytest.mark.anyio
async def test_tools_offered_and_called_are_kept(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        client.chat.completions.create(model=MODEL, messages=asked("use the tool"), tools=[TOOL])

    found = await host.one(work)
    ((call,), (tool,)) = found.tool_calls, found.tool_definitions
    assert (call["name"], call["arguments"]) == ("find", {"about": "kettle"})
    assert "find" in str(tool)
    assert found.finish_reasons == ("tool_calls",)


@pytest.mark.anyio
async def test_parsed_answers_and_answers_that_cannot_be_parsed(host: Host, client: openai.OpenAI) -> None:
    class Advice(BaseModel):
        text: str

    def work() -> None:
        with pytest.raises(Exception, match="Invalid JSON"):
            client.chat.completions.parse(model=MODEL, messages=asked("How?"), response_format=Advice)

    found = await host.one(work)
    assert (found.status, found.parameters["response_format"]["type"]) == ("error", "json_schema")


@pytest.mark.anyio
async def test_responses_are_generations_and_their_instructions_are_input(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        client.responses.create(model=MODEL, input="How?", instructions="Be brief.")

    found = await host.one(work)
    assert (counted(found), said(found), found.finish_reasons) == (USAGE, TEXT, ("stop",))
    assert found.input == asked("How?")
    assert found.cost is not None
    assert found.cost.total_nano == COST


@pytest.mark.anyio
@pytest.mark.parametrize("tools", [None, [{"type": "function", **TOOL["function"]}]])
async def test_a_streamed_response_is_complete(host: Host, client: openai.OpenAI, tools: Any) -> None:
    kinds: list[str] = []

    def work() -> None:
        given = {"tools": tools} if tools else {}
        stream = client.responses.create(model=MODEL, input="use the tool", stream=True, **given)
        kinds.extend(event.type for event in stream)

    found = await host.one(work)
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert (counted(found), found.ttft_us is not None, "incomplete" in found.metadata) == (USAGE, True, False)
    if tools:
        assert (found.tool_calls[0]["name"], found.finish_reasons) == ("find", ("tool_calls",))
    else:
        assert said(found) == TEXT


@pytest.mark.anyio
async def test_embeddings_have_usage_and_no_vectors(host: Host, client: openai.OpenAI) -> None:
    vectors: list[Any] = []

    def work() -> None:
        answer = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        vectors.extend(item.embedding for item in answer.data)

    found = await host.one(work)
    assert len(vectors) == 2
    assert (found.type, found.input, found.output) == ("embedding", ["one", "two"], None)
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (7, None)
    assert found.cost is not None


@pytest.mark.anyio
async def test_a_refusal_is_an_error_and_the_exception_the_clients_own(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        with pytest.raises(openai.RateLimitError) as refused:
            client.with_options(max_retries=1).chat.completions.create(model=MODEL, messages=asked("limit"))
        assert refused.value.status_code == 429

    found = await host.one(work)
    assert found.error is not None
    assert (found.status, found.error.type, found.metadata["http_status"]) == ("error", "RateLimitError", 429)
    assert (found.metadata["retries"], found.metadata["rate_limit"]["limit"]) == (1, "60")
    assert (found.usage, found.output) == (None, None)


@pytest.mark.anyio
async def test_a_call_that_is_retried_is_one_observation(host: Host, provider: Provider, traced: None) -> None:
    before = len(provider.asked)

    async def work() -> None:
        async with openai.AsyncOpenAI(base_url=host.base_url, api_key="k", max_retries=2) as client:
            await client.chat.completions.create(model=MODEL, messages=asked("flaky"))

    found = await host.one(work)
    assert len(provider.asked) - before == 2
    assert (found.status, found.metadata["retries"], counted(found)) == ("ok", 1, USAGE)


# --- streams --------------------------------------------------------------------------------------------------------


def streamed(client: openai.OpenAI, text: str = "How?", **more: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=asked(text), stream=True, **more)


@pytest.mark.anyio
async def test_a_stream_has_its_usage_and_the_application_its_own_chunks(
    host: Host, client: openai.OpenAI, provider: Provider
) -> None:
    chunks: list[Any] = []

    def work() -> None:
        stream = streamed(client)
        assert type(stream) is openai.Stream
        chunks.extend(stream)

    found = await host.one(work)
    assert provider.asked[-1][1]["stream_options"] == {"include_usage": True}
    assert [chunk.choices[0].delta.content for chunk in chunks] == [
        "",
        *TEXT.replace(" ", "| ").split("|")[:-1],
        *([" vinegar", ".", None]),
    ]
    assert (counted(found), said(found), found.finish_reasons) == (USAGE, TEXT, ("stop",))
    assert found.ttft_us is not None
    assert found.parameters == {"stream": True}
    assert "incomplete" not in {*found.metadata, *found.flags}


@pytest.mark.anyio
async def test_a_caller_who_asks_for_the_usage_gets_its_chunk(host: Host, client: openai.OpenAI) -> None:
    chunks: list[Any] = []

    def work() -> None:
        chunks.extend(streamed(client, stream_options={"include_usage": True}))

    found = await host.one(work)
    assert chunks[-1].usage.prompt_tokens == 100
    assert counted(found) == USAGE


@pytest.mark.anyio
async def test_a_host_that_is_not_named_is_asked_for_nothing(
    base_url: str, client: openai.OpenAI, provider: Provider
) -> None:
    found = await Host(base_url).one(lambda: list(streamed(client)))
    assert "stream_options" not in provider.asked[-1][1]
    assert (found.usage, found.finish_reasons) == (None, ("stop",))


@pytest.mark.anyio
async def test_tool_calls_of_a_stream_are_put_together(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        for _ in streamed(client, "use the tool", tools=[TOOL]):
            pass

    found = await host.one(work)
    assert (found.tool_calls[0]["name"], found.tool_calls[0]["arguments"]) == ("find", {"about": "kettle"})


def broken(client: openai.OpenAI, pieces: int) -> None:
    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        for _ in streamed(client, f"break {pieces}"):
            pass


def closed(client: openai.OpenAI, pieces: int) -> None:
    with streamed(client, "slow") as stream:
        for _ in range(pieces):
            next(stream)


def dropped(client: openai.OpenAI, pieces: int) -> None:
    stream = streamed(client, "slow")
    for _ in range(pieces):
        next(stream)
    stream.response.stream.close()  # else the socket is the interpreter's to complain about
    del stream
    gc.collect()


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [0, 1, 3])
@pytest.mark.parametrize(
    ("how", "end", "reason"),
    [(broken, "error", "failed"), (closed, "ok", "left"), (dropped, "ok", "left")],
    ids=["broken", "closed", "dropped"],
)
async def test_a_stream_that_does_not_reach_its_end_is_one_finished_observation(
    host: Host, client: openai.OpenAI, how: Any, end: str, reason: str, pieces: int
) -> None:
    found = await host.one(lambda: how(client, pieces))
    assert (found.status, found.metadata["incomplete"], found.metadata["stream_chunks"]) == (end, reason, pieces)
    assert (found.level, "incomplete" in found.flags) == ("error" if end == "error" else "warning", True)
    assert (found.ttft_us is not None) == (pieces > 1)
    assert (said(found) if found.output else "") == {0: "", 1: "", 3: "The kettle"}[pieces]
    assert (found.usage, found.finish_reasons) == (None, ())


@pytest.mark.anyio
async def test_a_stream_that_ends_without_a_reason_is_incomplete(host: Host, client: openai.OpenAI) -> None:
    found = await host.one(lambda: list(streamed(client, "cut")))
    assert (said(found), found.metadata["incomplete"], found.level) == (TEXT, "cut", "warning")


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_a_cancelled_stream_is_one_finished_observation(host: Host, traced: None, pieces: int) -> None:
    async def read(client: openai.AsyncOpenAI, reached: asyncio.Event) -> None:
        stream = await client.chat.completions.create(model=MODEL, messages=asked("slow"), stream=True)
        assert type(stream) is openai.AsyncStream
        if pieces == 0:
            reached.set()
            await asyncio.Event().wait()
        count = 0
        async for _ in stream:
            count += 1
            if count == pieces:
                reached.set()

    async def work() -> None:
        async with openai.AsyncOpenAI(base_url=host.base_url, api_key="k") as client:
            reached = asyncio.Event()
            task = asyncio.create_task(read(client, reached))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    found = await host.one(work)
    assert ("incomplete" in found.flags, found.status) == (True, "ok")
    if pieces:  # what was not read at all is only dropped, and the exception still holds it
        assert (found.metadata["incomplete"], found.level) == ("cancelled", "warning")
        assert found.metadata["stream_chunks"] == pieces


@pytest.mark.anyio
async def test_an_asynchronous_stream_that_is_left_or_closed_is_finished(host: Host, traced: None) -> None:
    async def work() -> None:
        async with openai.AsyncOpenAI(base_url=host.base_url, api_key="k") as client:
            stream = await client.chat.completions.create(model=MODEL, messages=asked("slow"), stream=True)
            async for _ in stream:
                break
            await stream.close()

    found = await host.one(work)
    assert (found.metadata["incomplete"], found.metadata["stream_chunks"]) == ("left", 1)


@pytest.mark.anyio
async def test_helpers_and_raw_responses_are_followed(host: Host, client: openai.OpenAI) -> None:
    texts: list[Any] = []

    def work() -> None:
        with client.chat.completions.stream(model=MODEL, messages=asked("helper")) as stream:
            texts.append(stream.get_final_completion().choices[0].message.content)
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=asked("raw"))
        texts.append(raw.parse().choices[0].message.content)
        raw_stream = client.chat.completions.with_raw_response.create(model=MODEL, messages=asked("raw"), stream=True)
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in raw_stream.parse()))
        with client.chat.completions.with_streaming_response.create(model=MODEL, messages=asked("lines")) as lines:
            texts.append(lines.parse().choices[0].message.content)
        with client.chat.completions.with_streaming_response.create(model=MODEL, messages=asked("bytes")) as lines:
            assert lines.read()

    found = (await host.turn(work)).observations
    assert texts == [TEXT] * 4
    assert [said(item) for item in found] == [TEXT] * 5
    assert [item.usage is not None for item in found] == [True, True, False, True, True]
    assert all(item.duration_us is not None for item in found)


@pytest.mark.anyio
async def test_steps_of_a_turn_hold_the_calls_made_in_them(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        with observation(None, "agent", type="agent"):
            list(streamed(client))

    agent, call = (await host.turn(work)).observations
    assert (call.type, call.parent_span_id) == ("generation", agent.span_id)


@pytest.mark.anyio
async def test_a_call_described_by_hand_is_counted_once(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        with generation(None, "answer", model=MODEL, provider="openai", input=asked("How?")):
            client.chat.completions.create(model=MODEL, messages=asked("How?"))

    turn = await host.turn(work)
    assert [item.name for item in turn.observations if item.type == "generation"] == ["answer"]
    assert (turn.cost_total_nano, said(turn.observations[0])) == (COST, TEXT)


@pytest.mark.anyio
async def test_two_calls_in_one_described_by_hand_are_both_counted(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        with generation(None, "answers", model=MODEL, provider="openai"):
            for _ in range(2):
                client.chat.completions.create(model=MODEL, messages=asked("How?"))

    turn = await host.turn(work)
    assert turn.cost_total_nano == 2 * COST


@pytest.mark.anyio
async def test_nothing_is_altered_where_nothing_is_recorded(
    host: Host, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[Any] = []

    def work() -> None:
        with observation(None, "step"), suspended():
            texts.append(client.chat.completions.create(model=MODEL, messages=asked("How?")))
        monkeypatch.setattr("turntrace.integrations.openai.call.question_of", lambda *_: 1 / 0)
        host.recording.guard = Guard(reraise=False)
        texts.append(client.chat.completions.create(model=MODEL, messages=asked("How?")))

    assert [item.name for item in (await host.turn(work)).observations] == ["step"]
    assert [answer.choices[0].message.content for answer in texts] == [TEXT, TEXT]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "broken_part",
    ["call.answer_fields", "call.observe_stream", "call.growth_of", "call.provider_of", "steps.is_usage_only"],
)
async def test_a_fault_of_ours_is_counted_and_the_client_does_not_notice(
    host: Host, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, broken_part: str
) -> None:
    faults: list[str] = []
    host.recording.guard = Guard(on_fault=faults.append)
    monkeypatch.setattr(f"turntrace.integrations.openai.{broken_part}", lambda *_, **__: 1 / 0)
    texts: list[Any] = []

    def work() -> None:
        texts.append(client.chat.completions.create(model=MODEL, messages=asked("How?")).choices[0].message.content)
        chunks = [chunk for chunk in streamed(client) if chunk.choices]
        texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))

    found = (await host.turn(work)).observations
    assert texts == [TEXT, TEXT]
    assert len(found) == 2
    assert all(item.duration_us is not None for item in found)
    assert faults


@pytest.mark.anyio
async def test_outside_a_turn_a_call_is_a_turn_of_its_own(host: Host, client: openai.OpenAI) -> None:
    set_default(host.recording)
    try:
        list(streamed(client))
    finally:
        set_default(None)
    turn = host.stored()
    assert (turn.duration_us is not None, [item.type for item in turn.observations]) == (True, ["generation"])
    assert counted(turn.observations[0]) == USAGE


def test_switching_off_puts_the_clients_own_methods_back() -> None:
    was_on = is_on()
    switch_off()
    before = dict(vars(openai.OpenAI)), dict(vars(openai.AsyncOpenAI))
    assert switch_on()
    assert not switch_on()
    assert "request" in vars(openai.OpenAI)
    assert switch_off()
    assert (dict(vars(openai.OpenAI)), dict(vars(openai.AsyncOpenAI))) == before
    if was_on:
        switch_on()


def test_the_drop_in_is_the_official_package() -> None:
    was_on = is_on()
    from turntrace.openai import OpenAI
    from turntrace.openai import openai as dropped_in

    assert (dropped_in, OpenAI) == (openai, openai.OpenAI)
    if not was_on:
        switch_off()
