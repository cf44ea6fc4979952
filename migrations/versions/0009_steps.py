"""Own time of steps in roll-ups, histograms by length of the input, and which process holds what of a budget.

Revision: 0009. Before it: 0008.
"""

import sqlalchemy as sa

from turntrace.storage import ddl

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


# Rows that say who had turns on a day: many, and counted by every report.
OF_PEOPLE = sa.text("grain = 'day' AND model = ''")


def upgrade() -> None:
    # The index first: it takes longest, and columns lock their tables until the commit.
    ddl.create_index(
        "ix_turntrace_rollup_people",
        "turntrace_rollup",
        ["dimension", "at_us", "value", "environment"],
        postgresql_where=OF_PEOPLE,
        sqlite_where=OF_PEOPLE,
    )
    ddl.add_column("turntrace_rollup", sa.Column("own_us", sa.BigInteger(), nullable=False, server_default="0"))
    ddl.add_column("turntrace_histogram", sa.Column("size", sa.String(20), nullable=False, server_default=""))
    ddl.add_column("turntrace_spending", sa.Column("grants", sa.Text(), nullable=True))


def downgrade() -> None:
    ddl.drop_index("ix_turntrace_rollup_people", "turntrace_rollup")
    ddl.drop_column("turntrace_spending", "grants")
    ddl.drop_column("turntrace_histogram", "size")
    ddl.drop_column("turntrace_rollup", "own_us")
