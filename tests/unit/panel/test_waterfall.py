from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from turntrace.panel.waterfall import WIDTH, critical_path, waterfall
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace

TURN = "0" * 32


def step(span: str, begin: int, end: int | None, parent: str | None = None, ttft: int | None = None) -> Observation:
    length = None if end is None else end - begin
    return Observation(
        id=TURN + span, turn_id=TURN, trace_id=TURN, span_id=span, parent_span_id=parent, started_at_us=begin,
        duration_us=length, ttft_us=ttft,
    )  # fmt: skip


def trace(*steps: Observation, length: int | None = 1000) -> Trace:
    return Trace(id=TURN, trace_id=TURN, span_id="a" * 16, started_at_us=0, duration_us=length, observations=steps)


def test_rows_stand_in_tree_order_with_their_depth() -> None:
    drawing = waterfall(
        trace(step("c", 500, 900, "a"), step("a", 0, 1000), step("d", 550, 600, "c"), step("b", 0, 400, "a"))
    )
    assert [(row.observation.span_id, row.depth) for row in drawing.rows] == [("a", 0), ("b", 1), ("c", 1), ("d", 2)]


def test_bars_and_first_tokens_are_thousandths_of_the_width() -> None:
    row = waterfall(trace(step("a", 250, 750, ttft=100))).rows[0]
    assert (row.x, row.width, row.ttft_x) == (250, 500, 350)


def test_an_open_step_reaches_to_the_end() -> None:
    row = waterfall(trace(step("a", 400, None))).rows[0]
    assert (row.x, row.width) == (400, 600)


def test_a_late_step_widens_the_drawing() -> None:
    drawing = waterfall(trace(step("a", 1500, 2000)))
    assert (drawing.span_us, drawing.turn_width) == (2000, 500)


def test_unknown_parents_and_rings_lose_no_row() -> None:
    drawing = waterfall(
        trace(step("a", 0, 10, "gone"), step("b", 0, 10, "c"), step("c", 0, 10, "b"), step("d", 5, 9, "d"))
    )
    assert sorted(row.observation.span_id for row in drawing.rows) == ["a", "b", "c", "d"]


def test_the_critical_path_is_what_the_end_had_to_wait_for() -> None:
    steps = (
        step("r", 0, 100),
        step("a", 0, 40, "r"),
        step("b", 10, 20, "r"),
        step("c", 45, 100, "r"),
        step("d", 50, 60, "c"),
    )
    assert critical_path(steps) == {"r", "a", "c", "d"}


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), st.one_of(st.none(), st.integers(0, 10**12)), st.integers(0, 12)), max_size=12
    )
)
def test_every_step_is_drawn_inside_whatever_its_times(times: list[tuple[int, int | None, int]]) -> None:
    steps = [
        replace(step(f"{index:016x}", begin, None, f"{parent:016x}"), duration_us=length)
        for index, (begin, length, parent) in enumerate(times)
    ]
    drawing = waterfall(trace(*steps))
    assert len(drawing.rows) == len(steps)
    assert all(row.x >= 0 and row.width > 0 and row.x + row.width <= WIDTH + 0.1 for row in drawing.rows)
    assert len(drawing.ticks) <= 6


def test_what_ends_long_after_the_turn_leaves_it_half_of_the_width() -> None:
    drawing = waterfall(trace(step("a", 0, 900), step("b", 400, 60_000_000), step("c", 50_000, 60_000)))
    rows = {row.observation.span_id: row for row in drawing.rows}
    assert (drawing.span_us, drawing.turn_width) == (2000, 500)
    assert (rows["a"].width, rows["a"].is_cut) == (450, False)
    assert (rows["b"].x, rows["b"].width, rows["b"].is_cut) == (200, 800, True)
    assert rows["c"].is_cut
    assert rows["c"].x + rows["c"].width == WIDTH


def test_the_critical_path_is_that_of_the_turn_and_not_of_what_followed_it() -> None:
    drawing = waterfall(trace(step("a", 0, 400), step("b", 400, 1000), step("c", 1500, 9000)))
    assert [row.observation.span_id for row in drawing.rows if row.is_critical] == ["a", "b"]


def test_a_running_turn_is_drawn_up_to_now() -> None:
    running = replace(trace(step("a", 0, 100), step("b", 100, None), length=None), outcome="in_progress")
    drawing = waterfall(running, now_us=1000)
    assert [(row.x, row.width) for row in drawing.rows] == [(0, 100), (100, 900)]
