"""Logfire's instrumentations of clients and agents, and spans with the names of two conventions at once."""

from typing import Any

import pytest

from tests.unit.pipeline.turns import observed, span
from turntrace.records.observation import Observation
from turntrace.records.usage import Usage

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o-mini"}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}]


def one(scope: str = "logfire.openai", **attributes: Any) -> Observation:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return observed(span(1, scope=scope, attributes={**CHAT, **named}))["s1"]


def test_a_request_and_its_answer_are_read_where_there_are_no_messages() -> None:
    found = one(
        request_data={"messages": ASKED, "model": "gpt-4o-mini", "temperature": 0, "stream": False},
        response_data={"message": {"role": "assistant", "content": "Like so.", "tool_calls": None}, "usage": {}},
    )
    assert (found.type, found.input) == ("generation", ASKED)
    assert found.output == [{"role": "assistant", "content": "Like so."}]
    assert found.parameters == {"temperature": 0, "stream": False}
    assert not {"request_data", "response_data"} & found.metadata.keys()


def test_the_pieces_of_a_stream_are_an_answer_and_the_system_text_goes_first() -> None:
    found = one(
        request_data={"system": "Be brief.", "messages": ASKED[1:]},
        response_data={"combined_chunk_content": "Like so.", "chunk_count": 7},
    )
    assert (found.input, found.output) == (ASKED, [{"role": "assistant", "content": "Like so."}])


def test_tool_calls_of_an_answer_are_calls() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"about": "kettle"}'}}
    found = one(response_data={"message": {"role": "assistant", "content": None, "tool_calls": [call]}})
    assert found.tool_calls == ({"id": "c1", "name": "find", "arguments": {"about": "kettle"}},)


def test_what_nobody_answered_any_more_is_the_output() -> None:
    said = [
        {"event.name": "gen_ai.user.message", "role": "user", "content": "How?"},
        {"event.name": "gen_ai.assistant.message", "role": "assistant", "content": "Which one?"},
        {"event.name": "gen_ai.user.message", "role": "user", "content": "That one."},
        {"event.name": "gen_ai.assistant.message", "role": "assistant", "content": "Like so."},
    ]
    usage = {"requests": 1, "input_tokens": 11, "output_tokens": 8, "input_tokens_details": {"cached_tokens": 4}}
    found = one(events=said, raw_input=[{"role": "user"}], response_id="resp_1", usage=usage)
    assert [message["role"] for message in found.input] == ["user", "assistant", "user"]
    assert found.output == [{"role": "assistant", "content": "Like so."}]
    assert found.usage == Usage(input_tokens=11, output_tokens=8, cache_read_tokens=4)
    assert (found.response_id, found.metadata) == ("resp_1", {})


def test_a_choice_among_the_events_is_the_output() -> None:
    events = [
        {"role": "user", "content": "How?"},
        {"index": 0, "finish_reason": "STOP", "message": {"role": "assistant", "content": ["Like so."]}},
    ]
    found = one("logfire.google_genai", gen_ai__system="gemini", events=events)
    assert (found.input, found.provider) == ([{"role": "user", "content": "How?"}], "gcp.gemini")
    assert "Like so." in str(found.output)


def test_partial_counts_are_an_estimate() -> None:
    partial = {"input_tokens": 9344, "output_tokens": 1, "cache_read.input_tokens": 7166}
    found = one(**{f"gen_ai__usage__partial__{name}": count for name, count in partial.items()})
    assert found.usage == Usage(input_tokens=9344, output_tokens=1, cache_read_tokens=7166, is_estimated=True)


@pytest.mark.parametrize("value", ["{broken", 7, [], ["text"], {"messages": 5, "message": "x"}, None])
def test_no_shape_of_the_extras_costs_the_span(value: Any) -> None:
    found = one(request_data=value, response_data=value, events=value, usage=value, raw_input=value)
    assert (found.type, found.model) == ("generation", "gpt-4o-mini")


def test_a_function_that_google_calls_by_itself_has_its_arguments() -> None:
    named = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"}
    code = {"parameters.place.type": "str", "parameters.place.value": "Paris", "return.type": "str"}
    code = {f"code.function.{name}": value for name, value in {**code, "return.value": "rainy"}.items()}
    scope = "opentelemetry.instrumentation.google_genai"
    found = observed(span(1, scope=scope, attributes={**named, **code, "code.args.positional.count": 1}))["s1"]
    assert (found.type, found.input, found.output) == ("tool", {"place": "Paris"}, "rainy")


def test_the_conventions_fill_what_openinference_leaves_open_and_repeat_nothing() -> None:
    usage = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2, "gen_ai.response.id": "r1"}
    bare = {**CHAT, **usage, "openinference.span.kind": "LLM"}
    found = observed(span(1, scope="x", attributes=bare))["s1"]
    assert (found.type, found.model, found.provider, found.response_id) == ("generation", "gpt-4o-mini", "openai", "r1")
    assert (found.usage, found.metadata) == (Usage(input_tokens=5, output_tokens=2), {})
    counted = {"llm.token_count.prompt": 80, "llm.token_count.completion": 18, "llm.model_name": "gpt-4o"}
    both = observed(span(1, scope="x", attributes={**bare, **counted}))["s1"]
    assert (both.model, both.usage, both.metadata) == ("gpt-4o", Usage(input_tokens=80, output_tokens=18), {})


def test_the_kind_goes_before_the_operation() -> None:
    named = {"openinference.span.kind": "CHAIN", "gen_ai.usage.input_tokens": 5, **CHAT}
    found = observed(span(1, scope="x", attributes=named))["s1"]
    assert (found.type, found.usage) == ("chain", None)
