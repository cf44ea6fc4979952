"""Images, audio and the realtime API through the drop-in: what is billable is recorded, what is large is described."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from websockets.sync.server import ServerConnection, serve

from tests.acceptance.clients.provider import TEXT
from tests.acceptance.clients.test_openai_client import Host, base_url, client, host, provider, traced
from tests.acceptance.servers import free_port
from turntrace.integrations.openai.switch import is_on, switch_off, switch_on
from turntrace.records.observation import Observation

__all__ = ["base_url", "client", "host", "provider", "traced"]  # fixtures
PNG = ("kettle.png", b"\x89PNG\r\n\x1a\n", "image/png")
WAV = ("question.wav", b"RIFF" + bytes(60), "audio/wav")


def counts(item: Observation) -> dict[str, Any]:
    assert item.usage is not None
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "input_audio_tokens", "output_audio_tokens")
    found = {name: getattr(item.usage, name) for name in names}
    return {**{name: count for name, count in found.items() if count is not None}, **item.usage.details}


def nano(item: Observation) -> int | None:
    return item.cost.total_nano if item.cost else None


@pytest.mark.anyio
async def test_an_image_has_its_tokens_and_its_size_and_not_its_bytes(host: Host, client: openai.OpenAI) -> None:
    found = await host.one(lambda: client.images.generate(model="gpt-image-1", prompt="a kettle", quality="low"))
    assert (found.type, found.name, found.input) == ("generation", "image gpt-image-1", "a kettle")
    assert found.output == [{"type": "image", "bytes": 8, "format": "png"}]
    assert found.parameters == {"quality": "low"}
    given = {"input_tokens": 50, "output_tokens": 200, "input_image_tokens": 40, "output_image_tokens": 200}
    assert counts(found) == given
    assert nano(found) == 10 * 5_000 + 40 * 10_000 + 200 * 40_000  # dollars per million tokens: 5, 10, 40


@pytest.mark.anyio
async def test_an_edit_sends_its_file_and_records_none_of_it(host: Host, client: openai.OpenAI) -> None:
    found = await host.one(lambda: client.images.edit(model="gpt-image-1", image=PNG, prompt="in red"))
    assert (found.input, counts(found)["input_image_tokens"]) == ("in red", 40)
    assert "PNG" not in str(found)


@pytest.mark.anyio
async def test_an_image_without_usage_has_none_and_no_cost(host: Host, client: openai.OpenAI) -> None:
    found = await host.one(lambda: client.images.generate(model="dall-e-3", prompt="a kettle"))
    assert (found.usage, found.cost) == (None, None)
    assert found.output == [{"type": "image", "url": "https://images.test/1.png", "revised_prompt": "A red kettle"}]


@pytest.mark.anyio
async def test_a_streamed_image_ends_with_its_usage(host: Host, client: openai.OpenAI) -> None:
    def work() -> None:
        assert len(list(client.images.generate(model="gpt-image-1", prompt="a kettle", stream=True))) == 2

    found = await host.one(work)
    assert (counts(found)["output_image_tokens"], found.metadata["stream_chunks"]) == (200, 2)
    assert found.output == [{"type": "image", "bytes": 8, "format": "png"}]
    assert found.ttft_us is not None


@pytest.mark.anyio
async def test_what_was_heard_is_text_with_audio_tokens(host: Host, client: openai.OpenAI) -> None:
    transcribe = client.audio.transcriptions.create
    found = await host.one(lambda: transcribe(model="gpt-4o-transcribe", file=WAV, prompt="kettles"))
    assert (found.name, found.input, found.output) == ("transcription gpt-4o-transcribe", "kettles", TEXT)
    assert counts(found) == {"input_tokens": 100, "output_tokens": 10, "input_audio_tokens": 80}
    assert nano(found) == 20 * 2_500 + 80 * 6_000 + 10 * 10_000


@pytest.mark.anyio
async def test_a_transcription_that_is_paid_by_time_has_its_seconds(host: Host, client: openai.OpenAI) -> None:
    found = await host.one(lambda: client.audio.transcriptions.create(model="whisper-1", file=WAV))
    assert (counts(found), found.output) == ({"audio_seconds": 10}, TEXT)
    assert nano(found) == 1_000_000  # 0.36 dollars an hour


@pytest.mark.anyio
async def test_a_streamed_transcription_grows_and_a_left_one_is_incomplete(host: Host, client: openai.OpenAI) -> None:
    def all_of_it() -> None:
        list(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV, stream=True))

    def a_part() -> None:
        with client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV, stream=True) as stream:
            next(stream)

    found = await host.one(all_of_it)
    assert (found.output, counts(found)["input_audio_tokens"]) == (TEXT, 80)
    left = await host.one(a_part)
    assert (left.output, left.metadata["incomplete"], left.usage) == ("The", "left", None)


@pytest.mark.anyio
@pytest.mark.parametrize(("model", "cost"), [("tts-1", 26 * 15_000), ("gpt-4o-mini-tts", None)])
async def test_speech_is_described_and_counted_where_characters_are_paid(
    host: Host, client: openai.OpenAI, model: str, cost: int | None
) -> None:
    asked = "The kettle needs vinegar!!"
    found = await host.one(lambda: client.audio.speech.create(model=model, voice="alloy", input=asked).read())
    assert (found.name, found.input, found.parameters) == (f"speech {model}", asked, {"voice": "alloy"})
    assert found.output == {"type": "audio", "format": "audio/mpeg", "bytes": 480}
    assert nano(found) == cost


# --- realtime -------------------------------------------------------------------------------------------------------

SPOKEN = {
    "total_tokens": 60,
    "input_tokens": 40,
    "output_tokens": 20,
    "input_token_details": {
        **{"text_tokens": 10, "audio_tokens": 30, "cached_tokens": 8},
        "cached_tokens_details": {"text_tokens": 3, "audio_tokens": 5},
    },
    "output_token_details": {"text_tokens": 5, "audio_tokens": 15},
}


def speak(connection: ServerConnection) -> None:
    """A session: a response for each `response.create`; the second is only begun."""

    def send(event: dict[str, Any]) -> None:
        connection.send(json.dumps(event))

    send({"type": "session.created", "event_id": "e0", "session": {"type": "realtime", "model": "gpt-realtime"}})
    for number, message in enumerate(connection, 1):
        if json.loads(message)["type"] != "response.create":
            continue
        place = {"response_id": f"resp_{number}", "item_id": "i", "output_index": 0, "content_index": 0}
        send({"type": "response.created", "event_id": "e1", "response": {"id": place["response_id"]}})
        send({"type": "response.output_audio.delta", "event_id": "e2", "delta": "AAAA", **place})
        if number > 1:
            continue
        said = {"type": "output_audio", "transcript": TEXT}
        items = [{"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [said]}]
        items += [{"id": "j", "type": "function_call", "call_id": "c", "name": "find", "arguments": '{"about":"x"}'}]
        done = {"id": place["response_id"], "status": "completed", "output": items, "usage": SPOKEN}
        send({"type": "response.done", "event_id": "e3", "response": done})


@pytest.fixture(scope="module")
def spoken_url() -> Iterator[str]:
    port = free_port()
    with serve(speak, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{port}/v1"
        server.shutdown()
        thread.join(10)


def read_until(connection: Any, kind: str) -> None:
    while connection.recv().type != kind:
        pass


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # how the client uses websockets is its own affair
@pytest.mark.anyio
async def test_every_response_of_a_realtime_session_is_an_observation(
    host: Host, base_url: str, spoken_url: str, traced: None
) -> None:
    def work() -> None:
        made = openai.OpenAI(base_url=base_url, api_key="k", websocket_base_url=spoken_url)
        with made, made.realtime.connect(model="gpt-realtime") as connection:
            connection.response.create()
            read_until(connection, "response.done")
            connection.response.create()
            read_until(connection, "response.output_audio.delta")

    whole, left = (await host.turn(work)).observations
    assert (whole.type, whole.name, whole.provider) == ("generation", "realtime gpt-realtime", "openai")
    assert (whole.response_id, whole.ttft_us is not None, whole.flags) == ("resp_1", True, ())
    assert whole.output[0] == {"role": "assistant", "content": TEXT}
    assert [(call["name"], call["arguments"]) for call in whole.tool_calls] == [("find", {"about": "x"})]
    given = {"input_tokens": 40, "output_tokens": 20, "cache_read_tokens": 8}
    given |= {"input_audio_tokens": 30, "output_audio_tokens": 15, "cache_audio_read_tokens": 5}
    assert counts(whole) == given
    # dollars per million tokens: text 4, cached 0.4, audio 32, cached audio 0.4, out 16, audio out 64
    assert nano(whole) == 7 * 4_000 + 3 * 400 + 25 * 32_000 + 5 * 400 + 5 * 16_000 + 15 * 64_000
    assert (left.metadata["incomplete"], left.usage, left.duration_us is not None) == ("left", None, True)


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
@pytest.mark.anyio
async def test_the_asynchronous_session_is_recorded_as_well(
    host: Host, base_url: str, spoken_url: str, traced: None
) -> None:
    async def work() -> None:
        made = openai.AsyncOpenAI(base_url=base_url, api_key="k", websocket_base_url=spoken_url)
        async with made, made.realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            async with asyncio.timeout(20):
                async for event in connection:
                    if event.type == "response.done":
                        break

    found = await host.one(work)
    assert (counts(found)["input_tokens"], found.output[0]["content"]) == (40, TEXT)


def test_switching_off_puts_the_sessions_own_methods_back(base_url: str) -> None:
    was_on = is_on()
    switch_off()
    from openai.resources.realtime.realtime import RealtimeConnection

    before = dict(vars(RealtimeConnection)), dict(vars(openai.OpenAI))
    switch_on()
    with openai.OpenAI(base_url=base_url, api_key="k") as made:
        assert made.realtime is not None
    assert vars(RealtimeConnection)["parse_event"] is not before[0]["parse_event"]
    switch_off()
    assert (dict(vars(RealtimeConnection)), dict(vars(openai.OpenAI))) == before
    if was_on:
        switch_on()
