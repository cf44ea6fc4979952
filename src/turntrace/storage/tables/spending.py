"""Budgets of the host's own model calls: the rules, and what was spent of each in each period."""

from typing import Final

from sqlalchemy import String, Text

from turntrace.storage.tables import length
from turntrace.storage.tables.column import Count, Flag, Instant, Nano, Word, column, fixed, index, optional, table

# Money that may be spent in one period, by everybody or by each value of a dimension.
spending_rule: Final = table(
    "spending_rule",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    column("scope", Word),  # application, user, tenant, feature, route, key
    column("value", String(length.USER_ID)),  # the one it is for; "": each value has a budget of its own
    column("period", Word),  # hour, day, month (UTC)
    column("limit_nano", Nano),
    column("action", Word),  # observe, alert, downgrade, refuse
    optional("downgrade_to", String(length.MODEL)),
    column("is_enabled", Flag),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("spending_rule_name", "name", unique=True),
)

# What one value of a rule has spent in one period, and what processes hold of the rest for their next calls.
spending: Final = table(
    "spending",
    column("rule_id", fixed(32), primary_key=True),
    column("period_at_us", Instant, primary_key=True, autoincrement=False),
    column("value", String(length.USER_ID), primary_key=True),
    optional("user_id", String(length.USER_ID)),  # of the scope user: the subject
    column("spent_nano", Nano),
    column("reserved_nano", Nano),
    column("calls", Count),
    column("refused", Count),
    optional("notified_at_us", Instant),
    column("updated_at_us", Instant),
    optional("grants", Text),  # JSON: process → [what it holds of `reserved_nano`, until when (µs)]
    index("spending_user", "user_id"),
    index("spending_period", "period_at_us"),
    rowid=False,
)
