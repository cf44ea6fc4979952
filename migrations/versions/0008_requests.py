"""An index of turns by the host's own request id: feedback that names it finds its turn.

Revision: 0008. Before it: 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATED = sa.text("request_id IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_turntrace_trace_request",
        "turntrace_trace",
        ["request_id"],
        postgresql_where=STATED,
        sqlite_where=STATED,
    )


def downgrade() -> None:
    op.drop_index("ix_turntrace_trace_request", "turntrace_trace")
