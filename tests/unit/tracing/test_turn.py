"""A turn: its fields, its bounds, and the frames it becomes."""

import gc
import time
from dataclasses import fields
from typing import Any

import pytest
from opentelemetry.trace import SpanContext, TraceFlags

from turntrace.pipeline import decode, merge
from turntrace.records.fragment import FrameKind, RawSpan, TurnHeader
from turntrace.tracing import recorder as recording
from turntrace.tracing.observation import current_trace_id, observation, update_trace
from turntrace.tracing.observation import turn as explicit_turn
from turntrace.tracing.turn import Turn, activate, deactivate

from .conftest import ListRecorder


def test_a_turn_with_an_observation_is_one_end_frame(recorder: ListRecorder, turn: Turn) -> None:
    with observation(recorder, "step", input={"q": 1}) as step:
        step.update(output=[1, 2])
    turn.finish()
    assert recorder.kinds() == ["END"]
    kind, is_first, payload = recorder.frames[0]
    assert (kind, is_first) == (FrameKind.END, True)
    span = payload["spans"][0]
    assert span["own"] == {"type": "span", "input": {"q": 1}, "output": [1, 2]}
    assert span["parent_span_id"] == turn.span_id
    assert payload["turn"]["duration_us"] >= span["duration_us"]


def test_a_turn_without_observation_leaves_nothing(recorder: ListRecorder, turn: Turn) -> None:
    turn.finish()
    assert recorder.frames == []


@pytest.mark.parametrize(("record", "count"), [("all", 1), ("/chat", 1), ("/other*, /ch*", 1), ("/other", 0)])
def test_the_setting_record_decides_by_route(record: str, count: int) -> None:
    recorder = ListRecorder(record=record)
    Turn(recorder, path="/chat").finish()
    assert len(recorder.frames) == count


