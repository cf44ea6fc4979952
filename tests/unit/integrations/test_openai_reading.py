"""What is read from requests, answers and pieces of answers of the OpenAI protocol: tables of cases."""

from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from turntrace.integrations.openai.answer import answer_fields
from turntrace.integrations.openai.growth import growth_of
from turntrace.integrations.openai.provider import provider_of, states_usage_of_streams
from turntrace.integrations.openai.question import question_of
from turntrace.integrations.openai.usage import usage_of
from turntrace.tracing.field import check_observation

Document = dict[str, Any]


def client(url: str) -> Any:
    return SimpleNamespace(base_url=url)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1/", "openai"),
        ("https://eu.api.openai.com/v1/", "openai"),
        ("https://mine.openai.azure.com/openai/", "azure.ai.openai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://notopenrouter.ai/v1", "openai"),
        ("http://127.0.0.1:8000/v1", "vllm"),
        ("http://127.0.0.1:9000/v1", "local"),
        ("", "openai"),
        ("http://[broken", "openai"),
    ],
)
def test_the_provider_is_known_by_its_host(url: str, provider: str) -> None:
    assert provider_of(client(url), ("127.0.0.1:8000=vllm", "127.0.0.1=local", "nonsense")) == provider


@pytest.mark.parametrize(
    ("url", "is_asked"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.example/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)
def test_usage_is_asked_for_where_the_setting_says(url: str, is_asked: bool) -> None:
    assert states_usage_of_streams(client(url), ("api.openai.com", "*.api.openai.com")) is is_asked


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "/chat/completions", {}),
        ("post", "/files", {"model": "m"}),
        ("post", "/chat/completions/chatcmpl-1", {"metadata": {}}),
        ("post", None, {}),
        ("post", "/chat/completions", None),
        ("post", "/chat/completions", [1]),
    ],
)
def test_other_requests_are_no_model_calls(method: Any, path: Any, body: Any) -> None:
    assert question_of(method, path, body) is None


def test_names_of_persons_are_no_parameters() -> None:
    body = {"model": "m", "messages": [], "user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "seed": 1}
    question = question_of("post", "/chat/completions", body)
    assert question is not None
    assert question.fields["parameters"] == {"seed": 1}
    assert "user_id" not in question.fields


def test_a_stored_prompt_is_linked() -> None:
    stored = {"id": "pmpt_1", "version": "3", "variables": {"a": "b"}}
    question = question_of("post", "/responses", {"model": "m", "input": "hi", "prompt": stored})
    assert question is not None
    assert check_observation(question.fields)["prompt"] == {"name": "pmpt_1", "version": "3", "variables": {"a": "b"}}


@pytest.mark.parametrize(
    ("stated", "counts"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": 3, "total_tokens": 3}, {"input_tokens": 3}),
        ({"prompt_tokens": -1, "completion_tokens": "7"}, None),
        ({"prompt_tokens": True, "completion_tokens": 0}, {"output_tokens": 0}),
        ({"input_tokens": 9, "input_tokens_details": None}, {"input_tokens": 9}),
        (SimpleNamespace(prompt_tokens=5, completion_tokens=2), {"input_tokens": 5, "output_tokens": 2}),
        ("many", None),
    ],
)
def test_usage_is_what_is_stated(stated: Any, counts: Any) -> None:
    assert usage_of(stated) == counts


def test_a_response_that_was_cut_off_or_failed_says_why() -> None:
    cut = {"id": "r", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    assert answer_fields("response", cut)["finish_reasons"] == ["max_output_tokens"]
    failed = {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "it broke"}, "output": []}
    fields = answer_fields("response", failed)
    assert (fields["level"], fields["status_message"]) == ("error", "server_error: it broke")


def test_items_of_a_response_that_are_no_messages_survive() -> None:
    searched = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    refused = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    fields = answer_fields("response", {"output": [searched, refused], "status": "completed"})
    assert fields["output"] == [
        {"role": "assistant", "content": [searched]},
        {"role": "assistant", "content": [refused]},
    ]


@pytest.mark.parametrize("kind", ["chat", "completion", "response", "embedding"])
@pytest.mark.parametrize(
    "answer",
    [None, 7, "text", [], {}, {"choices": None}, {"choices": [None, 7, {}]}, {"output": [None, 7, {}], "usage": 3}],
)
def test_nonsense_for_an_answer_is_read_as_far_as_it_goes(kind: Any, answer: Any) -> None:
    check_observation(answer_fields(kind, answer))
    growth = growth_of(kind, 100)
    growth.add(answer)
    check_observation(growth.fields())
    assert growth.is_complete() is False


def chunk(delta: Document, reason: str | None = None, index: int = 0, **more: Any) -> Any:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    envelope = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return ChatCompletionChunk.model_validate({**envelope, **more})


def test_choices_and_calls_grow_side_by_side() -> None:
    growth = growth_of("chat", 1000)
    started = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"a'}}
    for piece in (
        chunk({"role": "assistant", "content": "one"}),
        chunk({"content": "two"}, index=1),
        chunk({"tool_calls": [started]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]}, "tool_calls"),
    ):
        growth.add(piece)
    assert growth.is_complete() is False
    growth.add(chunk({"reasoning_content": "hm"}, "stop", index=1))
    fields = growth.fields()
    assert growth.is_complete() is True
    assert [message["content"] for message in fields["output"]] == ["one", "two"]
    assert fields["tool_calls"] == [{"id": "call_1", "name": "find", "arguments": '{"a": 1}'}]
    assert (fields["finish_reasons"], fields["output"][1]["reasoning_content"]) == (["tool_calls", "stop"], "hm")


