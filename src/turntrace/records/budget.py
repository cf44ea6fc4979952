"""Budgets: money that may be spent in one period, by everybody or by each value of a dimension."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

SCOPES: Final = ("application", "user", "tenant", "feature", "route", "key")
PERIODS: Final = ("hour", "day", "month")
ACTIONS: Final = ("observe", "alert", "downgrade", "refuse")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A rule. `value` names the one user, tenant, … it is for; "" gives each of them a budget of its own."""

    id: str
    name: str
    scope: str
    value: str = ""
    period: str = "day"
    limit_nano: int = 0
    action: str = "refuse"
    downgrade_to: str | None = None
    is_enabled: bool = True
    created_at_us: int = 0
    updated_at_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What one value of a budget has spent in one period; `reserved_nano` is held by processes for their calls."""

    budget_id: str
    value: str
    period_at_us: int
    spent_nano: int = 0
    reserved_nano: int = 0
    calls: int = 0
    refused: int = 0
    notified_at_us: int | None = None


def starts_at_us(period: str, at_us: int) -> int:
    """The start of the hour, day or calendar month (UTC) that an instant lies in."""
    if period == "hour":
        return at_us - at_us % _HOUR_US
    if period == "day":
        return at_us - at_us % _DAY_US
    first = (_EPOCH + timedelta(microseconds=at_us)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first - _EPOCH) // timedelta(microseconds=1)


def renews_at_us(period: str, at_us: int) -> int:
    """The start of the period after the one that an instant lies in."""
    start = starts_at_us(period, at_us)
    if period == "hour":
        return start + _HOUR_US
    if period == "day":
        return start + _DAY_US
    return starts_at_us("month", start + 32 * _DAY_US)
