"""A judgement on a trace, observation, session or experiment item."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

DataType = Literal["numeric", "boolean", "categorical", "text", "correction"]
DATA_TYPES: tuple[str, ...] = get_args(DataType)
ScoreSource = Literal["human", "evaluator", "user", "api"]
SCORE_SOURCES: tuple[str, ...] = get_args(ScoreSource)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One score. Exactly one of turn, observation, session, dataset item or run item is its target.

    `value` is a float (numeric), bool (boolean) or str (categorical, text, correction).
    """

    id: str
    name: str
    value: float | bool | str
    data_type: str
    source: str
    turn_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    dataset_item_id: str | None = None
    run_item_id: str | None = None
    user_id: str | None = None  # the subject whose turn was scored
    comment: str | None = None
    author: str | None = None
    evaluator: str | None = None
    evaluator_version: int | None = None
    environment: str | None = None
    created_at_us: int = 0
    updated_at_us: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def observation_id(self) -> str | None:
        """The `id` of the scored observation, or None."""
        return f"{self.turn_id}{self.span_id}" if self.turn_id and self.span_id else None
