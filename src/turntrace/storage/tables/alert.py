"""Alert rules, their breaches, and probes."""

from typing import Final

from sqlalchemy import Double, String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    Flag,
    Instant,
    LongText,
    Row,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class AlertRuleRow(Row, table=True):
    """A condition on a metric; `definition` is JSON as in `POST /alert-rules`, `sealed` holds credentials."""

    __table_args__ = options(index("alert_rule_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    definition: str = column(LongText)
    sealed: str | None = optional(LongText)
    is_enabled: bool = column(Flag)
    silenced_until_us: int | None = optional(Instant)
    checked_at_us: int | None = optional(Instant)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class AlertRow(Row, table=True):
    """One breach of a rule, open until the metric recovers or somebody resolves it."""

    __table_args__ = options(
        index("alert_rule_opened", "rule_id", "opened_at_us"),
        index("alert_status", "status", "opened_at_us"),
    )

    id: str = column(fixed(32), primary_key=True)
    rule_id: str = column(fixed(32))
    status: str = column(Word)  # open, acknowledged, resolved
    value: float | None = optional(Double)
    threshold: float | None = optional(Double)
    details: str | None = optional(LongText)  # JSON: group, window, example turn ids
    turn_id: str | None = optional(TurnId)  # an example
    user_id: str | None = optional(String(length.USER_ID))
    opened_at_us: int = column(Instant)
    closed_at_us: int | None = optional(Instant)
    notified_at_us: int | None = optional(Instant)
    acknowledged_by: str | None = optional(String(length.NAME))


class ProbeRow(Row, table=True):
    """A synthetic turn on a timer; `definition` is JSON as in `POST /probes`."""

    __table_args__ = options(index("probe_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    definition: str = column(LongText)
    sealed: str | None = optional(LongText)
    is_enabled: bool = column(Flag)
    last_status: str | None = optional(Word)
    last_turn_id: str | None = optional(TurnId)
    last_run_at_us: int | None = optional(Instant)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


alert_rule: Final = table(AlertRuleRow)
alert: Final = table(AlertRow)
probe: Final = table(ProbeRow)
