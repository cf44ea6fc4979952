"""Conversations and people, as lists show them."""

from dataclasses import dataclass

from turntrace.records.score import Score
from turntrace.records.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The traces of one conversation, with totals. `traces` is filled (in order, with content) for one session only."""

    session_id: str
    user_id: str | None = None
    environment: str = "default"
    first_at_us: int = 0
    last_at_us: int = 0
    trace_count: int = 0
    error_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_total_nano: int | None = None
    duration_us: int = 0  # sum over its turns
    traces: tuple[Trace, ...] = ()
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person and what their turns cost over a period."""

    user_id: str
    first_at_us: int = 0
    last_at_us: int = 0
    trace_count: int = 0
    session_count: int = 0
    error_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_total_nano: int | None = None
    feedback_count: int = 0
    feedback_positive: int = 0
    last_error_type: str | None = None
    last_error_turn_id: str | None = None
