"""The turns of one W3C trace as one drawing: a turn that another one called hangs below the step that called it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from turntrace.panel.waterfall import Waterfall, waterfall
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace
from turntrace.records.usage import Usage

TURN = "turn"  # type of the rows that are turns
_PLACE = 12  # digits of a turn's span id that calls made in no step of it share (`tracing/outgoing.py`)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedTrace:
    """Turns under one W3C id, oldest first, with their drawing and sums. Rows have ids of observations for span ids."""

    trace_id: str
    turns: tuple[Trace, ...]
    drawing: Waterfall
    sessions: tuple[tuple[str, str | None], ...]  # of each session its id and user
    services: tuple[str, ...]
    duration_us: int | None
    input_tokens: int
    output_tokens: int
    cost_total_nano: int | None
    has_error: bool

    @property
    def name(self) -> str:
        """Of the turn that began it."""
        return self.turns[0].name or self.turns[0].route or self.trace_id

    def turn(self, turn_id: str) -> Trace:
        """One of the turns."""
        return next(turn for turn in self.turns if turn.id == turn_id)


def distributed(trace_id: str, turns: Sequence[Trace], *, now_us: int) -> DistributedTrace:
    """Lay out turns of one trace, given oldest first."""
    first = turns[0]
    ends = [turn.started_at_us + turn.duration_us for turn in turns if turn.duration_us is not None]
    duration_us = max(ends) - first.started_at_us if ends else None
    rows = tuple(row for turn in turns for row in _rows(turn, turns))
    merged = replace(first, observations=rows, duration_us=duration_us, ttft_us=None, client_left_us=None)
    costs = [turn.cost_total_nano for turn in turns if turn.cost_total_nano is not None]
    usages = [turn.usage or Usage() for turn in turns]
    return DistributedTrace(
        trace_id=trace_id,
        turns=tuple(turns),
        drawing=waterfall(merged, now_us=now_us),
        sessions=tuple(dict.fromkeys((turn.session_id, turn.user_id) for turn in turns if turn.session_id)),
        services=tuple(dict.fromkeys(turn.service_name for turn in turns if turn.service_name)),
        duration_us=duration_us,
        input_tokens=sum(usage.input_tokens or 0 for usage in usages),
        output_tokens=sum(usage.output_tokens or 0 for usage in usages),
        cost_total_nano=sum(costs) if costs else None,
        has_error=any(turn.status == "error" for turn in turns),
    )


def _rows(turn: Trace, turns: Sequence[Trace]) -> list[Observation]:
    """The turn as a row of its own, and its steps below it."""
    own = turn.id + turn.span_id
    known = {step.span_id for step in turn.observations}
    row = Observation(
        id=own,
        turn_id=turn.id,
        trace_id=turn.trace_id,
        span_id=own,
        parent_span_id=_caller(turn, turns),
        type=TURN,
        name=turn.name or turn.route or "turn",
        status=turn.status,
        started_at_us=turn.started_at_us,
        duration_us=turn.duration_us,
        is_open=turn.duration_us is None,
        ttft_us=turn.ttft_us if turn.is_streamed else None,
    )
    steps = [
        replace(step, span_id=step.id, parent_span_id=turn.id + (parent or "") if parent in known else own)
        for step in turn.observations
        for parent in [step.parent_span_id]
    ]
    return [row, *steps]


def _caller(turn: Trace, turns: Sequence[Trace]) -> str | None:
    """The row of the step or the turn that called this one."""
    parent = turn.parent_span_id
    if parent is None:
        return None
    others = [other for other in turns if other is not turn]
    called = (step.id for other in others for step in other.observations if step.span_id == parent)
    itself = (other.id + other.span_id for other in others if other.span_id[:_PLACE] == parent[:_PLACE])
    return next(called, None) or next(itself, None)
