"""The first schema.

Revision: 0001. Before it: nothing.
"""

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Tables as they were at this revision: written out, so that later changes of the code do not change history.
OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
BLOB = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text, compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _create_alert_rule() -> None:
    op.create_table(
        "turntrace_alert_rule",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("definition", TEXT, nullable=False),
        sa.Column("sealed", TEXT, nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("silenced_until_us", sa.BigInteger(), nullable=True),
        sa.Column("checked_at_us", sa.BigInteger(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_alert_rule_name", "turntrace_alert_rule", ["name"], unique=True)


def _create_alert() -> None:
    op.create_table(
        "turntrace_alert",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("rule_id", fixed(32), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("opened_at_us", sa.BigInteger(), nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), nullable=True),
        sa.Column("notified_at_us", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_by", sa.String(255), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_alert_rule_opened", "turntrace_alert", ["rule_id", "opened_at_us"])
    op.create_index("ix_turntrace_alert_status", "turntrace_alert", ["status", "opened_at_us"])


def _create_probe() -> None:
    op.create_table(
        "turntrace_probe",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("definition", TEXT, nullable=False),
        sa.Column("sealed", TEXT, nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("last_status", fixed(24), nullable=True),
        sa.Column("last_turn_id", fixed(32), nullable=True),
        sa.Column("last_run_at_us", sa.BigInteger(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_probe_name", "turntrace_probe", ["name"], unique=True)


def _create_dataset() -> None:
    op.create_table(
        "turntrace_dataset",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_dataset_name", "turntrace_dataset", ["name"], unique=True)


def _create_dataset_item() -> None:
    op.create_table(
        "turntrace_dataset_item",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("dataset_id", fixed(32), nullable=False),
        sa.Column("item_key", sa.String(255), nullable=False),
        sa.Column("input", TEXT, nullable=False),
        sa.Column("expected", TEXT, nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("from_version", sa.BigInteger(), nullable=False),
        sa.Column("until_version", sa.BigInteger(), nullable=True),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("span_id", fixed(16), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index(
        "ix_turntrace_dataset_item_dataset", "turntrace_dataset_item", ["dataset_id", "created_at_us", "id"]
    )
    op.create_index("ix_turntrace_dataset_item_turn", "turntrace_dataset_item", ["turn_id"])
    op.create_index("ix_turntrace_dataset_item_user", "turntrace_dataset_item", ["user_id"])


def _create_experiment() -> None:
    op.create_table(
        "turntrace_experiment",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("dataset_id", fixed(32), nullable=True),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_experiment_name", "turntrace_experiment", ["name"], unique=True)


def _create_experiment_run() -> None:
    op.create_table(
        "turntrace_experiment_run",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("experiment_id", fixed(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("dataset_version", sa.BigInteger(), nullable=True),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("summary", TEXT, nullable=True),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index(
        "ix_turntrace_experiment_run_experiment", "turntrace_experiment_run", ["experiment_id", "started_at_us"]
    )


def _create_run_item() -> None:
    op.create_table(
        "turntrace_run_item",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("run_id", fixed(32), nullable=False),
        sa.Column("item_id", fixed(32), nullable=False),
        sa.Column("repetition", sa.BigInteger(), nullable=False),
        sa.Column("output", TEXT, nullable=True),
        sa.Column("error_type", sa.String(255), nullable=True),
        sa.Column("duration_us", sa.BigInteger(), nullable=True),
        sa.Column("cost_total_nano", sa.BigInteger(), nullable=True),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("is_cached", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_run_item_item", "turntrace_run_item", ["item_id"])
    op.create_index("ix_turntrace_run_item_run", "turntrace_run_item", ["run_id", "item_id"])
    op.create_index("ix_turntrace_run_item_turn", "turntrace_run_item", ["turn_id"])
    op.create_index("ix_turntrace_run_item_user", "turntrace_run_item", ["user_id"])


def _create_fence() -> None:
    op.create_table(
        "turntrace_fence",
        sa.Column("name", fixed(32), nullable=False),
        sa.Column("digest_key", fixed(64), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **OPTIONS,
    )


def _create_tombstone() -> None:
    op.create_table(
        "turntrace_tombstone",
        sa.Column("kind", fixed(24), nullable=False),
        sa.Column("key", fixed(64), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=True),
        sa.Column("erasure_id", fixed(32), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_tombstone_created", "turntrace_tombstone", ["created_at_us"])
    op.create_index("ix_turntrace_tombstone_erasure", "turntrace_tombstone", ["erasure_id"])


def _create_erasure() -> None:
    op.create_table(
        "turntrace_erasure",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("kind", fixed(24), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("subject", fixed(64), nullable=True),
        sa.Column("request", TEXT, nullable=True),
        sa.Column("counts", TEXT, nullable=True),
        sa.Column("verification", TEXT, nullable=True),
        sa.Column("signature", fixed(255), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), nullable=True),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_erasure_created", "turntrace_erasure", ["created_at_us"])
    op.create_index("ix_turntrace_erasure_status", "turntrace_erasure", ["status"])


def _create_account() -> None:
    op.create_table(
        "turntrace_account",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("password_hash", fixed(255), nullable=False),
        sa.Column("role", fixed(24), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_login_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_account_name", "turntrace_account", ["name"], unique=True)


def _create_panel_session() -> None:
    op.create_table(
        "turntrace_panel_session",
        sa.Column("token_hash", fixed(64), nullable=False),
        sa.Column("account_id", fixed(32), nullable=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("role", fixed(24), nullable=False),
        sa.Column("csrf_secret", fixed(64), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("client", sa.String(100), nullable=True),
        sa.PrimaryKeyConstraint("token_hash"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_panel_session_account", "turntrace_panel_session", ["account_id"])
    op.create_index("ix_turntrace_panel_session_expires", "turntrace_panel_session", ["expires_at_us"])


def _create_login_attempt() -> None:
    op.create_table(
        "turntrace_login_attempt",
        sa.Column("key", fixed(64), nullable=False),
        sa.Column("window_at_us", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("blocked_until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_login_attempt_window", "turntrace_login_attempt", ["window_at_us"])


def _create_api_key() -> None:
    op.create_table(
        "turntrace_api_key",
        sa.Column("id", fixed(24), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("secret_hash", fixed(64), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )


def _create_audit() -> None:
    op.create_table(
        "turntrace_audit",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("role", fixed(24), nullable=True),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("target", sa.String(255), nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("previous_hash", fixed(64), nullable=False),
        sa.Column("hash", fixed(64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_audit_at", "turntrace_audit", ["at_us", "id"])


def _create_price() -> None:
    op.create_table(
        "turntrace_price",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("provider", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("effective_from_us", sa.BigInteger(), nullable=False),
        sa.Column("rates", TEXT, nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_price_model", "turntrace_price", ["provider", "model", "effective_from_us"])


def _create_saved_view() -> None:
    op.create_table(
        "turntrace_saved_view",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("page", fixed(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("query", TEXT, nullable=False),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("is_shared", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_saved_view_page", "turntrace_saved_view", ["page", "name"])


def _create_segment() -> None:
    op.create_table(
        "turntrace_segment",
        sa.Column("id", fixed(64), nullable=False),
        sa.Column("through_sequence", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )


def _create_loss() -> None:
    op.create_table(
        "turntrace_loss",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("reason", sa.String(100), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_loss_reason", "turntrace_loss", ["reason"])


def _create_process() -> None:
    op.create_table(
        "turntrace_process",
        sa.Column("id", fixed(64), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.Column("overhead_us", sa.BigInteger(), nullable=False),
        sa.Column("bytes_written", sa.BigInteger(), nullable=False),
        sa.Column("dropped", TEXT, nullable=True),
        sa.Column("faults", TEXT, nullable=True),
        sa.Column("seen_at_us", sa.BigInteger(), nullable=False),
        sa.Column("is_dead", sa.Boolean(), nullable=False),
        sa.Column("read_through", sa.BigInteger(), nullable=False),
        sa.Column("lost_after", sa.BigInteger(), nullable=False),
        sa.Column("lost_through", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_process_seen", "turntrace_process", ["seen_at_us"])


def _create_lease() -> None:
    op.create_table(
        "turntrace_lease",
        sa.Column("name", fixed(64), nullable=False),
        sa.Column("owner", fixed(128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **OPTIONS,
    )


def _create_job_run() -> None:
    op.create_table(
        "turntrace_job_run",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("job", fixed(64), nullable=False),
        sa.Column("slot_at_us", sa.BigInteger(), nullable=False),
        sa.Column("owner", fixed(128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job", "slot_at_us", name="uq_turntrace_job_run_slot"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_job_run_started", "turntrace_job_run", ["started_at_us"])


def _create_setting() -> None:
    op.create_table(
        "turntrace_setting",
        sa.Column("name", fixed(64), nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **OPTIONS,
    )


def _create_prompt() -> None:
    op.create_table(
        "turntrace_prompt",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("is_archived", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_prompt_name", "turntrace_prompt", ["name"], unique=True)


def _create_prompt_version() -> None:
    op.create_table(
        "turntrace_prompt_version",
        sa.Column("prompt_id", fixed(32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("kind", fixed(24), nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("config", TEXT, nullable=True),
        sa.Column("commit_message", TEXT, nullable=True),
        sa.Column("content_hash", fixed(64), nullable=False),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("prompt_id", "version"),
        **OPTIONS,
    )


def _create_prompt_label() -> None:
    op.create_table(
        "turntrace_prompt_label",
        sa.Column("prompt_id", fixed(32), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("prompt_id", "label"),
        **OPTIONS,
    )


def _create_evaluator() -> None:
    op.create_table(
        "turntrace_evaluator",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", fixed(24), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("watermark_us", sa.BigInteger(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_evaluator_name", "turntrace_evaluator", ["name"], unique=True)


def _create_evaluator_version() -> None:
    op.create_table(
        "turntrace_evaluator_version",
        sa.Column("evaluator_id", fixed(32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("definition", TEXT, nullable=False),
        sa.Column("sealed", TEXT, nullable=True),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("evaluator_id", "version"),
        **OPTIONS,
    )


def _create_evaluation() -> None:
    op.create_table(
        "turntrace_evaluation",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("target", fixed(24), nullable=False),
        sa.Column("target_id", fixed(64), nullable=False),
        sa.Column("evaluator_id", fixed(32), nullable=False),
        sa.Column("evaluator_version", sa.BigInteger(), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("owner", fixed(128), nullable=True),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("due_at_us", sa.BigInteger(), nullable=False),
        sa.Column("score_id", fixed(64), nullable=True),
        sa.Column("judge_turn_id", fixed(32), nullable=True),
        sa.Column("cost_total_nano", sa.BigInteger(), nullable=True),
        sa.Column("reserved_nano", sa.BigInteger(), nullable=False),
        sa.Column("error_type", sa.String(255), nullable=True),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("span_id", fixed(16), nullable=True),
        sa.Column("session_id", sa.String(200), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("target_id", "evaluator_id", "evaluator_version", name="uq_turntrace_evaluation_target"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_evaluation_claim", "turntrace_evaluation", ["status", "due_at_us", "id"])
    op.create_index("ix_turntrace_evaluation_evaluator", "turntrace_evaluation", ["evaluator_id", "created_at_us"])
    op.create_index("ix_turntrace_evaluation_turn", "turntrace_evaluation", ["turn_id"])
    op.create_index("ix_turntrace_evaluation_user", "turntrace_evaluation", ["user_id"])


def _create_budget() -> None:
    op.create_table(
        "turntrace_budget",
        sa.Column("name", fixed(100), nullable=False),
        sa.Column("day_at_us", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("cap_nano", sa.BigInteger(), nullable=False),
        sa.Column("spent_nano", sa.BigInteger(), nullable=False),
        sa.Column("reserved_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "day_at_us"),
        **OPTIONS,
    )


def _create_annotation_queue() -> None:
    op.create_table(
        "turntrace_annotation_queue",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("definition", TEXT, nullable=False),
        sa.Column("is_archived", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_annotation_queue_name", "turntrace_annotation_queue", ["name"], unique=True)


def _create_queue_item() -> None:
    op.create_table(
        "turntrace_queue_item",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("queue_id", fixed(32), nullable=False),
        sa.Column("target_id", fixed(64), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("reviewer", sa.String(255), nullable=True),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=True),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("span_id", fixed(16), nullable=True),
        sa.Column("session_id", sa.String(200), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("queue_id", "target_id", name="uq_turntrace_queue_item_target"),
        **OPTIONS,
    )
    op.create_index(
        "ix_turntrace_queue_item_next", "turntrace_queue_item", ["queue_id", "status", "created_at_us", "id"]
    )
    op.create_index("ix_turntrace_queue_item_turn", "turntrace_queue_item", ["turn_id"])
    op.create_index("ix_turntrace_queue_item_user", "turntrace_queue_item", ["user_id"])


def _create_comment() -> None:
    op.create_table(
        "turntrace_comment",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("span_id", fixed(16), nullable=True),
        sa.Column("session_id", sa.String(200), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_comment_turn", "turntrace_comment", ["turn_id"])
    op.create_index("ix_turntrace_comment_user", "turntrace_comment", ["user_id"])


def _create_rollup() -> None:
    op.create_table(
        "turntrace_rollup",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("is_compacted", sa.Boolean(), nullable=False),
        sa.Column("grain", fixed(24), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("dimension", fixed(24), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("provider", sa.String(200), nullable=False),
        sa.Column("feature", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("price_version", sa.String(60), nullable=False),
        sa.Column("tier", sa.String(40), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_input_nano", sa.BigInteger(), nullable=False),
        sa.Column("cost_output_nano", sa.BigInteger(), nullable=False),
        sa.Column("cost_total_nano", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_count", sa.BigInteger(), nullable=False),
        sa.Column("ttft_us", sa.BigInteger(), nullable=False),
        sa.Column("ttft_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_rollup_at", "turntrace_rollup", ["dimension", "grain", "is_compacted", "at_us"])
    op.create_index("ix_turntrace_rollup_delta", "turntrace_rollup", ["is_compacted", "id"])
    op.create_index("ix_turntrace_rollup_value", "turntrace_rollup", ["dimension", "value", "at_us"])


def _create_histogram() -> None:
    op.create_table(
        "turntrace_histogram",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("is_compacted", sa.Boolean(), nullable=False),
        sa.Column("grain", fixed(24), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("metric", fixed(24), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("feature", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("counts", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_histogram_at", "turntrace_histogram", ["metric", "grain", "is_compacted", "at_us"])
    op.create_index("ix_turntrace_histogram_delta", "turntrace_histogram", ["is_compacted", "id"])


def _create_trace() -> None:
    op.create_table(
        "turntrace_trace",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("trace_id", fixed(32), nullable=False),
        sa.Column("span_id", fixed(16), nullable=False),
        sa.Column("parent_span_id", fixed(16), nullable=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("source", fixed(24), nullable=False),
        sa.Column("method", fixed(16), nullable=True),
        sa.Column("route", sa.String(255), nullable=True),
        sa.Column("http_status", sa.SmallInteger(), nullable=True),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("outcome", fixed(24), nullable=False),
        sa.Column("error_type", sa.String(255), nullable=True),
        sa.Column("error_message", TEXT, nullable=True),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=True),
        sa.Column("ttft_us", sa.BigInteger(), nullable=True),
        sa.Column("last_byte_us", sa.BigInteger(), nullable=True),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=True),
        sa.Column("chunk_count", sa.BigInteger(), nullable=True),
        sa.Column("is_streamed", sa.Boolean(), nullable=False),
        sa.Column("session_id", sa.String(200), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("feature", sa.String(200), nullable=True),
        sa.Column("experiment", sa.String(200), nullable=True),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("release", sa.String(200), nullable=True),
        sa.Column("request_id", sa.String(255), nullable=True),
        sa.Column("service_name", sa.String(255), nullable=True),
        sa.Column("tags", TEXT, nullable=True),
        sa.Column("feature_flags", TEXT, nullable=True),
        sa.Column("input_preview", TEXT, nullable=True),
        sa.Column("output_preview", TEXT, nullable=True),
        sa.Column("models", TEXT, nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("input_audio_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_audio_tokens", sa.BigInteger(), nullable=True),
        sa.Column("usage_details", TEXT, nullable=True),
        sa.Column("is_usage_estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_input_nano", sa.BigInteger(), nullable=True),
        sa.Column("cost_output_nano", sa.BigInteger(), nullable=True),
        sa.Column("cost_total_nano", sa.BigInteger(), nullable=True),
        sa.Column("unpriced_count", sa.BigInteger(), nullable=False),
        sa.Column("observation_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("keep_reason", fixed(24), nullable=False),
        sa.Column("redaction_failed", sa.BigInteger(), nullable=False),
        sa.Column("flags", TEXT, nullable=True),
        sa.Column("depth", sa.SmallInteger(), nullable=False),
        sa.Column("overhead_us", sa.BigInteger(), nullable=True),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_trace_environment", "turntrace_trace", ["environment", "started_at_us", "id"])
    op.create_index("ix_turntrace_trace_feature", "turntrace_trace", ["feature", "started_at_us", "id"])
    op.create_index("ix_turntrace_trace_session", "turntrace_trace", ["session_id", "started_at_us", "id"])
    op.create_index("ix_turntrace_trace_started", "turntrace_trace", ["started_at_us", "id"])
    op.create_index("ix_turntrace_trace_status", "turntrace_trace", ["status", "started_at_us", "id"])
    op.create_index("ix_turntrace_trace_trace_id", "turntrace_trace", ["trace_id"])
    op.create_index("ix_turntrace_trace_user", "turntrace_trace", ["user_id", "started_at_us", "id"])


def _create_observation() -> None:
    op.create_table(
        "turntrace_observation",
        sa.Column("turn_id", fixed(32), nullable=False),
        sa.Column("span_id", fixed(16), nullable=False),
        sa.Column("trace_id", fixed(32), nullable=True),
        sa.Column("parent_span_id", fixed(16), nullable=True),
        sa.Column("type", fixed(24), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("level", fixed(24), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("status_message", TEXT, nullable=True),
        sa.Column("error_type", sa.String(255), nullable=True),
        sa.Column("error_message", TEXT, nullable=True),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=True),
        sa.Column("ttft_us", sa.BigInteger(), nullable=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(200), nullable=True),
        sa.Column("model_requested", sa.String(200), nullable=True),
        sa.Column("provider", sa.String(200), nullable=True),
        sa.Column("service_tier", sa.String(40), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("input_audio_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_audio_tokens", sa.BigInteger(), nullable=True),
        sa.Column("usage_details", TEXT, nullable=True),
        sa.Column("is_usage_estimated", sa.Boolean(), nullable=True),
        sa.Column("usage_aggregate", TEXT, nullable=True),
        sa.Column("cost_input_nano", sa.BigInteger(), nullable=True),
        sa.Column("cost_output_nano", sa.BigInteger(), nullable=True),
        sa.Column("cost_total_nano", sa.BigInteger(), nullable=True),
        sa.Column("cost_source", fixed(24), nullable=True),
        sa.Column("price_version", sa.String(60), nullable=True),
        sa.Column("price_tier", sa.String(40), nullable=True),
        sa.Column("finish_reasons", TEXT, nullable=True),
        sa.Column("response_id", sa.String(255), nullable=True),
        sa.Column("tool_name", sa.String(255), nullable=True),
        sa.Column("tool_call_id", sa.String(255), nullable=True),
        sa.Column("agent_name", sa.String(255), nullable=True),
        sa.Column("prompt_name", sa.String(200), nullable=True),
        sa.Column("prompt_version", sa.String(64), nullable=True),
        sa.Column("prompt_label", sa.String(64), nullable=True),
        sa.Column("session_id", sa.String(200), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("tags", TEXT, nullable=True),
        sa.Column("scope", sa.String(255), nullable=True),
        sa.Column("flags", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("turn_id", "span_id"),
        **OPTIONS,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_turntrace_observation_started", "turntrace_observation", ["started_at_us", "turn_id", "span_id"]
    )


def _create_content() -> None:
    op.create_table(
        "turntrace_content",
        sa.Column("turn_id", fixed(32), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("key_id", fixed(8), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", BLOB, nullable=False),
        sa.PrimaryKeyConstraint("turn_id"),
        **OPTIONS,
    )


def _create_sampled() -> None:
    op.create_table(
        "turntrace_sampled",
        sa.Column("turn_id", fixed(32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("turn_id"),
        **OPTIONS,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_turntrace_sampled_at", "turntrace_sampled", ["at_us"])


def _create_session() -> None:
    op.create_table(
        "turntrace_session",
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(40), nullable=False),
        sa.Column("first_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_at_us", sa.BigInteger(), nullable=False),
        sa.Column("trace_count", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("priced_count", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_total_nano", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "user_id"),
        **OPTIONS,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_turntrace_session_last", "turntrace_session", ["last_at_us", "session_id", "user_id"])
    op.create_index("ix_turntrace_session_user", "turntrace_session", ["user_id", "last_at_us", "session_id"])


def _create_score() -> None:
    op.create_table(
        "turntrace_score",
        sa.Column("id", fixed(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("data_type", fixed(24), nullable=False),
        sa.Column("source", fixed(24), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("flag", sa.Boolean(), nullable=True),
        sa.Column("text", TEXT, nullable=True),
        sa.Column("turn_id", fixed(32), nullable=True),
        sa.Column("trace_id", fixed(32), nullable=True),
        sa.Column("span_id", fixed(16), nullable=True),
        sa.Column("session_id", sa.String(200), nullable=True),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("comment", TEXT, nullable=True),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("evaluator", sa.String(255), nullable=True),
        sa.Column("evaluator_version", sa.BigInteger(), nullable=True),
        sa.Column("environment", sa.String(40), nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_score_created", "turntrace_score", ["created_at_us", "id"])
    op.create_index("ix_turntrace_score_name", "turntrace_score", ["name", "created_at_us", "id"])
    op.create_index("ix_turntrace_score_session", "turntrace_score", ["session_id"])
    op.create_index("ix_turntrace_score_turn", "turntrace_score", ["turn_id", "span_id"])
    op.create_index("ix_turntrace_score_user", "turntrace_score", ["user_id"])


TABLES = (
    _create_alert_rule,
    _create_alert,
    _create_probe,
    _create_dataset,
    _create_dataset_item,
    _create_experiment,
    _create_experiment_run,
    _create_run_item,
    _create_fence,
    _create_tombstone,
    _create_erasure,
    _create_account,
    _create_panel_session,
    _create_login_attempt,
    _create_api_key,
    _create_audit,
    _create_price,
    _create_saved_view,
    _create_segment,
    _create_loss,
    _create_process,
    _create_lease,
    _create_job_run,
    _create_setting,
    _create_prompt,
    _create_prompt_version,
    _create_prompt_label,
    _create_evaluator,
    _create_evaluator_version,
    _create_evaluation,
    _create_budget,
    _create_annotation_queue,
    _create_queue_item,
    _create_comment,
    _create_rollup,
    _create_histogram,
    _create_trace,
    _create_observation,
    _create_content,
    _create_sampled,
    _create_session,
    _create_score,
)


def upgrade() -> None:
    for create in TABLES:
        create()
    if op.get_context().dialect.name == "postgresql":
        # Already compressed: compressing again costs time and gains nothing.
        op.execute("ALTER TABLE turntrace_content ALTER COLUMN data SET STORAGE EXTERNAL")
    fence = sa.table("turntrace_fence", sa.column("name", sa.String), sa.column("digest_key", sa.String))
    op.bulk_insert(fence, [{"name": name, "digest_key": secrets.token_hex(32)} for name in ("erasure", "audit")])


def downgrade() -> None:
    for create in reversed(TABLES):
        op.drop_table(create.__name__.replace("_create_", "turntrace_", 1))
