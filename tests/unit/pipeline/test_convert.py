"""Our own fields, the GenAI conventions and home-made names to typed observations."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.pipeline.turns import START_US, observed, own, span
from turntrace.pipeline.convert.dialect import recognise
from turntrace.pipeline.convert.langfuse import counts
from turntrace.pipeline.convert.message import definitions, from_parts, join_assistant, plain, plain_list
from turntrace.pipeline.convert.otlp import hex_id, join_logs, read_logs, read_spans, value
from turntrace.pipeline.convert.vocabulary import finish_reasons, parameter, provider
from turntrace.records.fragment import SpanEvent
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.usage import Cost, Usage


def one(**fields: Any) -> Observation:
    return observed(span(1, **fields))["s1"]


def mine(type: str = "generation", **fields: Any) -> Observation:
    return observed(own(1, type, **fields))["s1"]


def given(**attributes: Any) -> Observation:
    return one(scope="x", attributes={name.replace("__", "."): item for name, item in attributes.items()})


def test_every_field_of_our_own_spans_is_read() -> None:
    found = mine(
        level="warning",
        status_message="slow",
        input=[{"role": "user", "content": "hi"}],
        output="hello",
        metadata={"k": 1},
        tags=["t"],
        model="gpt-4o-mini",
        provider="OpenAI",
        parameters={"temperature": 0},
        usage={"input_tokens": 580, "output_tokens": 84, "cache_read_tokens": 512},
        finish_reason="end_turn",
        response_id="r",
        service_tier="flex",
        prompt={"name": "support", "version": 3, "label": "production", "variables": {"a": 1}},
        tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
        tool_definitions=[{"name": "f"}],
        completion_started_us=400,
    )
    assert (found.type, found.level, found.status_message, found.status) == ("generation", "warning", "slow", "ok")
    assert (found.input, found.output) == ([{"role": "user", "content": "hi"}], "hello")
    assert (found.metadata, found.tags, found.parameters) == ({"k": 1}, ("t",), {"temperature": 0})
    assert (found.model, found.model_requested, found.provider) == ("gpt-4o-mini", "gpt-4o-mini", "openai")
    assert found.usage == Usage(input_tokens=580, output_tokens=84, cache_read_tokens=512)
    assert (found.finish_reasons, found.response_id, found.service_tier) == (("stop",), "r", "flex")
    assert found.prompt == PromptLink(name="support", version=3, label="production", variables={"a": 1})
    assert found.tool_calls == ({"id": "c", "name": "f", "arguments": {"x": 1}},)
    assert (found.tool_definitions, found.ttft_us) == (({"name": "f"},), 400)
    assert found.flags == ("tier_at_base_price",)


def test_a_wrong_own_value_is_kept_in_the_metadata_and_flagged() -> None:
    found = mine(level="loud", tags="a", usage=7, prompt={"no": "name"}, colour="red")
    assert found.metadata == {"level": "loud", "tags": "a", "usage": 7, "prompt": {"no": "name"}, "colour": "red"}
    assert set(found.flags) == {f"field_invalid:{name}" for name in ("level", "tags", "usage", "prompt")}


@pytest.mark.parametrize("usage", [{"input_tokens": -5}, {"input_tokens": "x"}, {"output_tokens": 10**15}])
def test_impossible_usage_is_kept_raw_flagged_and_not_priced(usage: dict[str, Any]) -> None:
    found = mine(model="gpt-4o", provider="openai", usage=usage)
    assert (found.usage, found.cost) == (None, None)
    assert found.metadata == {"usage_raw": usage}
    assert found.flags == ("usage_invalid",)


def test_usage_may_be_the_providers_own_object() -> None:
    found = mine(
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "queue_time": 0.25,
            "service_tier": "default",
            "web_searches": 2,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
    )
    counted = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2)
    assert found.usage == replace(counted, details={"web_searches": 2})


def test_a_stated_cost_is_taken_as_the_providers() -> None:
    found = mine(model="gpt-4o", provider="openai", usage={"input_tokens": 1}, cost={"input": "0.1", "output": 0.2})
    assert found.cost == Cost(
        input_nano=100_000_000,
        output_nano=200_000_000,
        total_nano=300_000_000,
        source="provider",
        price_version="provider",
    )


def test_retrievals_count_their_documents() -> None:
    docs = [{"id": "a", "text": "x", "score": 0.9}, {"page_content": "y", "metadata": {"relevance_score": 0.2}}, "z"]
    found = mine("retrieval", input="why?", output=docs, retrieval={"top_k": 5, "data_source": "kb"})
    assert found.query == "why?"
    assert found.documents == (
        {"id": "a", "content": "x", "score": 0.9},
        {"content": "y", "score": 0.2, "metadata": {"relevance_score": 0.2}},
        {"content": "z"},
    )
    assert found.retrieval == {"data_source": "kb", "top_k": 5, "returned": 3, "score_min": 0.2, "score_max": 0.9}


def test_tools_and_agents_are_called_by_their_span() -> None:
    assert mine("tool").tool_name == "s1"
    assert mine("agent").agent_name == "s1"


def test_an_error_has_its_class_without_module_and_its_stack() -> None:
    error = {"type": "openai.RateLimitError", "message": "429", "stack": "line"}
    found = one(own={"type": "generation"}, status="error", error=error)
    assert (found.status, found.level) == ("error", "error")
    assert found.error == ErrorInfo(type="RateLimitError", message="429", stack="line")


def test_an_error_of_an_instrumentation_comes_from_its_exception_event() -> None:
    event = SpanEvent(name="exception", at_us=1, attributes={"exception.type": "a.B", "exception.message": "m"})
    assert one(scope="x", status="error", events=(event,)).error == ErrorInfo(type="B", message="m")
    told = one(scope="x", status="error", status_message="broken", attributes={"error.type": "timeout"})
    assert told.error == ErrorInfo(type="timeout", message="broken")


def test_an_open_span_says_so() -> None:
    assert one(duration_us=None, own={"type": "tool"}).is_open


def test_attributes_set_on_our_own_spans_are_read_and_our_fields_win() -> None:
    attributes = {"gen_ai.response.model": "m", "gen_ai.response.id": "r", "gen_ai.operation.name": "chat", "left": 1}
    found = one(own={"type": "agent", "model": "mine"}, attributes=attributes)
    assert (found.type, found.model, found.response_id, found.metadata) == ("agent", "mine", "r", {"left": 1})


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("chat", "generation"),
        (" Text_Completion ", "generation"),
        ("generate_content", "generation"),
        ("embeddings", "embedding"),
        ("retrieval", "retrieval"),
        ("rerank", "reranker"),
        ("execute_tool", "tool"),
        ("invoke_agent", "agent"),
        ("invoke_workflow", "chain"),
        ("create_agent", "span"),
        ("something_new", "span"),
        (7, "span"),
    ],
)
def test_operations_are_types(operation: Any, kind: str) -> None:
    assert given(gen_ai__operation__name=operation).type == kind


def test_older_names_are_read_where_the_current_ones_are_missing() -> None:
    found = given(
        gen_ai__operation__name="chat",
        gen_ai__system="az.ai.openai",
        gen_ai__request__model="gpt-4o",
        gen_ai__usage__prompt_tokens=9,
        gen_ai__usage__completion_tokens=3,
        gen_ai__usage__cache_read_input_tokens=4,
        gen_ai__response__finish_reasons='["length"]',
        gen_ai__openai__response__service_tier="default",
        gen_ai__openai__request__seed=7,
        gen_ai__request__max_completion_tokens=64,
        gen_ai__prompt='[{"role": "user", "content": "hi"}]',
        gen_ai__completion="plain text",
    )
    assert (found.provider, found.model, found.service_tier) == ("azure.ai.openai", "gpt-4o", "default")
    assert found.usage == Usage(input_tokens=9, output_tokens=3, cache_read_tokens=4)
    assert (found.finish_reasons, found.parameters) == (("length",), {"seed": 7, "max_tokens": 64})
    assert (found.input, found.output) == ([{"role": "user", "content": "hi"}], "plain text")
    assert found.metadata == {}


def test_retrieval_conventions_are_read() -> None:
    found = given(
        gen_ai__operation__name="retrieval",
        gen_ai__retrieval__query__text="q",
        gen_ai__retrieval__documents='[{"id": "d", "score": 0.5}]',
        gen_ai__request__top_k=3,
        gen_ai__data_source__id="kb",
    )
    assert (found.query, found.documents) == ("q", ({"id": "d", "score": 0.5},))
    assert found.retrieval == {"data_source": "kb", "top_k": 3, "returned": 1, "score_min": 0.5, "score_max": 0.5}


def test_langchain_tool_wrappers_are_taken_off() -> None:
    found = given(
        gen_ai__operation__name="execute_tool",
        gen_ai__tool__call__arguments='{"input_str": "{\\"city\\": \\"Paris\\"}", "tags": null}',
        gen_ai__tool__call__result='{"output": {"kwargs": {"content": "sunny"}}}',
    )
    assert (found.input, found.output) == ({"city": "Paris"}, "sunny")


@pytest.mark.parametrize("text", ['[{"role": "user", "parts', "{not json", '"open'])
def test_truncated_json_stays_as_text(text: str) -> None:
    found = given(gen_ai__operation__name="chat", gen_ai__input__messages=text, gen_ai__output__messages=text)
    assert (found.input, found.output) == ([{"role": "user", "content": text}], text)


def test_home_made_names_are_read() -> None:
    call = given(llm__model="m", llm__provider="Groq", llm__prompt_tokens=3, llm__completion_tokens=4, left=1)
    assert (call.type, call.model, call.provider) == ("generation", "m", "groq")
    assert call.usage == Usage(input_tokens=3, output_tokens=4)
    assert call.metadata == {"left": 1}
    tool = given(tool__name="f", tool__args='{"a": 1}', tool__result="done")
    assert (tool.type, tool.tool_name, tool.input, tool.output) == ("tool", "f", {"a": 1}, "done")
    search = given(retrieval__query="q", retrieval__k=2, retrieval__docs='[{"id": "1", "content": "x"}]')
    assert (search.type, search.query, len(search.documents)) == ("retrieval", "q", 1)


def test_a_model_name_alone_is_no_model_call() -> None:
    assert given(llm__model="m").type == "span"


def test_content_in_span_events_is_read() -> None:
    events = (
        SpanEvent(name="gen_ai.system.message", at_us=1, attributes={"content": "be brief"}),
        SpanEvent(name="gen_ai.user.message", at_us=2, attributes={"content": "hi"}),
        SpanEvent(name="gen_ai.choice", at_us=3, attributes={"message": '{"content": "yo"}', "finish_reason": "stop"}),
    )
    found = one(scope="x", attributes={"gen_ai.operation.name": "chat"}, events=events)
    assert found.input == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert found.output == [{"role": "assistant", "content": "yo"}]
    assert found.finish_reasons == ("stop",)


def test_parts_become_messages_and_unknown_parts_survive() -> None:
    image = {"type": "uri", "uri": "https://x", "modality": "image"}
    raw = [
        {"role": "user", "parts": [{"type": "text", "content": "a"}, {"type": "text", "content": "b"}]},
        {"role": "user", "parts": [{"type": "text", "content": "see"}, image]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "f", "arguments": '{"x": 1}'}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "result": "ok"}]},
    ]
    assert from_parts(raw) == [
        {"role": "user", "content": "a\nb"},
        {"role": "user", "content": [{"type": "text", "content": "see"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "name": "f", "arguments": {"x": 1}}]},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
    ]


def test_anthropic_blocks_become_messages() -> None:
    content = [{"type": "text", "text": "ok"}, {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}]
    assert plain({"role": "assistant", "content": content}) == {
        "role": "assistant",
        "content": "ok",
        "tool_calls": [{"id": "1", "name": "f", "arguments": {"x": 1}}],
    }


def test_consecutive_assistant_messages_are_one() -> None:
    call = {"id": "1", "name": "f", "arguments": {}}
    parts = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert join_assistant(parts) == [{"role": "assistant", "content": "a", "tool_calls": [call]}]


@pytest.mark.parametrize("raw", [None, 5, "text", [], [1], [{"content": "no role"}], {"role": "user"}])
def test_what_is_no_list_of_messages_is_not_taken_for_one(raw: Any) -> None:
    assert plain_list(raw) is None


def test_tool_definitions_of_any_spelling_have_one_shape() -> None:
    wanted = ({"name": "f", "description": "d", "parameters": {"type": "object"}},)
    inner = {"name": "f", "description": "d"}
    assert definitions([{"type": "function", "function": {**inner, "parameters": {"type": "object"}}}]) == wanted
    assert definitions([{**inner, "input_schema": {"type": "object"}}]) == wanted
    assert definitions(['{"name": "f", "description": "d", "inputSchema": {"type": "object"}}']) == wanted
    assert definitions("nonsense") == ()


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        (
            ["STOP", "MAX_TOKENS", "tool-calls", "refusal", "error", "odd", ""],
            "stop length tool_calls content_filter error odd",
        ),
        ([None, 5], ""),
    ],
)
def test_finish_reasons_have_one_spelling(stated: list[Any], wanted: str) -> None:
    assert finish_reasons(stated) == tuple(wanted.split())


def test_providers_and_parameters_have_one_spelling() -> None:
    names = ["OpenAI", "bedrock", "google", "xai", "vertex_ai", " mistralai "]
    assert [provider(name) for name in names] == [
        "openai",
        "aws.bedrock",
        "gcp.gemini",
        "x_ai",
        "gcp.vertex_ai",
        "mistral_ai",
    ]
    names = ["maxOutputTokens", "topP", "stopSequences", "max_completion_tokens", "temperature"]
    assert [parameter(name) for name in names] == ["max_tokens", "top_p", "stop", "max_tokens", "temperature"]


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ({"input": 57, "output": 9, "cache_read_input_tokens": 16}, (73, 9, 16, None)),
        (
            {"prompt_tokens": 57, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 16}},
            (57, 9, 16, None),
        ),
        ({"input": 5, "input_cache_creation_5m": 2, "input_cache_creation_1h": 3, "output": 1}, (10, 1, None, 5)),
        ({"output": 4, "output_reasoning": 6, "total": 10}, (None, 10, None, None)),
    ],
)
def test_langfuse_buckets_are_added_up(stated: dict[str, Any], wanted: tuple[int | None, ...]) -> None:
    found = counts(stated)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    assert tuple(found.get(name) for name in names) == wanted


@pytest.mark.parametrize(
    ("attributes", "scope", "dialect"),
    [
        ({"langfuse.observation.type": "span", "openinference.span.kind": "LLM"}, "x", "langfuse"),
        ({}, "langfuse-sdk", "langfuse"),
        ({"openinference.span.kind": "LLM", "gen_ai.operation.name": "chat"}, "x", "openinference"),
        ({"mlflow.spanInputs": "{}"}, "x", "mlflow"),
        ({"ai.operationId": "ai.embed"}, "ai", "vercel-ai"),
        ({"operation.name": "ai.embed x"}, "ai", "vercel-ai"),
        ({"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool"}, "x", "mcp"),
        ({"gen_ai.prompt.0.role": "user", "gen_ai.operation.name": "chat"}, "x", "openllmetry"),
        ({"gen_ai.prompt.name": "support", "gen_ai.operation.name": "chat"}, "x", "otel-genai"),
        ({"gen_ai.operation.name": "chat"}, "pydantic-ai", "pydantic-ai"),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "m"}, "x", "otel-genai"),
        ({"gen_ai.request.model": "m"}, "x", None),
        ({"http.route": "/"}, "x", None),
        ({}, "x", None),
    ],
)
def test_the_dialect_is_decided_by_the_span_alone(attributes: dict[str, Any], scope: str, dialect: str | None) -> None:
    found = recognise(span(1, scope=scope, attributes=attributes))
    assert (found.name if found else None) == dialect


def test_the_vercel_outer_span_and_its_system_text_are_read() -> None:
    found = given(
        ai__operationId="ai.streamText",
        ai__prompt='{"system": "be brief", "messages": [{"role": "user", "content": "hi"}]}',
        ai__response__text="yo",
        ai__usage__promptTokens=3,
        ai__model__id="m",
    )
    assert found.type == "chain"
    assert found.input == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert found.usage_aggregate == Usage(input_tokens=3)


def test_otlp_values_of_every_kind_are_plain() -> None:
    raw = {
        "kvlistValue": {
            "values": [
                {"key": "a", "value": {"arrayValue": {"values": [{"intValue": "5"}, {"boolValue": True}, {}]}}},
                {"key": "b", "value": {"doubleValue": 0.5}},
                {"key": "c", "value": {"intValue": "not a number"}},
                {"key": "d", "value": {"bytesValue": "AAE="}},
            ]
        }
    }
    assert value(raw) == {"a": [5, True, None], "b": 0.5, "c": "not a number", "d": "AAE="}


def test_bottomless_otlp_values_are_cut_off() -> None:
    raw: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(500):
        raw = {"arrayValue": {"values": [raw]}}
    assert "deep" not in str(value(raw))


@pytest.mark.parametrize(
    "span_of", [{}, {"traceId": "0" * 32}, {"spanId": "zz"}, {"startTimeUnixNano": "soon"}, {"startTimeUnixNano": 0}]
)
def test_a_bad_otlp_span_is_counted_and_a_good_one_beside_it_is_read(span_of: dict[str, Any]) -> None:
    good = {"traceId": "A" * 32, "spanId": "b" * 16, "startTimeUnixNano": "1795000000000000000"}
    bad = {**good, **span_of} if span_of else 5
    spans, rejected = read_spans({"resourceSpans": [{"scopeSpans": [{"spans": [bad, good]}]}, "x"]})
    assert (len(spans), rejected) == (1, 1)
    assert (spans[0].trace_id, spans[0].started_at_us, spans[0].duration_us) == ("a" * 32, START_US, None)


def test_logs_join_the_span_of_both_ids_in_time_order() -> None:
    ids = {"traceId": "a" * 32, "spanId": "b" * 16}
    logs = [
        {**ids, "timeUnixNano": "3000", "eventName": "late", "body": {"stringValue": "x"}},
        {**ids, "timeUnixNano": "2000", "attributes": [{"key": "event.name", "value": {"stringValue": "early"}}]},
        {**ids, "spanId": "c" * 16, "timeUnixNano": "1000", "eventName": "other"},
        {"timeUnixNano": "1000"},
    ]
    records, rejected = read_logs({"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]})
    assert rejected == 1
    joined = join_logs([span(1), span_with(ids)], records)
    assert [[event.name for event in item.events] for item in joined] == [[], ["early", "late"]]


def span_with(ids: dict[str, str]) -> Any:
    raw = {**ids, "startTimeUnixNano": "1000"}
    return read_spans({"resourceSpans": [{"scopeSpans": [{"spans": [raw]}]}]})[0][0]


@pytest.mark.parametrize("raw", [None, 5, "", "g" * 16, "0" * 16, "a" * 15])
def test_ids_that_are_none_are_not_taken(raw: Any) -> None:
    assert hex_id(raw, 16) is None


def test_rate_limits_of_the_provider_are_kept() -> None:
    attributes = {
        "http.response.header.x-ratelimit-limit-requests": ["60"],
        "http.response.header.x-ratelimit-remaining-requests": ["59"],
        "http.response.header.x-ratelimit-reset-requests": ["1s"],
    }
    found = one(scope="x", attributes=attributes)
    assert found.metadata == {"rate_limit": {"limit": "60", "remaining": "59", "reset_at": "1s"}}


def test_vectors_are_kept_as_their_length() -> None:
    assert mine("embedding", output=[[0.5] * 1536, [0.1, 0.2]]).output == [{"dimensions": 1536}, [0.1, 0.2]]
    assert mine("tool", output=[0.5] * 100).output == [0.5] * 100
