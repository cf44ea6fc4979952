"""Frames of a turn whose END lies beside them are kept unread, and read where END does not do."""

import orjson
import pytest

from turntrace.pipeline import decode
from turntrace.records.fragment import END_LOST, FrameKind
from turntrace.spool.reader import Frame
from turntrace.worker.open_turns import OpenTurns
from turntrace.worker.peek import ended_in, id_of

TURN = "0" * 31 + "1"


def frame(sequence: int, kind: FrameKind, payload: bytes) -> Frame:
    return Frame("s" * 32, sequence, kind, kind is FrameKind.START, False, "p" * 16, payload)


def document(*spans: str, **fields: object) -> bytes:
    turn = {"id": TURN, "trace_id": "a" * 32, "span_id": "b" * 16, **fields}
    return orjson.dumps({"turn": turn, "spans": [{"span_id": span * 16, "name": span} for span in spans]})


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (document(), TURN),
        (b'{"spans":[],"turn":{"id":"' + TURN.encode() + b'"}}', None),
        (b'{"turn":{"id":"short"}}', None),
        (b"", None),
    ],
)
def test_an_id_is_found_only_where_capture_writes_it(payload: bytes, found: str | None) -> None:
    assert id_of(payload) == found


def test_only_ends_say_that_a_turn_has_ended() -> None:
    assert ended_in([frame(1, FrameKind.START, document()), frame(2, FrameKind.AMEND, document())]) == frozenset()
    assert ended_in([frame(1, FrameKind.END, document()), frame(2, FrameKind.END, b"{}")]) == {TURN}


def test_an_end_that_was_lost_is_completed_from_frames_kept_unread() -> None:
    turns = OpenTurns()
    turns.add_unread(frame(1, FrameKind.START, document("1", name="kept")), TURN)
    turns.add_unread(frame(2, FrameKind.DELTA, document("2")), TURN)
    turns.add_unread(frame(2, FrameKind.DELTA, document("3")), TURN)  # delivered again
    assert turns.has_start(TURN)
    whole = turns.completed(decode(FrameKind.END, document(flags=[END_LOST])))
    assert [span.name for span in whole.spans] == ["1", "2"]
    assert whole.turn.name == "kept"


def test_a_turn_whose_end_was_not_stored_is_shown_from_frames_kept_unread() -> None:
    turns = OpenTurns()
    turns.add_unread(frame(1, FrameKind.START, document("1")), TURN)
    turns.add(frame(2, FrameKind.DELTA, document("2")), decode(FrameKind.DELTA, document("2")))
    turns.add_unread(frame(3, FrameKind.DELTA, b"no JSON"), TURN)
    (shown,) = turns.to_show(now=100.0)
    assert [span.name for span in shown.spans] == ["1", "2"]
