"""Turns that are sent on: named by the conventions, and read by another Turntrace as the same observations."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.unit.pipeline.otlp_fixture import NAMES, load
from turntrace.api.otlp import protobuf
from turntrace.pipeline import Pipeline
from turntrace.pipeline.convert.otlp import attributes, read_span
from turntrace.pipeline.gather import RELAYED, gather
from turntrace.pipeline.outbound import encode
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, TurnHeader
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.settings import Settings

PIPELINE = Pipeline(Settings(redaction="off"))
# What is its own at each place: ids of the turn, who recorded it, and where a cost was taken from.
OWN = ("id", "turn_id", "scope", "flags")


def turn(spans: list[RawSpan], **header: Any) -> Trace:
    start = min(span.started_at_us for span in spans)
    ids = {"id": "a" * 32, "trace_id": spans[0].trace_id or "b" * 32, "span_id": "f" * 16}
    fields: dict[str, Any] = {**ids, "started_at_us": start, "duration_us": 1000, **header}
    fragment = Fragment(kind=FrameKind.END, turn=TurnHeader(**fields), spans=tuple(spans))
    return PIPELINE.work([fragment])[0].trace


def by_trace(spans: list[RawSpan]) -> list[list[RawSpan]]:
    found: dict[str, list[RawSpan]] = {}
    for span in spans:
        found.setdefault(span.trace_id or "", []).append(span)
    return list(found.values())


def received(request: bytes) -> Trace:
    """What the receiver of another Turntrace makes of it."""
    spans = []
    for resource, scope, raw in protobuf.entries(request, protobuf.SPAN):
        span = read_span(raw, attributes(resource.get("attributes")), scope)
        assert span is not None
        spans.append(span)
    header = TurnHeader(id="c" * 32, trace_id=spans[0].trace_id or "", span_id="e" * 16, source="otlp")
    whole = gather([Fragment(kind=FrameKind.OTLP, turn=header, spans=tuple(spans))])
    assert whole is not None
    return PIPELINE.work([whole])[0].trace


def plain(item: Observation, trace: Trace) -> dict[str, Any]:
    """With session and user of the turn where it says none itself: so it is read from the tables."""
    found = asdict(replace(item, **{name: () if name == "flags" else "" for name in OWN}))
    found["session_id"] = found["session_id"] or trace.session_id
    found["user_id"] = found["user_id"] or trace.user_id
    if found["cost"]:
        found["cost"].pop("source")
    return found


def differences(sent: Trace, got: Trace) -> list[str]:
    there = {item.span_id: plain(item, got) for item in got.observations}
    here = {item.span_id: plain(item, sent) for item in sent.observations}
    problems = [f"{key} only at one place" for key in here.keys() ^ there.keys()]
    for key in here.keys() & there.keys():
        problems += [
            f"{here[key]['name']}: {name} {there[key][name]!r}, not {value!r}"
            for name, value in here[key].items()
            if there[key][name] != value
        ]
    return problems


@pytest.mark.parametrize("name", NAMES)
def test_what_any_library_recorded_arrives_as_the_same_observations(name: str) -> None:
    for spans in by_trace(load(name).spans):
        sent = turn(spans)
        assert differences(sent, received(encode([sent], version="1", with_content=True))) == []


def test_what_the_application_said_itself_arrives_too() -> None:
    own = {
        "type": "generation",
        "level": "warning",
        "input": "What is a kettle?",
        "output": {"text": "It boils water.", "sure": True},
        "metadata": {"order": {"id": 7}, "text": "[1, 2]"},
        "tags": ["plan:pro"],
        "model": "gpt-4o-mini",
        "provider": "openai",
        "parameters": {
            "temperature": 0,
            "stop": ["x"],
            "response_format": {"type": "json"},
            "max_completion_tokens": 2,
        },
        "usage": {"input_tokens": 9, "output_tokens": 4, "cache_read_tokens": 3, "web_searches": 2},
        "cost": {"total": "0.000123456", "input": "0.0001", "output": "0.000023456"},
        "finish_reason": "stop",
        "prompt": {"name": "support", "version": 3, "label": "production", "variables": {"product": "kettle"}},
        "tool_calls": [{"id": "1", "name": "boil", "arguments": {"c": 100}}],
        "tool_definitions": [{"type": "function", "function": {"name": "boil", "parameters": {"type": "object"}}}],
    }
    at = {"started_at_us": 1_700_000_000_000_000, "duration_us": 5}
    spans = [
        RawSpan(span_id="1" * 16, name="answer", own=own, **at),
        RawSpan(span_id="2" * 16, parent_span_id="1" * 16, name="look", own={"type": "tool", "input": "7"}, **at),
        RawSpan(span_id="3" * 16, name="step", own={"type": "guardrail", "input": [1], "output": False}, **at),
        RawSpan(
            span_id="4" * 16,
            name="bad",
            own={"type": "span", "tags": ["a"]},
            status="error",
            error={"type": "ValueError", "message": "no", "stack": "line 1"},
            **at,
        ),
    ]
    known = {"session_id": "s", "user_id": "u", "feature": "f", "experiment": "e", "tags": ("t:1",), "name": "ask"}
    more = {"metadata": {"a": [1]}, "input": {"q": 1}, "output": "done", "method": "POST", "route": "/ask"}
    sent = turn(spans, **known, **more, http_status=200, is_streamed=True, ttft_us=2, feature_flags={"x": True})
    got = received(encode([sent], version="1", with_content=True))
    assert differences(sent, got) == []
    same = ("name", "session_id", "user_id", "feature", "experiment", "tags", "metadata", "input", "output", "method")
    same += ("route", "http_status", "status", "is_streamed", "ttft_us", "feature_flags", "usage", "cost_total_nano")
    assert {name: getattr(got, name) for name in same} == {name: getattr(sent, name) for name in same}
    assert RELAYED in got.flags


def test_names_are_those_of_the_conventions() -> None:
    at = {"started_at_us": 1_700_000_000_000_000, "duration_us": 1_000_000}
    chat = {"type": "generation", "model": "gpt-4o-mini", "provider": "openai", "completion_started_us": 250_000}
    chat |= {"input": [{"role": "user", "content": "hi"}], "usage": {"input_tokens": 2, "output_tokens": 1}}
    steps = [
        chat,
        {"type": "embedding", "model": "text-embedding-3-small"},
        {"type": "retrieval", "query": "kettle", "retrieval": {"data_source": "faq", "top_k": 3}},
        {"type": "tool", "tool_name": "boil"},
        {"type": "agent", "agent_name": "helper"},
        {"type": "guardrail"},
    ]
    spans = [RawSpan(span_id=f"{n:016x}", name=f"step {n}", own=own, **at) for n, own in enumerate(steps, 1)]
    request = ExportTraceServiceRequest.FromString(encode([turn(spans)], version="1", with_content=True))
    found = request.resource_spans[0].scope_spans[0].spans
    assert [span.name for span in found[1:]] == [
        "chat gpt-4o-mini",
        "embeddings text-embedding-3-small",
        "retrieval faq",
        "execute_tool boil",
        "invoke_agent helper",
        "step 6",
    ]
    named = {pair.key: pair.value for pair in found[1].attributes}
    assert named["gen_ai.operation.name"].string_value == "chat"
    assert named["gen_ai.provider.name"].string_value == "openai"
    assert named["gen_ai.usage.input_tokens"].int_value == 2
    assert named["gen_ai.response.time_to_first_chunk"].double_value == 0.25
    assert '"parts":[{"type":"text","content":"hi"}]' in named["gen_ai.input.messages"].string_value
    assert found[1].start_time_unix_nano == at["started_at_us"] * 1000
    assert found[1].end_time_unix_nano - found[1].start_time_unix_nano == 10**9
    assert all(span.parent_span_id == found[0].span_id for span in found[1:])


def sent_attributes(own: dict[str, Any], **header: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the turn's span and of its one step."""
    at = {"started_at_us": 1_700_000_000_000_000, "duration_us": 1_000_000}
    request = encode([turn([RawSpan(span_id="1" * 16, own=own, **at)], **header)], version="1", with_content=True)
    found = ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans
    top, step = ({pair.key: pair.value for pair in span.attributes} for span in found)
    return top, step


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("generation", "LLM"),
        ("embedding", "EMBEDDING"),
        ("retrieval", "RETRIEVER"),
        ("reranker", "RERANKER"),
        ("tool", "TOOL"),
        ("agent", "AGENT"),
        ("chain", "CHAIN"),
        ("guardrail", "GUARDRAIL"),
        ("evaluator", "EVALUATOR"),
        ("span", None),
        ("event", None),
    ],
)
def test_every_type_has_the_kind_that_phoenix_and_langfuse_know(kind: str, named: str | None) -> None:
    top, step = sent_attributes({"type": kind})
    assert top["openinference.span.kind"].string_value == "CHAIN"
    assert (step["openinference.span.kind"].string_value if named else step.get("openinference.span.kind")) == named


