"""The worked examples of prices through every path: the same calls cost the same, whoever describes them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.unit.pipeline.otlp_fixture import observe
from tests.unit.pipeline.test_price import AUGUST_2026_US, CASES, expected
from tests.unit.pipeline.turns import own, turn
from turntrace.api.otlp import protobuf
from turntrace.pipeline import Pipeline
from turntrace.pipeline.convert.otlp import read_spans
from turntrace.records.observation import Observation
from turntrace.records.usage import to_decimal
from turntrace.settings import Settings

Attributes = dict[str, Any]

# How each dialect says a count; what it has no name for is left out.
GENAI = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "output_reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "input_audio_tokens": "gen_ai.usage.audio.input_tokens",
    "input_text_tokens": "gen_ai.usage.text.input_tokens",
    "output_text_tokens": "gen_ai.usage.text.output_tokens",
    "input_image_tokens": "gen_ai.usage.image.input_tokens",
    "input_video_tokens": "gen_ai.usage.video.input_tokens",
    "cache_audio_read_tokens": "gen_ai.usage.audio.cache_read.input_tokens",
}
OLDER_GENAI = {
    "input_tokens": "gen_ai.usage.prompt_tokens",
    "output_tokens": "gen_ai.usage.completion_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read_input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation_input_tokens",
    "output_reasoning_tokens": "gen_ai.usage.reasoning_tokens",
}
VERCEL = {
    "input_tokens": "ai.usage.inputTokens",
    "output_tokens": "ai.usage.outputTokens",
    "cache_read_tokens": "ai.usage.cachedInputTokens",
    "cache_write_tokens": "ai.usage.inputTokenDetails.cacheWriteTokens",
    "output_reasoning_tokens": "ai.usage.reasoningTokens",
}
# Its counts exclude each other: see `_langfuse`.
LANGFUSE = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "input_cache_read",
    "cache_write_tokens": "input_cache_creation",
    "output_reasoning_tokens": "output_reasoning",
    "input_audio_tokens": "input_audio",
}
OPENINFERENCE = {
    "input_tokens": "llm.token_count.prompt",
    "output_tokens": "llm.token_count.completion",
    "cache_read_tokens": "llm.token_count.prompt_details.cache_read",
    "cache_write_tokens": "llm.token_count.prompt_details.cache_write",
    "output_reasoning_tokens": "llm.token_count.completion_details.reasoning",
    "input_audio_tokens": "llm.token_count.prompt_details.audio",
}


def _genai(names: Mapping[str, str]) -> Callable[[dict[str, Any], Attributes], Attributes]:
    def said(case: dict[str, Any], usage: Attributes) -> Attributes:
        model = {"gen_ai.operation.name": "chat", "gen_ai.request.model": case["model"]}
        return {**model, "gen_ai.provider.name": case["provider"], **_named(names, usage)}

    return said


def _openinference(case: dict[str, Any], usage: Attributes) -> Attributes:
    kind = {"openinference.span.kind": "LLM", "llm.model_name": case["model"], "llm.provider": case["provider"]}
    return {**kind, **_named(OPENINFERENCE, usage)}


def _vercel(case: dict[str, Any], usage: Attributes) -> Attributes:
    operation = {"ai.operationId": "ai.generateText.doGenerate", "operation.name": "ai.generateText.doGenerate"}
    model = {"ai.model.id": case["model"], "ai.model.provider": f"{case['provider']}.chat"}
    return {**operation, **model, **_named(VERCEL, usage)}


def _langfuse(case: dict[str, Any], usage: Attributes) -> Attributes:
    said = _named(LANGFUSE, usage)
    for whole in ("input", "output"):
        parts = sum(number for name, number in said.items() if name.startswith(f"{whole}_"))
        said |= {whole: said[whole] - parts} if whole in said else {}
    kind = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": case["model"]}
    return {
        **kind,
        "gen_ai.provider.name": case["provider"],
        "langfuse.observation.usage_details": json.dumps(said),
    }


def _named(names: Mapping[str, str], usage: Attributes) -> Attributes:
    return {names[name]: number for name, number in usage.items()}


DIALECTS = {
    "genai": (_genai(GENAI), GENAI),
    "older genai": (_genai(OLDER_GENAI), OLDER_GENAI),
    "openinference": (_openinference, OPENINFERENCE),
    "vercel": (_vercel, VERCEL),
    "langfuse": (_langfuse, LANGFUSE),
}


def _otlp(attributes: Attributes) -> Observation:
    """What is made of a span with these attributes that comes as OTLP/JSON, with whole numbers as texts."""
    said = [
        {"key": key, "value": {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}}
        for key, value in attributes.items()
    ]
    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "call",
        "startTimeUnixNano": str(AUGUST_2026_US * 1000),
        "endTimeUnixNano": str(AUGUST_2026_US * 1000 + 10**9),
        "attributes": said,
    }
    return _observed(span)


def _observed(span: dict[str, Any]) -> Observation:
    document = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "test"}, "spans": [span]}]}]}
    spans, rejected = read_spans(json.loads(json.dumps(document)))
    assert rejected == 0
    (found,) = observe(spans)
    return found


def _otlp_protobuf(attributes: Attributes) -> Observation:
    """The same span as OTLP/protobuf: written by the generated classes, read by our reader of the wire format."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"\1" * 16, b"\2" * 8, "call"
    span.start_time_unix_nano = AUGUST_2026_US * 1000
    span.end_time_unix_nano = AUGUST_2026_US * 1000 + 10**9
    for key, value in attributes.items():
        kind = "string_value" if isinstance(value, str) else "int_value"
        span.attributes.append(KeyValue(key=key, value=AnyValue(**{kind: value})))
    [(_, _, read)] = protobuf.entries(request.SerializeToString(), protobuf.SPAN)
    assert read is not None
    return _observed(read)


def _own(case: dict[str, Any], usage: Attributes) -> Observation:
    call = own(1, "generation", model=case["model"], provider=case["provider"], usage=usage)
    call = replace(call, started_at_us=AUGUST_2026_US)
    (found,) = Pipeline(Settings(redaction="off")).work([turn(call, started_at_us=AUGUST_2026_US)])
    return found.trace.observations[0]


def _amounts(found: Observation) -> tuple[Decimal | None, ...]:
    assert found.cost is not None
    return tuple(map(to_decimal, (found.cost.input_nano, found.cost.output_nano, found.cost.total_nano)))


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_our_own_calls_cost_what_the_worked_example_says(case: dict[str, Any]) -> None:
    assert _amounts(_own(case, case["usage"])) == expected(case)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_dialect_over_otlp_costs_what_our_own_calls_do(case: dict[str, Any], dialect: str) -> None:
    say, names = DIALECTS[dialect]
    usage = {name: number for name, number in case["usage"].items() if name in names}
    found = _amounts(_otlp(say(case, usage)))
    assert found == _amounts(_own(case, usage))
    assert found == _amounts(_otlp_protobuf(say(case, usage)))
    if usage == case["usage"]:
        assert found == expected(case)


def test_most_of_the_worked_examples_can_be_said_whole_by_every_dialect() -> None:
    whole = {name: sum(set(case["usage"]) <= set(names) for case in CASES) for name, (_, names) in DIALECTS.items()}
    assert len(CASES) == 41
    assert all(number >= 20 for number in whole.values()), whole
