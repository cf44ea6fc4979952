"""What was received over OTLP is kept, sealed, until its trace is complete.

Revision: 0002. Before it: 0001.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}
BLOB = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text, compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "turntrace_received",
        sa.Column("turn_id", fixed(32), nullable=False),
        sa.Column("digest", fixed(32), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key_id", fixed(8), nullable=False),
        sa.Column("data", BLOB, nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "digest"),
        **OPTIONS,
    )
    op.create_index("ix_turntrace_received_at", "turntrace_received", ["at_us"])
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE turntrace_received ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("turntrace_received")
