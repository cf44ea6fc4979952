"""Judgements that are made again, the source that documents came from, and the passage a remark is about.

Revision: 0010. Before it: 0009.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from turntrace.storage import ddl

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    ddl.add_column(
        "turntrace_evaluation", sa.Column("repeat_number", sa.SmallInteger(), nullable=False, server_default="0")
    )
    ddl.add_column("turntrace_evaluation", sa.Column("verdict", sa.String(255), nullable=True))
    ddl.add_column("turntrace_observation", sa.Column("data_source", sa.String(255), nullable=True))
    ddl.add_column("turntrace_comment", sa.Column("quote", LONG_TEXT, nullable=True))


def downgrade() -> None:
    # Without the column they would be taken for judgements of their own.
    if ddl.has_column("turntrace_evaluation", "repeat_number", otherwise=True):
        op.execute("DELETE FROM turntrace_evaluation WHERE repeat_number > 0")
    ddl.drop_column("turntrace_comment", "quote")
    ddl.drop_column("turntrace_observation", "data_source")
    ddl.drop_column("turntrace_evaluation", "verdict")
    ddl.drop_column("turntrace_evaluation", "repeat_number")
