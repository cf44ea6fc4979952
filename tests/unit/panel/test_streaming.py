"""Both ends of a streamed answer."""

from dataclasses import replace
from typing import Any

from turntrace.panel.streaming import Streaming, per_token_us, streaming
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Usage

TURN = "0" * 32
S = 1_000_000
COST = Cost(input_nano=1000, output_nano=4000, total_nano=5000, price_version="v")


def call(begin: int, end: int | None, ttft: int | None = None, **fields: Any) -> Observation:
    span = f"{begin:016x}"
    return Observation(
        id=TURN + span, turn_id=TURN, trace_id=TURN, span_id=span, type="generation", name="answer", ttft_us=ttft,
        started_at_us=S + begin, duration_us=None if end is None else end - begin, **fields,
    )  # fmt: skip


def turn(*steps: Observation, **fields: Any) -> Trace:
    values: dict[str, Any] = {"is_streamed": True, "duration_us": 1000, "ttft_us": 210, "last_byte_us": 610, **fields}
    return Trace(id=TURN, trace_id=TURN, span_id="a" * 16, started_at_us=S, observations=steps, chunk_count=5, **values)


def read(*steps: Observation, **fields: Any) -> Streaming:
    found = streaming(turn(*steps, **fields))
    assert found is not None
    return found


def test_an_answer_in_one_piece_is_no_stream() -> None:
    assert streaming(turn(call(100, 600, 100), is_streamed=False)) is None


def test_first_tokens_and_paces_of_both_ends() -> None:
    found = read(call(100, 600, 100, usage=Usage(input_tokens=9, output_tokens=41)))
    (sent,) = found.sent
    assert (sent.started_us, sent.first_token_us, sent.ended_us, sent.per_token_us) == (100, 200, 600, 10)
    assert (found.host_us, found.per_chunk_us) == (10, 100)
    assert (sent.x, sent.first_x, sent.width) == (100, 200, 500)
    assert (found.given_x, found.given_width, found.left_x) == (210, 400, None)


def test_what_was_sent_and_what_was_given() -> None:
    found = read(call(100, 600, 100, output="twelve chars"), received='data: {"content": "twelve"}\n\n')
    assert (found.sent_characters, found.given_characters) == (12, 6)


def test_what_came_after_the_client_had_left_is_paid_for() -> None:
    left: dict[str, Any] = {"outcome": "client_disconnected", "client_left_us": 500}
    before, straddling, behind = call(0, 400, 50, cost=COST), call(100, 900, 100, cost=COST), call(600, 700, cost=COST)
    found = read(before, straddling, behind, **left)
    assert [sent.after_us for sent in found.sent] == [0, 400, 100]
    share = 4000 * 400 // 700  # of the output, by the time since the first token
    assert [sent.after_nano for sent in found.sent] == [None, round(4000 * 400 / 700), 5000]
    assert found.after_us == 400
    assert abs((found.after_nano or 0) - (share + 5000)) <= 1
    assert found.left_x == 500


def test_a_stream_left_at_once_costs_nothing_more() -> None:
    found = read(call(100, 480, 100, cost=COST), client_left_us=500)
    assert (found.after_us, found.after_nano) == (0, None)


def test_a_call_that_ends_hours_later_leaves_the_turn_its_half() -> None:
    found = read(call(100, 10**10, 100))
    assert (found.sent[0].x, found.sent[0].width) == (50, 950)
    assert found.given_x == 105


def test_time_per_token_is_told_of_whole_streams_only() -> None:
    whole = call(0, 500, 100, usage=Usage(output_tokens=5))
    assert per_token_us(whole) == 100
    for other in (
        replace(whole, ttft_us=None),
        replace(whole, usage=None),
        replace(whole, usage=Usage(output_tokens=1)),
        replace(whole, flags=("incomplete",)),
        replace(whole, is_open=True),
    ):
        assert per_token_us(other) is None