def test_what_is_kept_of_a_long_stream_is_bounded() -> None:
    growth = growth_of("chat", 1000)
    for _ in range(3000):
        growth.add(chunk({"content": "x" * 10}))
    for index in range(500):
        growth.add(chunk({"content": "y"}, index=index))
    output = growth.fields()["output"]
    assert (len(output[0]["content"]), len(output)) == (1000, 64)


def test_usage_in_the_last_piece_of_groq_is_found() -> None:
    growth = growth_of("chat", 100)
    growth.add(chunk({}, "stop", x_groq={"usage": {"prompt_tokens": 4, "completion_tokens": 2}}))
    assert growth.fields()["usage"] == {"input_tokens": 4, "output_tokens": 2}


def test_an_error_in_a_stream_of_the_responses_api_is_told() -> None:
    growth = growth_of("response", 100)
    growth.add({"type": "response.output_text.delta", "output_index": 0, "delta": "half"})
    growth.add({"type": "error", "code": "server_error", "message": "it broke"})
    fields = growth.fields()
    assert (fields["level"], fields["status_message"], growth.is_complete()) == (
        "error",
        "server_error: it broke",
        False,
    )
    assert fields["output"] == [{"role": "assistant", "content": "half"}]


def test_a_function_call_of_the_older_kind_is_told_in_pieces_as_it_is_at_once() -> None:
    growth = growth_of("chat", 1000)
    assert growth.add(chunk({"function_call": {"name": "find", "arguments": ""}})) is True
    growth.add(chunk({"function_call": {"arguments": '{"a":'}}))
    growth.add(chunk({"function_call": {"arguments": "1}"}}, "function_call"))
    whole = {"function_call": {"name": "find", "arguments": '{"a":1}'}, "content": None}
    told = answer_fields("chat", {"choices": [{"message": whole, "finish_reason": "function_call"}]})
    fields = growth.fields()
    assert fields["tool_calls"] == told["tool_calls"] == [{"id": None, "name": "find", "arguments": '{"a":1}'}]
    assert fields["finish_reasons"] == told["finish_reasons"]
    check_observation(fields)
