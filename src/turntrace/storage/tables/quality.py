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
    Serial,
    Small,
    SpanId,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    table,
)

# A thing that yields scores; what it does is in its versions.
evaluator: Final = table(
    "evaluator",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    column("kind", Word),  # judge, code, check
    column("is_enabled", Flag),
    column("version", Count),  # the current one
    column("watermark_us", Instant),  # turns stored up to here were looked at
    column("failure_count", Count, server_default="0"),  # runs that failed one after another
    optional("blocked_until_us", Instant),  # the circuit breaker is open until then
    optional("blocked_reason", String(length.NAME)),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("evaluator_name", "name", unique=True),
)

# One immutable definition: JSON as in `POST /evaluators`, secrets sealed apart.
evaluator_version: Final = table(
    "evaluator_version",
    column("evaluator_id", fixed(32), primary_key=True),
    column("version", Count, primary_key=True, autoincrement=False),
    column("definition", LongText),
    optional("sealed", LongText),  # encrypted credentials, base64
    optional("author", String(length.NAME)),
    column("created_at_us", Instant),
)

# One judgement to be made, made or failed: unique by target and evaluator version, claimed by one worker.
evaluation: Final = table(
    "evaluation",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("target", Word),  # observation, trace, session, run_item
    column("target_id", fixed(64)),  # session: SHA-256 of user and session id
    column("evaluator_id", fixed(32)),
    column("evaluator_version", Count),
    column("status", Word),  # pending, claimed, done, failed, skipped
    optional("owner", fixed(128)),
    optional("lease_until_us", Instant),
    column("attempt", Count),
    column("due_at_us", Instant),
    optional("score_id", fixed(64)),
    optional("judge_turn_id", TurnId),  # the trace of the judge's run
    optional("cost_total_nano", Nano),
    column("reserved_nano", Nano),
    optional("error_type", String(length.NAME)),
    optional("backfill_id", fixed(32)),
    column("repeat_number", Small, server_default="0"),  # from 1: the judgement of `score_id` made again
    optional("verdict", String(length.NAME)),  # of one made again: it gives no score
    optional("turn_id", TurnId),
    optional("span_id", SpanId),
    optional("session_id", String(length.SESSION_ID)),
    optional("user_id", String(length.USER_ID)),
    column("created_at_us", Instant),
    optional("finished_at_us", Instant),
    UniqueConstraint("target_id", "evaluator_id", "evaluator_version", name=f"uq_{PREFIX}evaluation_target"),
    index("evaluation_claim", "status", "due_at_us", "id"),
    index("evaluation_evaluator", "evaluator_id", "created_at_us"),
    index("evaluation_turn", "turn_id"),
    index("evaluation_user", "user_id"),
    index("evaluation_backfill", "backfill_id", "status"),
)

# Money that evaluators of one name may spend in one UTC day: spent and reserved never exceed the cap.
budget: Final = table(
    "budget",
    column("name", fixed(100), primary_key=True),
    column("day_at_us", Instant, primary_key=True, autoincrement=False),
    column("cap_nano", Nano),
    column("spent_nano", Nano),
    column("reserved_nano", Nano),
)

# History given to an evaluator: walked from the newest turn of a period to its oldest.
backfill: Final = table(
    "backfill",
    column("id", fixed(32), primary_key=True),
    column("evaluator_id", fixed(32)),
    column("evaluator_version", Count),
    column("status", Word),  # running, done, stopped
    column("from_us", Instant),
    column("to_us", Instant),
    optional("cursor", LongText),  # where the walk stands
    column("planned", Count),  # judgements it asked for
    optional("author", String(length.NAME)),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    optional("finished_at_us", Instant),
    index("backfill_evaluator", "evaluator_id", "created_at_us"),
    index("backfill_status", "status"),
)

# What scores of one name may be: data type, range, categories (JSON array of strings).
score_config: Final = table(
    "score_config",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    column("data_type", Word),
    optional("minimum", Double),
    optional("maximum", Double),
    optional("categories", LongText),
    optional("description", LongText),
    column("is_archived", Flag),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("score_config_name", "name", unique=True),
)

# Work for human reviewers; `definition` is JSON: score names, instructions.
annotation_queue: Final = table(
    "annotation_queue",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    optional("description", LongText),
    column("definition", LongText),
    column("is_archived", Flag),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("annotation_queue_name", "name", unique=True),
)

# One thing to review, once per queue.
queue_item: Final = table(
    "queue_item",
    column("id", fixed(32), primary_key=True),
    column("queue_id", fixed(32)),
    column("target_id", fixed(64)),
    column("status", Word),  # pending, claimed, done, skipped
    optional("reviewer", String(length.NAME)),
    optional("lease_until_us", Instant),
    optional("turn_id", TurnId),
    optional("span_id", SpanId),
    optional("session_id", String(length.SESSION_ID)),
    optional("user_id", String(length.USER_ID)),
    column("created_at_us", Instant),
    optional("finished_at_us", Instant),
    UniqueConstraint("queue_id", "target_id", name=f"uq_{PREFIX}queue_item_target"),
    index("queue_item_next", "queue_id", "status", "created_at_us", "id"),
    index("queue_item_turn", "turn_id"),
    index("queue_item_user", "user_id"),
)

# A remark of a panel user on a turn, observation or session.
comment: Final = table(
    "comment",
    column("id", fixed(32), primary_key=True),
    optional("turn_id", TurnId),
    optional("span_id", SpanId),
    optional("session_id", String(length.SESSION_ID)),
    optional("user_id", String(length.USER_ID)),  # subject, not author
    column("text", Content),
    optional("quote", Content),  # the passage it is about
    column("author", String(length.NAME)),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("comment_turn", "turn_id"),
    index("comment_user", "user_id"),
)