def test_langfuse_finds_the_first_token_and_the_tags_and_both_values_or_none() -> None:
    chat = {"type": "generation", "completion_started_us": 250_000, "input": [{"role": "user", "content": "hi"}]}
    top, step = sent_attributes({**chat, "output": [{"role": "assistant", "content": "ho"}]}, tags=("plan:pro",))
    assert step["langfuse.observation.completion_start_time"].string_value == "2023-11-14T22:13:20.250000Z"
    assert [value.string_value for value in top["langfuse.trace.tags"].array_value.values] == ["plan:pro"]
    assert not {"input.value", "output.value"} & step.keys()
    _, odd = sent_attributes({**chat, "output": {"no": "message"}})
    assert {"input.value", "output.value"} <= odd.keys()


def test_without_content_no_word_of_a_user_goes() -> None:
    at = {"started_at_us": 1_700_000_000_000_000, "duration_us": 1}
    secret = "a very private sentence"
    own = {name: secret for name in ("input", "output", "query", "status_message")}
    own |= {"type": "generation", "metadata": {"x": secret}, "parameters": {"stop": [secret], "temperature": 1}}
    own |= {"model": "gpt-4o-mini", "usage": {"input_tokens": 2}, "tool_calls": [{"name": "f", "arguments": secret}]}
    failed = {"status": "error", "error": {"type": "ValueError", "message": secret, "stack": secret}}
    sent = turn(
        [RawSpan(span_id="1" * 16, name="x", own=own, **at, **failed)],
        **{"input": secret, "output": secret, "metadata": {"x": secret}, "error": {"type": "E", "message": secret}},
    )
    assert secret.encode() in encode([sent], version="1", with_content=True)
    bare = encode([sent], version="1", with_content=False)
    assert secret.encode() not in bare
    got = received(bare).observations[0]
    assert got.usage is not None
    assert (got.usage.input_tokens, got.model, got.parameters) == (2, "gpt-4o-mini", {"temperature": 1})
    assert got.error is not None
    assert got.error.type == "ValueError"


def test_placeholders_leave_numbered() -> None:
    at = {"started_at_us": 1_700_000_000_000_000, "duration_us": 1}
    own = {"type": "span", "input": "from <EMAIL_k00000001> to <EMAIL_k00000002>", "output": "<EMAIL_k00000002>"}
    got = received(encode([turn([RawSpan(span_id="1" * 16, own=own, **at)])], version="1", with_content=True))
    step = got.observations[0]
    assert "_k0" not in f"{step.input} {step.output}"
    assert str(step.input).split()[3] == step.output
