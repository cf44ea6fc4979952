"""One model call, one generation."""

from typing import Any

from tests.unit.pipeline.turns import observed, own, span, turn, worked
from turntrace.records.fragment import RawSpan

USAGE = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5}


def chat(number: int, parent: Any = None, *, scope: str = "some.instrumentation", **attributes: Any) -> RawSpan:
    names = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude"}
    dotted = {name.replace("__", "."): value for name, value in attributes.items()}
    return span(number, parent, scope=scope, attributes={**names, **USAGE, **dotted})


def types(*spans: RawSpan) -> dict[str, str]:
    return {name: item.type for name, item in observed(*spans).items()}


def test_of_nested_calls_the_innermost_counts() -> None:
    assert types(chat(1), chat(2, 1), chat(3, 2)) == {"s1": "chain", "s2": "chain", "s3": "generation"}
    trace = worked(turn(chat(1), chat(2, 1), chat(3, 2))).trace
    assert trace.usage is not None
    assert trace.usage.input_tokens == 10
    assert trace.observations[0].usage is None


def test_spans_and_chains_between_do_not_hide_a_wrapper() -> None:
    assert types(chat(1), own(2, "chain", 1), own(3, "span", 2), chat(4, 3))["s1"] == "chain"


def test_an_agent_or_a_tool_between_makes_it_another_call() -> None:
    for kind in ("agent", "tool", "retrieval"):
        assert types(chat(1), own(2, kind, 1), chat(3, 2))["s1"] == "generation"


def test_calls_of_other_types_are_not_wrapped() -> None:
    assert types(own(1, "generation"), own(2, "embedding", 1)) == {"s1": "generation", "s2": "embedding"}


def test_siblings_are_calls_of_their_own() -> None:
    assert types(chat(1), chat(2)) == {"s1": "generation", "s2": "generation"}


def test_what_the_application_states_itself_is_handed_down_to_a_call_that_lacks_it() -> None:
    stated = {"usage": {"input_tokens": 9}, "prompt": {"name": "p"}}
    bare = span(2, 1, scope="x", attributes={"gen_ai.operation.name": "chat"})
    found = observed(own(1, "generation", **stated), bare)
    assert (found["s1"].type, found["s1"].usage) == ("chain", None)
    assert found["s2"].usage is not None
    assert found["s2"].prompt is not None
    counted = observed(own(1, "generation", **stated), chat(2, 1))["s2"].usage
    assert counted is not None
    assert counted.input_tokens == 10


SDK = "com.anthropic.sdk.python"


def test_an_sdk_span_below_an_instrumentations_span_of_the_same_response_is_dropped() -> None:
    found = observed(
        chat(1, gen_ai__response__id="r1"),
        chat(2, 1, scope=SDK, gen_ai__response__id="r1", gen_ai__response__time_to_first_chunk=0.0005),
        own(3, "span", 2),
    )
    assert list(found) == ["s1", "s3"]
    assert found["s1"].type == "generation"
    assert found["s1"].ttft_us == 500
    assert found["s3"].parent_span_id == found["s1"].span_id


def test_an_sdk_span_beside_it_is_dropped_too() -> None:
    beside = own(9, "chain"), chat(1, 9, gen_ai__response__id="r"), chat(2, 9, scope=SDK, gen_ai__response__id="r")
    assert types(*beside) == {"s9": "chain", "s1": "generation"}


def test_without_response_ids_model_and_time_decide() -> None:
    assert types(chat(1), chat(2, 1, scope=SDK)) == {"s1": "chain", "s2": "generation"}
    outer = chat(1)
    inside = RawSpan(**{**_fields(chat(2, 1, scope=SDK)), "duration_us": 10})
    assert types(outer, inside) == {"s1": "generation"}


def test_an_sdk_span_of_another_response_stays() -> None:
    other = chat(1, gen_ai__response__id="r1"), chat(2, scope=SDK, gen_ai__response__id="r2")
    assert types(*other) == {"s1": "generation", "s2": "generation"}


def test_an_sdk_span_alone_is_an_ordinary_call() -> None:
    assert types(chat(1, scope=SDK)) == {"s1": "generation"}


def test_a_streamed_call_in_two_logfire_spans_is_one() -> None:
    request = chat(1, scope="logfire.openai", gen_ai__input__messages="[]")
    bare = {name: value for name, value in request.attributes.items() if name not in USAGE}
    request = RawSpan(**{**_fields(request), "attributes": bare})
    answer = RawSpan(
        **{
            **_fields(request),
            "span_id": f"{2:016x}",
            "name": "answer",
            "started_at_us": request.started_at_us + 5000,
            "duration_us": 0,
            "attributes": {
                **bare,
                **USAGE,
                "logfire.span_type": "log",
                "logfire.msg_template": "streaming response from {request_data[model]!r} took {duration:.2f}s",
                "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "Paris"}]}]',
            },
        }
    )
    found = observed(request, answer)
    assert list(found) == ["s1"]
    assert found["s1"].output == [{"role": "assistant", "content": "Paris"}]
    assert found["s1"].usage is not None
    assert found["s1"].duration_us == 5000


def test_usage_of_any_other_type_is_a_sum_and_kept_apart() -> None:
    found = observed(own(1, "agent", usage={"input_tokens": 30}, cost={"total": 1}), own(2, "generation", 1))
    assert found["s1"].usage is None
    assert found["s1"].cost is None
    assert found["s1"].usage_aggregate is not None
    assert found["s1"].usage_aggregate.input_tokens == 30


def _fields(item: RawSpan) -> dict[str, Any]:
    return {name: getattr(item, name) for name in RawSpan.__dataclass_fields__}
