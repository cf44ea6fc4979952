"""Evaluators and what becomes of their runs: records without behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Every run of a judge is a trace in this environment, so that its cost stands apart.
EVALUATION: Final = "turntrace-evaluation"

KINDS: Final = ("judge", "code", "check")
TARGETS: Final = ("observation", "trace", "session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """An evaluator with one of its versions; `definition` is JSON as in `POST /evaluators`, without secrets."""

    id: str
    name: str
    kind: str
    is_enabled: bool
    version: int
    definition: Mapping[str, Any]
    sealed: str | None = None  # encrypted credentials
    watermark_us: int = 0
    failure_count: int = 0
    blocked_until_us: int | None = None
    blocked_reason: str | None = None
    created_at_us: int = 0
    updated_at_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that an evaluator may judge."""

    target: str  # observation, trace, session
    target_id: str
    turn_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    stored_at_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A judgement that one worker has taken on until its lease ends."""

    id: int
    evaluator_id: str
    evaluator_version: int
    owner: str
    attempt: int
    reserved_nano: int
    candidate: Candidate
    is_repeat: bool = False  # of a target that was judged before: its verdict is compared, and is no score


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an evaluator says of one target; `reason` came before the value."""

    value: float | bool | str
    reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: a verdict, nothing to judge (`verdict` and `error` None), or an error. Never both."""

    verdict: Verdict | None = None
    error: str | None = None  # a short word
    is_final: bool = False
    retry_after_seconds: float | None = None
    cost_nano: int | None = None
    judge_turn_id: str | None = None
