# ruff: noqa: S608 (names of ours)
"""Budgets of model calls, and the documented SQL views.

A later migration that changes a column which a view reads must drop the view first and make it again.

Revision: 0006. Before it: 0005.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
VIEWS = ("turns", "calls", "scores", "costs", "user_costs")
# An instant of a BIGINT of microseconds: timestamptz on PostgreSQL, UTC without a zone on MariaDB, ISO 8601 on SQLite.
INSTANT = {
    "postgresql": "to_timestamp({0} / 1000000.0)",
    "mysql": "(TIMESTAMP '1970-01-01 00:00:00' + INTERVAL {0} MICROSECOND)",
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1000000.0, 'unixepoch')",
}
# US dollars: exact decimals but on SQLite, which has none.
DOLLARS = {
    "postgresql": "CAST({0} AS NUMERIC(29, 0)) / 1000000000.0",
    "mysql": "CAST({0} AS DECIMAL(29, 9)) / 1000000000",
    "sqlite": "({0} / 1000000000.0)",
}
TOKENS = "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens"


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text, compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "turntrace_spending_rule",
        sa.Column("id", fixed(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scope", fixed(24), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.Column("period", fixed(24), nullable=False),
        sa.Column("limit_nano", sa.BigInteger(), nullable=False),
        sa.Column("action", fixed(24), nullable=False),
        sa.Column("downgrade_to", sa.String(200), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_spending_rule_name", "turntrace_spending_rule", ["name"], unique=True)
    op.create_table(
        "turntrace_spending",
        sa.Column("rule_id", fixed(32), nullable=False),
        sa.Column("period_at_us", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.Column("user_id", sa.String(200), nullable=True),
        sa.Column("spent_nano", sa.BigInteger(), nullable=False),
        sa.Column("reserved_nano", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("notified_at_us", sa.BigInteger(), nullable=True),
        sa.Column("updated_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rule_id", "period_at_us", "value"),
        sqlite_with_rowid=False,
        **OPTIONS,
    )
    op.create_index("ix_turntrace_spending_user", "turntrace_spending", ["user_id"])
    op.create_index("ix_turntrace_spending_period", "turntrace_spending", ["period_at_us"])
    _create_views("mysql" if op.get_context().dialect.name == "mariadb" else op.get_context().dialect.name)


def _create_views(dialect: str) -> None:
    for name, query in _queries(INSTANT[dialect], DOLLARS[dialect]).items():
        statement = f"CREATE VIEW turntrace_v_{name} AS {query}"
        op.execute(sa.text(statement.replace(":", r"\:")))  # a colon of a time is no parameter


def _queries(instant: str, dollars: str) -> dict[str, str]:
    costs = ", ".join(
        f"{dollars.format(f'{{0}}cost_{part}_nano')} AS cost_{part}_usd" for part in ("input", "output", "total")
    )
    own = costs.replace("{0}", "")
    sums = ", ".join(f"SUM({name}) AS {name}" for name in ("calls", "unpriced", *TOKENS.split(", "), "cost_total_nano"))
    turns = "SUM(turns) AS turns, SUM(CASE WHEN model = '' THEN errors ELSE 0 END) AS errors"
    total = dollars.format("SUM(cost_total_nano)")
    return {
        "turns": (
            "SELECT id AS turn_id, trace_id, name, source, route, status, outcome, http_status, error_type, "
            f"{instant.format('started_at_us')} AS started_at, started_at_us, duration_us, ttft_us, "
            "session_id, user_id, feature, experiment, environment, t.release AS app_release, request_id, "
            "tags, models, "
            f"{TOKENS}, cost_total_nano, {own}, unpriced_count, observation_count, error_count "
            "FROM turntrace_trace t WHERE is_final"
        ),
        "calls": (
            "SELECT o.turn_id, o.span_id, t.trace_id, o.type, o.name, o.status, o.error_type, "
            f"{instant.format('o.started_at_us')} AS started_at, o.started_at_us, o.duration_us, o.ttft_us, "
            "COALESCE(o.session_id, t.session_id) AS session_id, COALESCE(o.user_id, t.user_id) AS user_id, "
            "t.feature, t.route, t.experiment, t.environment, t.release AS app_release, "
            "o.provider, o.model, o.model_requested, o.service_tier, o.prompt_name, o.prompt_version, "
            + ", ".join(f"o.{name}" for name in TOKENS.split(", "))
            + f", o.cost_total_nano, {costs.replace('{0}', 'o.')}, o.cost_source, o.price_version "
            "FROM turntrace_observation o JOIN turntrace_trace t ON t.id = o.turn_id "
            "WHERE o.type IN ('generation', 'embedding', 'reranker') AND t.is_final"
        ),
        "scores": (
            "SELECT id AS score_id, name, data_type, source, number AS value_number, flag AS value_boolean, "
            "CASE WHEN data_type = 'categorical' THEN text END AS value_category, "
            "turn_id, trace_id, span_id, session_id, user_id, evaluator, evaluator_version, environment, "
            f"{instant.format('created_at_us')} AS created_at, created_at_us FROM turntrace_score"
        ),
        "costs": (
            f"SELECT {instant.format('at_us')} AS hour_at, at_us AS hour_at_us, model, provider, feature, environment, "
            f"{turns}, {sums}, {total} AS cost_total_usd FROM turntrace_rollup "
            "WHERE dimension = '' AND grain = 'hour' GROUP BY at_us, model, provider, feature, environment"
        ),
        "user_costs": (
            f"SELECT {instant.format('at_us')} AS day_at, at_us AS day_at_us, value AS user_id, model, environment, "
            f"{turns}, {sums}, {total} AS cost_total_usd FROM turntrace_rollup "
            "WHERE dimension = 'user' AND grain = 'day' GROUP BY at_us, value, model, environment"
        ),
    }


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW turntrace_v_{name}")
    op.drop_table("turntrace_spending")
    op.drop_table("turntrace_spending_rule")
