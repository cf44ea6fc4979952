"""Habits of frameworks that the conventions do not know: their own names as provider, blocks of Bedrock, enums."""

import json
from typing import Any

import pytest

from tests.unit.pipeline.turns import START_US, observed, span
from turntrace.pipeline.convert import bedrock
from turntrace.pipeline.convert.vocabulary import finish_reasons, provider
from turntrace.records.fragment import SpanEvent
from turntrace.records.observation import Observation

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "strands-agents",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
    "gen_ai.usage.cache_write_input_tokens": 20,
}
CALL = {"toolUseId": "c1", "name": "find", "input": {"about": "kettle"}}


def event(name: str, **attributes: Any) -> SpanEvent:
    written = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
    return SpanEvent(name=name, at_us=START_US, attributes=written)


def chat(*events: SpanEvent) -> Observation:
    return observed(span(1, scope="strands.telemetry.tracer", attributes=CHAT, events=events))["s1"]


def test_blocks_in_events_are_messages_and_the_call_has_a_price() -> None:
    result = {"toolUseId": "c1", "status": "success", "content": [{"text": "Use vinegar."}]}
    found = chat(
        event("gen_ai.user.message", content=[{"text": "How?"}]),
        event("gen_ai.assistant.message", content=[{"text": "Let me look."}, {"toolUse": CALL}]),
        event("gen_ai.tool.message", content=[{"toolResult": result}]),
        event("gen_ai.choice", finish_reason="tool_use", message=[{"toolUse": {**CALL, "toolUseId": "c2"}}]),
    )
    call = {"id": "c1", "name": "find", "arguments": {"about": "kettle"}}
    assert found.input == [
        {"role": "user", "content": "How?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Use vinegar."},
    ]
    assert (found.tool_calls, found.finish_reasons) == (({**call, "id": "c2"},), ("tool_calls",))
    assert (found.provider, found.usage and found.usage.cache_write_tokens) == (None, 20)
    assert found.cost is not None


def test_a_tool_has_what_it_was_given_and_what_it_said() -> None:
    named = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"}
    told = (
        event("gen_ai.tool.message", role="tool", content={"about": "kettle"}, id="c1"),
        event("gen_ai.choice", id="c1", message=[{"text": "Use vinegar."}]),
    )
    found = observed(span(1, scope="strands.telemetry.tracer", attributes=named, events=told))["s1"]
    assert (found.type, found.input, found.output) == ("tool", {"about": "kettle"}, "Use vinegar.")


def test_an_answer_as_text_is_one() -> None:
    found = chat(event("gen_ai.choice", finish_reason="end_turn", message="Like so."))
    assert found.output == [{"role": "assistant", "content": "Like so."}]


@pytest.mark.parametrize(
    "value",
    ["text", [], [{}], [{"type": "text", "text": "x"}], [{"role": "user", "text": "x"}], ["x"], [{"other": 1}], None],
)
def test_what_is_no_list_of_blocks_is_left_alone(value: Any) -> None:
    assert bedrock.parts(value) is None


def test_blocks_that_nobody_knows_survive() -> None:
    image = {"image": {"format": "png", "source": {"s3Location": "s3://x"}}}
    assert bedrock.parts([{"text": "Look:"}, image]) == [{"type": "text", "content": "Look:"}, image]
    mixed = {"toolResult": {"toolUseId": "c", "content": [{"json": {"a": 1}}]}}
    assert bedrock.parts([mixed]) == [{"type": "tool_call_response", "id": "c", "response": [{"json": {"a": 1}}]}]


def test_members_of_enums_are_reasons_and_frameworks_are_no_providers() -> None:
    assert finish_reasons(["FinishReason.STOP", "FinishReason.TOOL_CALLS", "FinishReason."]) == ("stop", "tool_calls")
    assert [provider(name) for name in ("strands-agents", "AutoGen", "gemini", "openai")] == [
        *(None, None),
        *("gcp.gemini", "openai"),
    ]


def test_the_stop_reason_of_bedrocks_instrumentation_is_the_finish_reason() -> None:
    named = {"openinference.span.kind": "LLM", "llm.model_name": "claude-3-5-sonnet", "llm.provider": "aws"}
    found = observed(span(1, scope="x", attributes={**named, "llm.stop_reason": "max_tokens"}))["s1"]
    assert (found.finish_reasons, found.provider, found.metadata) == (("length",), "aws.bedrock", {})
