"""When a client left its answer; an index of the turns that did not end as they should, or have not ended.

Revision: 0004. Before it: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NOT_COMPLETE = sa.text("outcome <> 'complete'")


def upgrade() -> None:
    op.add_column("turntrace_trace", sa.Column("client_left_us", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_turntrace_trace_outcome",
        "turntrace_trace",
        ["outcome", "started_at_us", "id"],
        postgresql_where=NOT_COMPLETE,
        sqlite_where=NOT_COMPLETE,
    )


def downgrade() -> None:
    op.drop_index("ix_turntrace_trace_outcome", "turntrace_trace")
    op.drop_column("turntrace_trace", "client_left_us")
