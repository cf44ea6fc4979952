"""Budgets of the host's own model calls: the rules, and what was spent of each in each period."""

from typing import Final

from sqlalchemy import String, Text

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    Count,
    Flag,
    Instant,
    Nano,
    Row,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class SpendingRuleRow(Row, table=True):
    """Money that may be spent in one period, by everybody or by each value of a dimension."""

    __table_args__ = options(index("spending_rule_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    scope: str = column(Word)  # application, user, tenant, feature, route, key
    value: str = column(String(length.USER_ID))  # the one it is for; "": each value has a budget of its own
    period: str = column(Word)  # hour, day, month (UTC)
    limit_nano: int = column(Nano)
    action: str = column(Word)  # observe, alert, downgrade, refuse
    downgrade_to: str | None = optional(String(length.MODEL))
    is_enabled: bool = column(Flag)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class SpendingRow(Row, table=True):
    """What one value of a rule has spent in one period, and what processes hold of the rest for their next calls."""

    __table_args__ = options(
        index("spending_user", "user_id"),
        index("spending_period", "period_at_us"),
        rowid=False,
    )

    rule_id: str = column(fixed(32), primary_key=True)
    period_at_us: int = column(Instant, primary_key=True, autoincrement=False)
    value: str = column(String(length.USER_ID), primary_key=True)
    user_id: str | None = optional(String(length.USER_ID))  # of the scope user: the subject
    spent_nano: int = column(Nano)
    reserved_nano: int = column(Nano)
    calls: int = column(Count)
    refused: int = column(Count)
    notified_at_us: int | None = optional(Instant)
    updated_at_us: int = column(Instant)
    grants: str | None = optional(Text)  # JSON: process → [what it holds of `reserved_nano`, until when (µs)]


spending_rule: Final = table(SpendingRuleRow)
spending: Final = table(SpendingRow)
