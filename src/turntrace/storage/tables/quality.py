"""Evaluators and their claims, annotation queues, comments."""

from typing import Final

from sqlalchemy import Double, String, UniqueConstraint

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    PREFIX,
    Content,
    Count,
    Flag,
    Instant,
    LongText,
    Nano,
    Row,
    Serial,
    Small,
    SpanId,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class EvaluatorRow(Row, table=True):
    """A thing that yields scores; what it does is in its versions."""

    __table_args__ = options(index("evaluator_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    kind: str = column(Word)  # judge, code, check
    is_enabled: bool = column(Flag)
    version: int = column(Count)  # the current one
    watermark_us: int = column(Instant)  # turns stored up to here were looked at
    failure_count: int = column(Count, server_default="0")  # runs that failed one after another
    blocked_until_us: int | None = optional(Instant)  # the circuit breaker is open until then
    blocked_reason: str | None = optional(String(length.NAME))
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class EvaluatorVersionRow(Row, table=True):
    """One immutable definition: JSON as in `POST /evaluators`, secrets sealed apart."""

    evaluator_id: str = column(fixed(32), primary_key=True)
    version: int = column(Count, primary_key=True, autoincrement=False)
    definition: str = column(LongText)
    sealed: str | None = optional(LongText)  # encrypted credentials, base64
    author: str | None = optional(String(length.NAME))
    created_at_us: int = column(Instant)


class EvaluationRow(Row, table=True):
    """One judgement to be made, made or failed: unique by target and evaluator version, claimed by one worker."""

    __table_args__ = options(
        UniqueConstraint("target_id", "evaluator_id", "evaluator_version", name=f"uq_{PREFIX}evaluation_target"),
        index("evaluation_claim", "status", "due_at_us", "id"),
        index("evaluation_evaluator", "evaluator_id", "created_at_us"),
        index("evaluation_turn", "turn_id"),
        index("evaluation_user", "user_id"),
        index("evaluation_backfill", "backfill_id", "status"),
    )

    id: int = column(Serial, primary_key=True, autoincrement=True)
    target: str = column(Word)  # observation, trace, session, run_item
    target_id: str = column(fixed(64))  # session: SHA-256 of user and session id
    evaluator_id: str = column(fixed(32))
    evaluator_version: int = column(Count)
    status: str = column(Word)  # pending, claimed, done, failed, skipped
    owner: str | None = optional(fixed(128))
    lease_until_us: int | None = optional(Instant)
    attempt: int = column(Count)
    due_at_us: int = column(Instant)
    score_id: str | None = optional(fixed(64))
    judge_turn_id: str | None = optional(TurnId)  # the trace of the judge's run
    cost_total_nano: int | None = optional(Nano)
    reserved_nano: int = column(Nano)
    error_type: str | None = optional(String(length.NAME))
    backfill_id: str | None = optional(fixed(32))
    repeat_number: int = column(Small, server_default="0")  # from 1: the judgement of `score_id` made again
    verdict: str | None = optional(String(length.NAME))  # of one made again: it gives no score
    turn_id: str | None = optional(TurnId)
    span_id: str | None = optional(SpanId)
    session_id: str | None = optional(String(length.SESSION_ID))
    user_id: str | None = optional(String(length.USER_ID))
    created_at_us: int = column(Instant)
    finished_at_us: int | None = optional(Instant)


class BudgetRow(Row, table=True):
    """Money that evaluators of one name may spend in one UTC day: spent and reserved never exceed the cap."""

    name: str = column(fixed(100), primary_key=True)
    day_at_us: int = column(Instant, primary_key=True, autoincrement=False)
    cap_nano: int = column(Nano)
    spent_nano: int = column(Nano)
    reserved_nano: int = column(Nano)


class BackfillRow(Row, table=True):
    """History given to an evaluator: walked from the newest turn of a period to its oldest."""

    __table_args__ = options(
        index("backfill_evaluator", "evaluator_id", "created_at_us"), index("backfill_status", "status")
    )

    id: str = column(fixed(32), primary_key=True)
    evaluator_id: str = column(fixed(32))
    evaluator_version: int = column(Count)
    status: str = column(Word)  # running, done, stopped
    from_us: int = column(Instant)
    to_us: int = column(Instant)
    cursor: str | None = optional(LongText)  # where the walk stands
    planned: int = column(Count)  # judgements it asked for
    author: str | None = optional(String(length.NAME))
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)
    finished_at_us: int | None = optional(Instant)


class ScoreConfigRow(Row, table=True):
    """What scores of one name may be: data type, range, categories (JSON array of strings)."""

    __table_args__ = options(index("score_config_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    data_type: str = column(Word)
    minimum: float | None = optional(Double)
    maximum: float | None = optional(Double)
    categories: str | None = optional(LongText)
    description: str | None = optional(LongText)
    is_archived: bool = column(Flag)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class AnnotationQueueRow(Row, table=True):
    """Work for human reviewers; `definition` is JSON: score names, instructions."""

    __table_args__ = options(index("annotation_queue_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    description: str | None = optional(LongText)
    definition: str = column(LongText)
    is_archived: bool = column(Flag)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class QueueItemRow(Row, table=True):
    """One thing to review, once per queue."""

    __table_args__ = options(
        UniqueConstraint("queue_id", "target_id", name=f"uq_{PREFIX}queue_item_target"),
        index("queue_item_next", "queue_id", "status", "created_at_us", "id"),
        index("queue_item_turn", "turn_id"),
        index("queue_item_user", "user_id"),
    )

    id: str = column(fixed(32), primary_key=True)
    queue_id: str = column(fixed(32))
    target_id: str = column(fixed(64))
    status: str = column(Word)  # pending, claimed, done, skipped
    reviewer: str | None = optional(String(length.NAME))
    lease_until_us: int | None = optional(Instant)
    turn_id: str | None = optional(TurnId)
    span_id: str | None = optional(SpanId)
    session_id: str | None = optional(String(length.SESSION_ID))
    user_id: str | None = optional(String(length.USER_ID))
    created_at_us: int = column(Instant)
    finished_at_us: int | None = optional(Instant)


class CommentRow(Row, table=True):
    """A remark of a panel user on a turn, observation or session."""

    __table_args__ = options(index("comment_turn", "turn_id"), index("comment_user", "user_id"))

    id: str = column(fixed(32), primary_key=True)
    turn_id: str | None = optional(TurnId)
    span_id: str | None = optional(SpanId)
    session_id: str | None = optional(String(length.SESSION_ID))
    user_id: str | None = optional(String(length.USER_ID))  # subject, not author
    text: str = column(Content)
    quote: str | None = optional(Content)  # the passage it is about
    author: str = column(String(length.NAME))
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


evaluator: Final = table(EvaluatorRow)
evaluator_version: Final = table(EvaluatorVersionRow)
evaluation: Final = table(EvaluationRow)
budget: Final = table(BudgetRow)
backfill: Final = table(BackfillRow)
score_config: Final = table(ScoreConfigRow)
annotation_queue: Final = table(AnnotationQueueRow)
queue_item: Final = table(QueueItemRow)
comment: Final = table(CommentRow)
