"""Frames to fragments, whatever is in them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.turns import ROOT, TRACE, TURN, frame, span_id, worked
from turntrace.errors import FrameInvalid
from turntrace.pipeline import decode
from turntrace.records.fragment import FrameKind, RawSpan, SpanEvent, TurnHeader

IDS = {"id": TURN, "trace_id": TRACE, "span_id": ROOT}


def test_every_field_of_a_frame_is_read() -> None:
    found = frame(
        [
            {
                "span_id": span_id(1),
                "parent_span_id": ROOT,
                "name": "s",
                "scope": "x",
                "kind": "client",
                "started_at_us": 5,
                "duration_us": None,
                "own": {"type": "tool"},
                "attributes": {"a": 1},
                "events": [{"name": "e", "at_us": 6, "attributes": {"b": 2}}],
            }
        ],
        route="/x",
        tags=["a", "b"],
        is_streamed=True,
        metadata={"k": [1]},
        input={"any": "thing"},
    )
    assert found.turn == TurnHeader(
        **IDS, route="/x", tags=("a", "b"), is_streamed=True, metadata={"k": [1]}, input={"any": "thing"}
    )
    assert found.spans == (
        RawSpan(
            span_id=span_id(1),
            parent_span_id=ROOT,
            name="s",
            scope="x",
            kind="client",
            started_at_us=5,
            own={"type": "tool"},
            attributes={"a": 1},
            events=(SpanEvent(name="e", at_us=6, attributes={"b": 2}),),
        ),
    )


def test_unknown_keys_are_passed_over() -> None:
    assert frame([{"span_id": span_id(1), "later": 1}], later={"x": 1}).turn == TurnHeader(**IDS)


def test_a_value_of_a_wrong_type_is_kept_raw_and_flagged() -> None:
    found = frame([{"span_id": span_id(1), "name": 7, "started_at_us": "now"}], duration_us="long", tags=["a", 1])
    assert found.turn.metadata == {"turntrace.invalid.duration_us": "long", "turntrace.invalid.tags": ["a", 1]}
    assert found.turn.flags == ("field_invalid:duration_us", "field_invalid:tags")
    observation = worked(found).trace.observations[0]
    assert observation.metadata == {"turntrace.invalid.name": 7, "turntrace.invalid.started_at_us": "now"}
    assert observation.flags == ("field_invalid:name", "field_invalid:started_at_us", "incomplete")


def test_a_span_that_cannot_be_read_costs_only_itself() -> None:
    found = frame([{"span_id": "short"}, "text", {}, {"span_id": span_id(1)}])
    assert [item.span_id for item in found.spans] == [span_id(1)]
    assert found.turn.flags == ("spans_invalid:3",)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"turn": []}',
        b'{"turn": {}}',
        orjson.dumps({"turn": {**IDS, "id": "1"}}),
        orjson.dumps({"turn": {**IDS, "trace_id": "X" * 32}}),
        orjson.dumps({"turn": {**IDS, "span_id": 5}}),
        b"[" * 100_000,
    ],
)
def test_a_frame_without_a_turn_raises_one_error(payload: bytes) -> None:
    with pytest.raises(FrameInvalid):
        decode(FrameKind.END, payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = [name for name in TurnHeader.__dataclass_fields__ if name not in IDS]
OWN = [
    "type",
    "level",
    "input",
    "output",
    "metadata",
    "tags",
    "model",
    "provider",
    "parameters",
    "usage",
    "cost",
    "finish_reason",
    "finish_reasons",
    "prompt",
    "tool_calls",
    "tool_definitions",
    "tool_name",
    "query",
    "documents",
    "input_documents",
    "retrieval",
    "completion_started_us",
]
ATTRIBUTES = [
    "gen_ai.operation.name",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.usage.input_tokens",
    "gen_ai.prompt.0.role",
    "gen_ai.tool.definitions",
    "gen_ai.response.finish_reasons",
    "gen_ai.retrieval.documents",
    "openinference.span.kind",
    "llm.input_messages.0.message.tool_calls.0.tool_call.function.name",
    "llm.invocation_parameters",
    "input.value",
    "output.value",
    "mlflow.spanType",
    "mlflow.spanInputs",
    "mlflow.spanOutputs",
    "langfuse.observation.input",
    "ai.operationId",
    "langfuse.observation.usage_details",
    "langfuse.observation.type",
    "ai.prompt",
    "ai.prompt.messages",
    "ai.response.toolCalls",
    "mcp.method.name",
    "traceloop.span.kind",
    "traceloop.entity.input",
    "llm.request.type",
    "retrieval.docs",
    "error.type",
]
SPAN = st.fixed_dictionaries(
    {"span_id": st.integers(1, 4).map(span_id)},
    optional={
        "parent_span_id": st.integers(1, 4).map(span_id) | JSON,
        "own": st.dictionaries(st.sampled_from(OWN), JSON, max_size=6) | JSON,
        "attributes": st.dictionaries(st.sampled_from(ATTRIBUTES), JSON | JSON.map(str), max_size=6) | JSON,
        "events": st.lists(
            st.fixed_dictionaries({"name": st.just("gen_ai.choice"), "at_us": st.just(1)}) | JSON, max_size=3
        ),
        "status": st.sampled_from(["ok", "error"]) | JSON,
        "error": JSON,
        "started_at_us": st.integers(0, 9) | JSON,
    },
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8), st.lists(SPAN | JSON, max_size=5))
def test_no_content_of_a_frame_makes_the_pipeline_fail(header: dict[str, Any], spans: list[Any]) -> None:
    try:
        payload = orjson.dumps({"turn": {**header, **IDS}, "spans": spans})
    except TypeError:  # integers that no encoder writes
        return
    for kind in (FrameKind.END, FrameKind.AMEND, FrameKind.OTLP):
        found = worked(decode(kind, payload))
        assert found.trace.id == TURN
        assert len({item.id for item in found.trace.observations}) == len(found.trace.observations)
