"""Content of an environment in a database of its own: blobs there that no row points to.

Revision: 0011. Before it: 0010.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.types import TypeEngine

from turntrace.errors import TurntraceError
from turntrace.storage import ddl

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STORE = 2  # codec of a pointer to a store
OPTIONS: dict[str, Any] = {
    f"{name}_{key}": value
    for name in ("mysql", "mariadb")
    for key, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def fixed(length: int) -> TypeEngine[str]:
    """Machine-made text, compared byte by byte."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    ddl.create_table(
        "turntrace_stray",
        sa.Column("blob_id", fixed(32), primary_key=True, nullable=False),
        sa.Column("store", fixed(40), nullable=False),
        sa.Column("turn_id", fixed(32), nullable=False),
        sa.Column("is_staged", sa.Boolean(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        **OPTIONS,
    )
    ddl.create_index("ix_turntrace_stray_turn", "turntrace_stray", ["turn_id"])
    ddl.create_index("ix_turntrace_stray_store", "turntrace_stray", ["is_staged", "store", "blob_id"])


def downgrade() -> None:
    # Who drops everything drops the stores, too. Else nobody would know any more what is in them.
    if not context.is_offline_mode() and not context.config.attributes.get("is_dropping_all"):
        _refuse_where_stores_are_used()
    ddl.drop_table("turntrace_stray")


def _refuse_where_stores_are_used() -> None:
    for name, where in (("turntrace_stray", sa.true()), ("turntrace_content", sa.column("codec") == STORE)):
        if not ddl.has_table(name, otherwise=True):
            continue  # dropped, before it broke off
        if op.get_bind().execute(sa.select(sa.literal(1)).select_from(sa.table(name)).where(where).limit(1)).first():
            raise TurntraceError(f"{name} has rows of content in databases of content_urls: 0010 would forget it there")