def test_update_trace_alone_makes_a_turn_recorded(recorder: ListRecorder, turn: Turn) -> None:
    update_trace(user_id="u", tags=["a"], metadata={"k": [1]}, feature_flags={"f": True})
    update_trace(tags=["b", "a"], metadata={"l": 2}, output="answer", user_id=None)
    turn.finish()
    header = recorder.last("END")["turn"]
    assert header["tags"] == ["a", "b"]
    assert header["metadata"] == {"k": [1], "l": 2}
    assert (header["user_id"], header["output"], header["feature_flags"]) == ("u", "answer", {"f": True})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user": "x"}, "unknown field 'user'; expected name, session_id, user_id"),
        ({"session_id": ["x"]}, "session_id: expected a string, got list"),
        ({"tags": "abc"}, "tags: expected a list of strings"),
        ({"metadata": [1]}, "metadata: expected a dict"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_allowed(turn: Turn, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        update_trace(**fields)


def test_what_the_host_changes_later_does_not_change_the_record(recorder: ListRecorder, turn: Turn) -> None:
    messages = [{"role": "user", "content": "first"}]
    metadata = {"list": [1]}
    with observation(recorder, "step", input=messages, metadata=metadata):
        update_trace(input=messages, metadata=metadata)
        messages[0]["content"] = "changed"
        metadata["list"].append(2)
    turn.finish()
    payload = recorder.last("END")
    assert payload["turn"]["input"] == [{"role": "user", "content": "first"}]
    assert payload["spans"][0]["own"]["input"] == [{"role": "user", "content": "first"}]
    assert payload["spans"][0]["own"]["metadata"] == payload["turn"]["metadata"] == {"list": [1]}


def test_late_spans_and_late_fields_follow_as_amends(recorder: ListRecorder, turn: Turn) -> None:
    turn.session_id = "s1"
    late = observation(recorder, "late")
    turn.finish()
    assert "duration_us" not in recorder.spans()["late"]
    late.end()
    update_trace(output="after")
    assert recorder.kinds() == ["END", "AMEND", "AMEND"]
    spans, fields = recorder.frames[1][2], recorder.frames[2][2]
    assert "duration_us" in spans["spans"][0]
    assert spans["turn"]["session_id"] == "s1"
    assert (fields["turn"]["output"], fields["spans"]) == ("after", [])
    assert fields["turn"]["id"] == turn.id


def test_an_update_of_an_ended_observation_after_the_end_is_stated_anew(recorder: ListRecorder, turn: Turn) -> None:
    with observation(recorder, "step", type="generation") as step:
        pass
    turn.finish()
    step.update(usage={"input_tokens": 3})
    assert recorder.spans("AMEND")["step"]["own"]["usage"] == {"input_tokens": 3}


def test_the_first_observation_after_the_end_makes_the_turn_recorded(recorder: ListRecorder, turn: Turn) -> None:
    turn.user_id = "u"
    turn.finish()
    with observation(recorder, "in-background"):
        pass
    assert recorder.kinds() == ["END"]
    assert recorder.frames[0][1] is True
    assert recorder.last("END")["turn"]["user_id"] == "u"
    assert "in-background" in recorder.spans()


def test_a_correction_after_the_end_is_an_amend(recorder: ListRecorder, turn: Turn) -> None:
    turn.correct(route="/x")
    update_trace(name="n")
    turn.finish()
    turn.correct(outcome="client_disconnected")
    assert recorder.last("END")["turn"]["route"] == "/x"
    assert recorder.last("AMEND")["turn"]["outcome"] == "client_disconnected"


def test_only_the_first_finish_counts(recorder: ListRecorder, turn: Turn) -> None:
    update_trace(name="n")
    turn.finish("client_disconnected")
    turn.finish()
    assert [payload["turn"].get("outcome") for _, _, payload in recorder.frames] == ["client_disconnected"]


def test_frames_of_a_stream_merge_to_what_end_says(recorder: ListRecorder, turn: Turn) -> None:
    turn.begin_response(200, "text/event-stream; charset=utf-8")
    text = "data: größer\n\ndata: ßtraße\n\n".encode()
    with observation(recorder, "answer", type="generation") as answer:
        for index in range(len(text)):
            turn.sent(text[index : index + 1])
            answer.update(output=f"{index}")
            turn.checkpoint()
    interrupted = merge([decode(kind, _bytes(payload)) for kind, _, payload in recorder.frames])
    turn.finish()
    end = decode(FrameKind.END, _bytes(recorder.last("END")))
    assert recorder.kinds() == ["START", *["DELTA"] * (len(text) - 1), "END"]
    assert [first for _, first, _ in recorder.frames] == [True] + [False] * len(text)
    assert interrupted.turn.outcome == "in_progress"
    assert end.turn.outcome == "complete"
    assert interrupted.turn.received == end.turn.received == text.decode()
    assert interrupted.turn.bytes_sent == end.turn.bytes_sent == len(text)
    assert interrupted.spans[0].own == {"type": "generation", "output": str(len(text) - 1)}


def _bytes(payload: dict[str, Any]) -> bytes:
    import orjson

    return orjson.dumps(payload)


def test_a_delta_holds_only_what_changed(recorder: ListRecorder, turn: Turn) -> None:
    update_trace(input="question", session_id="s")
    with observation(recorder, "first"):
        pass
    turn.checkpoint()
    with observation(recorder, "second"):
        pass
    turn.checkpoint()
    turn.checkpoint()
    deltas = [payload for kind, _, payload in recorder.frames if kind is FrameKind.DELTA]
    assert set(deltas[0]["turn"]) <= {"id", "trace_id", "span_id", "started_at_us", "outcome"}
    assert [[span["name"] for span in delta["spans"]] for delta in deltas] == [["second"], []]


def test_a_re_emitted_start_is_cumulative_and_not_first(recorder: ListRecorder, turn: Turn) -> None:
    with observation(recorder, "one"):
        pass
    turn.checkpoint()
    assert recorder.open_turns == {turn.id: turn}
    turn.reemit()
    assert recorder.kinds() == ["START", "START"]
    assert recorder.frames[1][1] is False
    assert "one" in recorder.spans("START")
    turn.finish()
    assert recorder.open_turns == {}


def test_a_stream_is_due_after_time_or_bytes(recorder: ListRecorder, turn: Turn) -> None:
    turn.begin_response(200, "text/plain")
    now = time.perf_counter_ns()
    assert not turn.is_due(now + 10**9)  # nothing of an LLM in it yet
    update_trace(name="n")
    assert not turn.is_due(now)
    assert turn.is_due(now + 251_000_000)
    turn.sent(b"x" * 5000)
    assert turn.is_due(now)
    turn.checkpoint()
    assert not turn.is_due()


def test_an_answer_in_one_piece_is_not_streamed_and_its_text_not_kept(recorder: ListRecorder, turn: Turn) -> None:
    turn.begin_response(200, "application/json")
    update_trace(name="n")
    turn.sent(b"{}", more=False)
    turn.sent(b"")
    turn.finish()
    header = recorder.last("END")["turn"]
    assert (header["chunk_count"], header["bytes_sent"], header["http_status"]) == (1, 2, 200)
    assert "received" not in header
    assert "is_streamed" not in header


def test_binary_bodies_are_counted_and_not_kept(recorder: ListRecorder, turn: Turn) -> None:
    turn.begin_response(200, "audio/mpeg")
    update_trace(name="n")
    turn.sent(b"\x00\xff")
    turn.sent(b"\x00\xff", more=False)
    turn.finish()
    header = recorder.last("END")["turn"]
    assert header["bytes_sent"] == 4
    assert "received" not in header


def test_what_a_client_was_given_is_bounded() -> None:
    recorder = ListRecorder(max_received_bytes=10)
    turn = Turn(recorder, is_explicit=True)
    turn.begin_response(200, "text/plain")
    for _ in range(5):
        turn.sent(b"abcd")
    turn.finish()
    assert recorder.last("END")["turn"]["received"] == "abcdabcdab"


def test_a_turn_whose_first_frame_was_dropped_writes_no_other(recorder: ListRecorder, turn: Turn) -> None:
    recorder.is_full = True
    update_trace(name="n")
    turn.checkpoint()
    recorder.is_full = False
    turn.finish()
    update_trace(name="m")
    assert recorder.frames == []


def test_spans_beyond_the_bound_are_counted_only() -> None:
    recorder = ListRecorder(max_spans=2)
    with explicit_turn(recorder, name="t"):
        for index in range(5):
            with observation(recorder, f"s{index}") as span:
                span.update(output="x")
    assert [span["name"] for span in recorder.last("END")["spans"]] == ["s0", "s1"]
    assert recorder.last("END")["turn"]["flags"] == ["spans_dropped:3"]


def test_a_turn_has_a_bound_in_bytes_that_replaced_values_give_back() -> None:
    recorder = ListRecorder(max_turn_bytes=20_000, max_field_bytes=10_000)
    with explicit_turn(recorder, name="t"):
        for _ in range(50):
            update_trace(output="x" * 9_000, input=["y" * 9_000])
        update_trace(metadata={"big": "z" * 9_000})
    header = recorder.last("END")["turn"]
    assert header["output"] == "x" * 9_000
    assert header["input"] == ["y" * 9_000]
    assert header["metadata"] == {"big": {"turntrace.cut": {"bytes": 9_000}}}
    assert header["flags"] == ["fields_cut"]


def test_a_frame_survives_what_json_has_no_form_for(recorder: ListRecorder, turn: Turn) -> None:
    with observation(recorder, "lone \ud800 surrogate", input="also \udfff here") as span:
        span.set_attribute("gen_ai.x", float("nan"))
        span.set_attribute("gen_ai.y", 1 << 80)
    turn.finish()
    span_wire = recorder.last("END")["spans"][0]
    assert span_wire["name"] == "lone ? surrogate"
    assert span_wire["own"]["input"] == "also ? here"
    assert span_wire["attributes"] == {"gen_ai.x": None, "gen_ai.y": str(1 << 80)}


def test_a_parent_context_is_continued(recorder: ListRecorder) -> None:
    parent = SpanContext(0xABC, 0xDEF, True, TraceFlags(0))
    turn = Turn(recorder, parent=parent)
    assert (turn.trace_id, turn.parent_span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert turn.trace_flags == 0
    assert turn.span_context().span_id != 0xDEF


def test_the_current_trace_id_is_the_turns(recorder: ListRecorder, turn: Turn) -> None:
    assert current_trace_id() == turn.trace_id
    assert len(turn.trace_id) == 32


def test_outside_any_turn_facts_are_checked_and_lead_nowhere() -> None:
    assert current_trace_id() is None
    update_trace(name="n")
    with pytest.raises(TypeError, match="unknown field"):
        update_trace(nom="n")


def test_a_turn_that_ended_long_ago_takes_no_new_observation(recorder: ListRecorder, turn: Turn) -> None:
    update_trace(name="n")
    turn.finish()
    turn.ended_ns -= 301 * 10**9
    assert current_trace_id() is None
    with observation(recorder, "someone else's"):
        pass
    assert recorder.kinds() == ["END", "END"]
    assert recorder.last("END")["turn"]["id"] != turn.id


def test_an_explicit_turn_is_kept_without_observation(recorder: ListRecorder) -> None:
    with explicit_turn(recorder, name="job", session_id="s", tags=["t"], source="websocket") as made:
        assert made is not None
        assert current_trace_id() == made.trace_id
    header = recorder.last("END")["turn"]
    assert (header["name"], header["session_id"], header["source"]) == ("job", "s", "websocket")
    assert current_trace_id() is None


async def test_an_explicit_turn_works_in_async_code_and_records_its_error(recorder: ListRecorder) -> None:
    boom = ValueError("boom")
    with pytest.raises(ValueError, match="boom") as caught:
        async with explicit_turn(recorder, name="job"):
            raise boom
    assert caught.value is boom
    error = recorder.last("END")["turn"]["error"]
    assert (error["type"], error["message"]) == ("ValueError", "boom")
    assert "in test_an_explicit_turn_works_in_async_code" in error["stack"]


def test_a_turn_inside_a_turn_is_one_of_its_own(recorder: ListRecorder, turn: Turn) -> None:
    with observation(recorder, "outer"):
        with explicit_turn(recorder, name="inner"), observation(recorder, "inner step"):
            pass
        assert current_trace_id() == turn.trace_id
        with observation(recorder, "outer step"):
            pass
    turn.finish()
    inner, outer = recorder.frames[0][2], recorder.frames[1][2]
    assert inner["spans"][0]["parent_span_id"] == inner["turn"]["span_id"]
    outer_spans = {span["name"]: span for span in outer["spans"]}
    assert outer_spans["outer step"]["parent_span_id"] == outer_spans["outer"]["span_id"]


def test_a_finished_turn_holds_no_content_and_is_no_cycle(recorder: ListRecorder) -> None:
    gc.collect()
    gc.disable()
    try:
        turn = Turn(recorder)
        activation = activate(turn)
        with observation(recorder, "x", input="secret text"):
            update_trace(input="secret text")
        deactivate(activation)
        turn.finish()
        assert (turn.done, turn.input, turn.root) == ([], None, None)
        import weakref

        gone = weakref.ref(turn)
        del turn, activation
        assert gone() is None
    finally:
        gc.enable()


def test_a_span_that_garbage_collection_ends_inside_a_write_is_written_after_it(recorder: ListRecorder) -> None:
    turn = Turn(recorder, is_explicit=True)
    activation = activate(turn)
    late = observation(recorder, "late")
    deactivate(activation)
    turn.finish()

    def write() -> None:
        late.end()
        assert recorder.kinds() == ["END"]

    recording.run_exclusive(write)
    assert recorder.kinds() == ["END", "AMEND"]


def test_frames_hold_nothing_but_fields_of_the_record(recorder: ListRecorder, turn: Turn) -> None:
    turn.begin_response(200, "text/event-stream")
    update_trace(name="n", tags=["t"], metadata={"k": 1}, user_id="u")
    with observation(recorder, "tool", type="tool", input={"a": 1}, level="error") as step:
        step.set_attribute("gen_ai.x", 1)
        step.add_event("e")
        step.update(output=[1], name="renamed")
        step.record_exception(ValueError("x"))
    turn.sent(b"x" * 10)
    turn.note("spans_dropped")
    turn.checkpoint()
    turn.finish("client_disconnected")
    update_trace(output="late")
    headers = {field.name for field in fields(TurnHeader)}
    spans = {field.name for field in fields(RawSpan)}
    assert recorder.kinds() == ["START", "DELTA", "END", "AMEND"]
    for _, _, payload in recorder.frames:
        assert set(payload["turn"]) <= headers
        assert all(set(span) <= spans for span in payload["spans"])


def test_asking_whether_to_record_may_be_put_off_until_it_is_switched_off(recorder: ListRecorder, turn: Turn) -> None:
    guard = recorder.guard
    assert guard.is_recording()
    assert guard.quiet_until_ns > time.perf_counter_ns()
    guard.enabled = False
    with observation(recorder, "not kept"):
        pass
    guard.enabled = True
    with observation(recorder, "kept"):
        pass
    turn.finish()
    assert list(recorder.spans()) == ["kept"]
