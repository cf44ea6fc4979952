"""What a list is narrowed by: query parameters to filters, time ranges and removable chips."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from turntrace.errors import InvalidInput
from turntrace.panel.address import Params
from turntrace.records.evaluator import EVALUATION
from turntrace.records.filter import Except, TraceFilter

# Text filters by the name they have in addresses (as in the REST API), with their label on the panel.
TEXTS: Final[Mapping[str, str]] = {
    "status": "Status",
    "feature": "Feature",
    "model": "Model",
    "provider": "Provider",
    "type": "Has a",
    "environment": "Environment",
    "session_id": "Session",
    "user_id": "User",
    "route": "Route",
    "experiment": "Experiment",
    "release": "Release",
    "tag": "Tag",
    "score": "Score",
    "prompt": "Prompt",
    "step": "Step",
    "name": "Name",
    "q": "Search",
}
NUMBERS: Final[Mapping[str, str]] = {"min_duration_ms": "Slower than", "min_cost": "Costlier than"}
RANGES: Final[Mapping[str, timedelta]] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
MAX_TEXT: Final = 500
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One filter in force: its parameter, label and value as shown."""

    name: str
    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Filters as they stand in the address. `range` is a key of `RANGES`, "all" or "custom"."""

    filter: TraceFilter
    chips: tuple[Chip, ...] = ()
    params: Params = ()
    range: str = "all"
    custom: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_narrowed(self) -> bool:
        """Whether any filter besides time is in force."""
        return bool(self.chips)


def narrowing(query: Mapping[str, str], *, now_us: int, default_range: str = "all") -> Narrowing:
    """Read the filters of an address.

    Args:
        query: its parameters; unknown ones are ignored.
        now_us: the time that ranges end at, microseconds since the epoch.
        default_range: where the address names none.

    Raises:
        InvalidInput: a time or number that cannot be read.
    """
    values: dict[str, Any] = {name: query[name][:MAX_TEXT] for name in TEXTS if query.get(name, "").strip()}
    for name in NUMBERS:
        if query.get(name, "").strip():
            values[name] = _number(name, query[name].strip())
    chips = tuple(_chip(name, value) for name, value in values.items())
    times, chosen, custom = _period(query, now_us, default_range)
    params = tuple((name, str(value)) for name, value in values.items())
    kept = (("range", chosen),) if chosen not in (default_range, "custom") else tuple(custom.items())
    # Runs of judges are shown where they are asked for: they are no turns of the application.
    found = {"environment": Except(EVALUATION), **values, **times}
    return Narrowing(filter=TraceFilter(**found), chips=chips, params=(*params, *kept), range=chosen, custom=custom)


def _chip(name: str, value: Any) -> Chip:
    if name == "min_duration_ms":
        return Chip(name=name, label=NUMBERS[name], value=f"{value:g} ms")
    if name == "min_cost":
        return Chip(name=name, label=NUMBERS[name], value=f"${value}")
    return Chip(name=name, label=TEXTS[name], value=value)


def _number(name: str, text: str) -> Decimal | float:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or number > 1_000_000_000:
        raise InvalidInput(f"{name}: expected a number, got {text[:40]!r}", field=name)
    return number if name == "min_cost" else float(number)


def _period(query: Mapping[str, str], now_us: int, default: str) -> tuple[dict[str, int], str, dict[str, str]]:
    custom = {name: query[name].strip() for name in ("from", "to") if query.get(name, "").strip()}
    if custom:
        return {f"{name}_us": instant_us(name, text) for name, text in custom.items()}, "custom", custom
    chosen = query.get("range", default)
    if chosen not in RANGES:
        return {}, "all", {}
    return {"from_us": now_us - RANGES[chosen] // timedelta(microseconds=1)}, chosen, {}


def instant_us(name: str, text: str) -> int:
    """Microseconds since the epoch of an ISO 8601 time; one without a zone is UTC.

    Raises:
        InvalidInput: not a time, or none that turns begin at and periods can be counted back from or rounded up to.
    """
    try:
        at = datetime.fromisoformat(text)
        aware = at if at.tzinfo else at.replace(tzinfo=UTC)
        if not _EARLIEST < aware < _LATEST:
            raise ValueError
    except ValueError:
        raise InvalidInput(f"{name}: expected a time such as 2026-11-21T08:30, got {text[:40]!r}", field=name) from None
    return (aware - _EARLIEST) // timedelta(microseconds=1)
