"""The stages together: order, content, redaction."""

from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from tests.unit.pipeline.turns import START_US, frame, own, span, turn, worked
from turntrace.pipeline import Pipeline
from turntrace.records.fragment import FrameKind
from turntrace.records.trace import Trace
from turntrace.settings import Settings

SECRET = "anna@example.com"


class Blanker:
    """A redactor that blanks what it is told to, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.given: list[Trace] = []

    def redact(self, traces: Sequence[Trace]) -> list[Trace]:
        self.batches.append(len(traces))
        self.given += traces
        return [
            replace(
                trace,
                input=str(trace.input).replace(SECRET, "[EMAIL]"),
                observations=tuple(replace(item, input=None) for item in trace.observations),
            )
            for trace in traces
        ]


class Broken:
    def redact(self, traces: Sequence[Trace]) -> list[Trace]:
        raise RuntimeError(SECRET)


class Shuffling:
    def redact(self, traces: Sequence[Trace]) -> list[Trace]:
        return list(traces)[1:]


def test_redaction_must_be_switched_off_by_hand() -> None:
    with pytest.raises(ValueError, match="needs a redactor"):
        Pipeline(Settings())
    Pipeline(Settings(redaction="off"))
    Pipeline(Settings(content="metadata"))


def test_a_batch_is_redacted_at_once_and_previews_are_taken_afterwards() -> None:
    redactor = Blanker()
    fragments = [turn(own(1, input=SECRET), id=f"{number:032x}") for number in range(1, 4)]
    found = Pipeline(Settings(), redactor=redactor).work(fragments)
    assert redactor.batches == [3]
    assert [item.trace.input_preview for item in found] == ["[EMAIL]"] * 3
    assert [item.trace.id for item in found] == [fragment.turn.id for fragment in fragments]


def test_of_a_turn_that_is_not_kept_only_what_sums_are_kept_by_is_redacted() -> None:
    redactor = Blanker()
    pipeline = Pipeline(Settings(sample_rate=0, sample_hold_hours=0), redactor=redactor)
    found = pipeline.work([turn(own(1, input=SECRET), metadata={"m": SECRET}), turn()])
    assert SECRET not in repr(found)
    (given,) = redactor.given
    assert [f"{step.type}:{step.name}" for step in given.observations] == [
        fact.step for fact in found[0].facts if fact.step
    ]
    assert SECRET not in repr(given)


@pytest.mark.parametrize("redactor", [Broken(), Shuffling()])
def test_content_is_withheld_where_redaction_fails(redactor: Broken | Shuffling) -> None:
    failed = span(1, own={"type": "tool", "input": SECRET}, status="error", error={"type": "E", "message": SECRET})
    (found,) = Pipeline(Settings(), redactor=redactor).work([turn(failed, received=SECRET, metadata={"m": SECRET})])
    assert SECRET not in repr(found)
    assert found.trace.redaction_failed == 1
    assert found.trace.observations[0].error is not None
    assert found.trace.observations[0].error.type == "E"


def test_names_inside_of_steps_are_withheld_where_redaction_fails() -> None:
    call = own(
        1,
        "generation",
        tool_calls=[{"id": "1", "name": SECRET}],
        tool_definitions=[{"name": SECRET}],
        parameters={"temperature": 0.5, SECRET: 1},
    )
    search = own(2, "retrieval", retrieval={"data_source": SECRET}, documents=[{"id": SECRET, "score": 0.5}])
    failed = span(3, own={"type": "tool"}, status="error", error={"type": f"no account of {SECRET}"})
    (found,) = Pipeline(Settings(), redactor=Broken()).work([turn(call, search, failed)])
    assert SECRET not in repr(found)
    assert SECRET.rpartition("@")[2] not in repr(found)
    steps = {step.type: step for step in found.trace.observations}
    assert steps["generation"].parameters == {"temperature": 0.5}
    assert [document["score"] for document in steps["retrieval"].documents] == [0.5]


@pytest.mark.parametrize("depth", [300, 1000])
def test_brackets_in_brackets_cost_no_turn(depth: int) -> None:
    """A client may send them; nothing but redaction, which may be off, would stop them before."""
    deep = f"{'[' * depth}1{']' * depth}"
    asked = span(1, attributes={"openinference.span.kind": "LLM", "input.value": deep, "output.value": "fine"})
    told = own(2, "tool", metadata={"a": orjson.loads(deep), "b": "fine"})
    (found,) = Pipeline(Settings(redaction="off")).work([turn(asked, told, input={"a": "fine"})])
    call, tool = found.trace.observations
    assert "nested too deeply" in str(call.input)
    assert "nested too deeply" in str(tool.metadata)
    assert (call.output, found.trace.input) == ("fine", {"a": "fine"})


def test_metadata_mode_keeps_numbers_and_names_and_no_text() -> None:
    call = own(
        1,
        "generation",
        model="gpt-4o-mini",
        provider="openai",
        usage={"input_tokens": 10},
        input=SECRET,
        output=SECRET,
        metadata={"m": SECRET},
        parameters={"temperature": 0.5, "stop": [SECRET]},
        tool_calls=[{"id": "1", "name": "f", "arguments": {"a": SECRET}}],
        tool_definitions=[{"name": "f", "description": SECRET}],
        prompt={"name": "p", "variables": {"v": SECRET}},
        status_message=SECRET,
    )
    search = own(2, "retrieval", query=SECRET, documents=[{"id": "d", "content": SECRET, "score": 0.5}])
    everything = turn(call, search, input=SECRET, output=SECRET, received=SECRET, metadata={"m": SECRET})
    for found in (
        worked(everything, content="metadata").trace,
        worked(replace(everything, turn=replace(everything.turn, content="metadata"))).trace,
    ):
        assert SECRET not in repr(found)
        generation, retrieval = found.observations
        assert generation.usage is not None
        assert generation.cost is not None
        assert generation.parameters == {"temperature": 0.5}
        assert generation.tool_calls == ({"id": "1", "name": "f"},)
        assert retrieval.documents == ({"id": "d", "score": 0.5, "rank": None},)


def test_a_turn_cannot_ask_for_more_content_than_the_setting_keeps() -> None:
    found = worked(turn(own(1, input=SECRET), content="full"), content="metadata")
    assert SECRET not in repr(found)


def test_input_and_output_are_the_headers_else_the_roots_else_what_was_streamed() -> None:
    spans = own(1, input="i1"), own(2, "generation", parent=1, input="inner", output="inner"), own(3, output="o3")
    assert worked(turn(*spans)).trace.input == "i1"
    assert worked(turn(*spans)).trace.output == "o3"
    stated = worked(turn(*spans, input="hi", output="ho")).trace
    assert (stated.input, stated.output) == ("hi", "ho")
    streamed = worked(turn(own(1, "retrieval"), received='data: {"token": "Hi"}\n\n')).trace
    assert (streamed.output, streamed.output_preview) == ("Hi", "Hi")


def test_an_observation_is_known_by_turn_and_span() -> None:
    found = worked(turn(own(1), span(2, 1, own={}, trace_id="b" * 32))).trace
    first, second = found.observations
    assert first.id == found.id + first.span_id
    assert (second.parent_id, second.trace_id, first.trace_id) == (first.id, "b" * 32, found.trace_id)


def test_a_late_fragment_names_what_it_states() -> None:
    late = frame([{"span_id": "1" * 16}], FrameKind.AMEND, session_id="s", output="done", error={"type": "E"})
    found = worked(late)
    assert found.kind is FrameKind.AMEND
    assert found.amended == {"session_id", "output", "output_preview", "error", "status"}
    assert worked(turn(own(1))).amended == frozenset()


def test_a_late_fragment_has_no_input_of_its_own() -> None:
    assert worked(turn(own(1, input="late"), kind=FrameKind.AMEND)).trace.input is None


def test_a_running_turn_shows_its_open_spans() -> None:
    found = worked(turn(span(1, duration_us=None, own={"type": "tool"}), kind=FrameKind.START, outcome="in_progress"))
    assert (found.is_kept, found.facts, found.trace.outcome) == (True, (), "in_progress")
    assert found.trace.observations[0].is_open


def test_nothing_to_work_on_is_nothing_done() -> None:
    assert Pipeline(Settings(redaction="off")).work([]) == []
    assert worked(turn()).trace.started_at_us == START_US
