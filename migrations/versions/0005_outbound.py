"""Turns on their way to other OTLP endpoints.

Revision: 0005. Before it: 0004.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text, compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "turntrace_outbound",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("destination", fixed(40), nullable=False),
        sa.Column("turn_id", fixed(32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_outbound_destination", "turntrace_outbound", ["destination", "id"])
    op.create_index("ix_turntrace_outbound_turn", "turntrace_outbound", ["turn_id"])
    op.create_table(
        "turntrace_destination",
        sa.Column("name", fixed(40), primary_key=True, nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("left_out", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("overflowed", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("failing_since_us", sa.BigInteger(), nullable=True),
        sa.Column("last_sent_at_us", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.String(255), nullable=True),
        sa.Column("last_error_at_us", sa.BigInteger(), nullable=True),
        **OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("turntrace_destination")
    op.drop_table("turntrace_outbound")
