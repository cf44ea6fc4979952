"""Own time of steps in roll-ups, histograms by length of the input, and which process holds what of a budget.

Revision: 0009. Before it: 0008.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


# Rows that say who had turns on a day: many, and counted by every report.
OF_PEOPLE = sa.text("grain = 'day' AND model = ''")


COLUMNS = (
    ("turntrace_rollup", lambda: sa.Column("own_us", sa.BigInteger(), nullable=False, server_default="0")),
    ("turntrace_histogram", lambda: sa.Column("size", sa.String(20), nullable=False, server_default="")),
    ("turntrace_spending", lambda: sa.Column("grants", sa.Text(), nullable=True)),
)


def upgrade() -> None:
    # The index first: it takes longest, and columns lock their tables until the commit. What is there already stays:
    # MariaDB commits each of these by itself, and a connection may be lost on the way.
    # (Migrations printed as SQL know no database: everything is still to be made.)
    there = None if context.is_offline_mode() else sa.inspect(op.get_bind())
    if there is None or "ix_turntrace_rollup_people" not in _names(there.get_indexes("turntrace_rollup")):
        op.create_index(
            "ix_turntrace_rollup_people",
            "turntrace_rollup",
            ["dimension", "at_us", "value", "environment"],
            postgresql_where=OF_PEOPLE,
            sqlite_where=OF_PEOPLE,
        )
    for table, column in COLUMNS:
        made = column()
        if there is None or made.name not in _names(there.get_columns(table)):
            op.add_column(table, made)


def _names(found):
    return {each["name"] for each in found}


def downgrade() -> None:
    op.drop_index("ix_turntrace_rollup_people", "turntrace_rollup")
    op.drop_column("turntrace_spending", "grants")
    op.drop_column("turntrace_histogram", "size")
    op.drop_column("turntrace_rollup", "own_us")
