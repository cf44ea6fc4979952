"""An index of steps whose user is not their turn's: erasure and access find them without reading every step.

Revision: 0007. Before it: 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATED = sa.text("user_id IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_turntrace_observation_user",
        "turntrace_observation",
        ["user_id"],
        postgresql_where=STATED,
        sqlite_where=STATED,
    )


def downgrade() -> None:
    op.drop_index("ix_turntrace_observation_user", "turntrace_observation")
