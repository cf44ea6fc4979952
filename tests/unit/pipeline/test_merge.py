"""START and DELTAs of one turn to one fragment."""

import pytest

from tests.unit.pipeline.turns import frame, span, turn
from turntrace.pipeline import merge
from turntrace.records.fragment import Fragment, FrameKind

START, DELTA, END, AMEND = FrameKind.START, FrameKind.DELTA, FrameKind.END, FrameKind.AMEND


def test_later_fields_win_and_what_is_not_stated_stays() -> None:
    merged = merge(
        [
            frame(kind=START, route="/chat", outcome="in_progress", session_id="s1", metadata={"a": 1}, tags=["x"]),
            frame(kind=DELTA, bytes_sent=10, metadata={"b": 2}, tags=["y", "x"]),
            frame(kind=DELTA, bytes_sent=25, user_id="u1"),
        ]
    )
    assert merged.kind is START
    assert (merged.turn.route, merged.turn.session_id, merged.turn.user_id) == ("/chat", "s1", "u1")
    assert (merged.turn.bytes_sent, merged.turn.outcome) == (25, "in_progress")
    assert (merged.turn.metadata, merged.turn.tags) == ({"a": 1, "b": 2}, ("x", "y"))


def test_text_that_was_sent_is_appended_by_deltas_and_replaced_by_cumulative_frames() -> None:
    parts = [frame(kind=DELTA, received="b"), frame(kind=DELTA), frame(kind=DELTA, received="c")]
    assert merge([frame(kind=START, received="a"), *parts]).turn.received == "abc"
    assert merge([frame(kind=START, received="a"), *parts, frame(kind=START, received="abc")]).turn.received == "abc"
    assert merge([frame(kind=START, received="a"), *parts, frame(kind=END, received="abcd")]).turn.received == "abcd"


def test_an_open_span_is_replaced_by_its_ended_form_and_never_the_other_way_round() -> None:
    opened, ended = span(1, duration_us=None), span(1, duration_us=9)
    for order in ([opened, ended], [ended, opened]):
        merged = merge([turn(item, kind=DELTA) for item in order])
        assert merged.spans == (ended,)


def test_spans_of_all_fragments_are_there_once() -> None:
    merged = merge([turn(span(1), span(2), kind=START), turn(span(2), span(3), kind=DELTA)])
    assert [item.name for item in merged.spans] == ["s1", "s2", "s3"]


def test_an_end_decides_the_kind_and_the_outcome() -> None:
    merged = merge([frame(kind=START, outcome="in_progress"), frame(kind=END, outcome="client_disconnected")])
    assert (merged.kind, merged.turn.outcome) == (END, "client_disconnected")


def test_a_late_fragment_adds_its_fields_to_an_ended_turn() -> None:
    merged = merge([turn(span(1), kind=END, name="a"), turn(span(2), kind=AMEND, session_id="late")])
    assert (merged.kind, merged.turn.name, merged.turn.session_id) == (END, "a", "late")
    assert len(merged.spans) == 2


def test_merging_in_steps_gives_what_merging_at_once_gives() -> None:
    parts: list[Fragment] = [turn(span(1, duration_us=None), kind=START, received="a", outcome="in_progress")]
    parts += [turn(span(number), kind=DELTA, received=str(number), bytes_sent=number) for number in (1, 2, 3)]
    assert merge([merge(parts[:2]), *parts[2:]]) == merge(parts)


@pytest.mark.parametrize("fragments", [[], [frame(), frame(id="9" * 32)]])
def test_nothing_and_fragments_of_several_turns_are_refused(fragments: list[Fragment]) -> None:
    with pytest.raises(ValueError, match="merge"):
        merge(fragments)
