"""Days of users and sessions by whatever model: one row to read where there were many.

Revision: 0012. Before it: 0011.
"""

import sqlalchemy as sa
from alembic import op

from turntrace.storage import ddl

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

WHOLE = "whole"
IS_WHOLE = sa.text(f"grain = '{WHOLE}'")
OF_PEOPLE = sa.text("grain = 'day' AND model = ''")
_SUMS = (
    *("turns", "calls", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("reasoning_tokens", "cost_input_nano", "cost_output_nano", "cost_total_nano", "own_us"),
)
_OF_TURNS = ("errors", "duration_us", "duration_count", "ttft_us", "ttft_count")


def upgrade() -> None:
    # The rows last, in the transaction that notes the revision: MariaDB commits at every change of tables.
    ddl.create_index(
        "ix_turntrace_rollup_whole",
        "turntrace_rollup",
        ["dimension", "at_us", "value", "environment", "cost_total_nano", "turns", "calls"],
        postgresql_where=IS_WHOLE,
        sqlite_where=IS_WHOLE,
    )
    ddl.drop_index("ix_turntrace_rollup_people", "turntrace_rollup")
    _forget()
    op.execute(_summed())


def downgrade() -> None:
    _forget()
    ddl.create_index(
        "ix_turntrace_rollup_people",
        "turntrace_rollup",
        ["dimension", "at_us", "value", "environment"],
        postgresql_where=OF_PEOPLE,
        sqlite_where=OF_PEOPLE,
    )
    ddl.drop_index("ix_turntrace_rollup_whole", "turntrace_rollup")


def _rollup() -> sa.TableClause:
    names = ("grain", "at_us", "dimension", "value", "model", "provider", "feature", "environment", "price_version")
    return sa.table("turntrace_rollup", *map(sa.column, ("is_compacted", *names, "tier", *_SUMS, *_OF_TURNS)))


def _forget() -> None:
    rollup = _rollup()
    op.execute(sa.delete(rollup).where(rollup.c.grain == WHOLE))


def _summed() -> sa.Insert:
    """What the compactor has merged: it adds the rest itself."""
    r = _rollup().c
    key = (r.at_us, r.dimension, r.value, r.environment)
    empty = ("model", "provider", "feature", "price_version", "tier")
    columns = {
        "is_compacted": sa.true(),
        "grain": sa.literal(WHOLE),
        **{column.name: column for column in key},
        **{name: sa.literal("") for name in empty},
        **{name: sa.func.sum(r[name]) for name in _SUMS},
        **{name: sa.func.sum(sa.case((r.model == "", r[name]), else_=0)) for name in _OF_TURNS},
    }
    of_people = (r.dimension.in_(("user", "session")), r.grain == "day", r.is_compacted == sa.true())
    found = sa.select(*columns.values()).where(*of_people).group_by(*key)
    return sa.insert(_rollup()).from_select(list(columns), found)
