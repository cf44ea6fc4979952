"""Evaluators' circuit breakers, backfills, score configs, scores of dataset and run items; turns by when they changed.

Revision: 0003. Before it: 0002.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text, compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column(
        "turntrace_evaluator", sa.Column("failure_count", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("turntrace_evaluator", sa.Column("blocked_until_us", sa.BigInteger(), nullable=True))
    op.add_column("turntrace_evaluator", sa.Column("blocked_reason", sa.String(255), nullable=True))
    op.add_column("turntrace_evaluation", sa.Column("backfill_id", fixed(32), nullable=True))
    op.create_index("ix_turntrace_evaluation_backfill", "turntrace_evaluation", ["backfill_id", "status"])
    op.add_column("turntrace_score", sa.Column("dataset_item_id", fixed(32), nullable=True))
    op.add_column("turntrace_score", sa.Column("run_item_id", fixed(32), nullable=True))
    op.create_index("ix_turntrace_score_dataset_item", "turntrace_score", ["dataset_item_id"])
    op.create_index("ix_turntrace_score_run_item", "turntrace_score", ["run_item_id"])
    op.create_index("ix_turntrace_trace_updated", "turntrace_trace", ["updated_at_us", "id"])
    _create_backfill()
    _create_score_config()


def _create_backfill() -> None:
    op.create_table(
        "turntrace_backfill",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("evaluator_id", fixed(32), nullable=False),
        sa.Column("evaluator_version", sa.BigInteger(), nullable=False),
        sa.Column("status", fixed(24), nullable=False),
        sa.Column("from_us", sa.BigInteger(), nullable=False),
        sa.Column("to_us", sa.BigInteger(), nullable=False),
        sa.Column("cursor", LONG_TEXT, nullable=True),
        sa.Column("planned", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_backfill_evaluator", "turntrace_backfill", ["evaluator_id", "created_at_us"])
    op.create_index("ix_turntrace_backfill_status", "turntrace_backfill", ["status"])


def _create_score_config() -> None:
    op.create_table(
        "turntrace_score_config",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("data_type", fixed(24), nullable=False),
        sa.Column("minimum", sa.Double(), nullable=True),
        sa.Column("maximum", sa.Double(), nullable=True),
        sa.Column("categories", LONG_TEXT, nullable=True),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("is_archived", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_score_config_name", "turntrace_score_config", ["name"], unique=True)


def downgrade() -> None:
    op.drop_table("turntrace_score_config")
    op.drop_table("turntrace_backfill")
    op.drop_index("ix_turntrace_trace_updated", "turntrace_trace")
    for name in ("run_item", "dataset_item"):
        op.drop_index(f"ix_turntrace_score_{name}", "turntrace_score")
        op.drop_column("turntrace_score", f"{name}_id")
    op.drop_index("ix_turntrace_evaluation_backfill", "turntrace_evaluation")
    op.drop_column("turntrace_evaluation", "backfill_id")
    for name in ("blocked_reason", "blocked_until_us", "failure_count"):
        op.drop_column("turntrace_evaluator", name)
