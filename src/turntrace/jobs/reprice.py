"""Prices a span of history anew: first a preview, then, when somebody wants it, the change. Safe to stop anywhere."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import InvalidInput
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.price import Pricer
from turntrace.records.fragment import RawSpan
from turntrace.records.observation import Observation
from turntrace.records.usage import Cost, Usage
from turntrace.storage import leases, reprice, rollups
from turntrace.storage.bulk import Values
from turntrace.storage.database import Database
from turntrace.storage.reprice import Change, Preview

DAY_US: Final = 86_400_000_000
READ: Final = 2000
BATCH: Final = 200
GUEST_BATCH: Final = 10  # a host's SQLite file is not locked for long
APPENDED: Final = 1000
LEASE: Final = "reprice"
LEASE_US: Final = 300_000_000  # sums of a large span take a while to read; whoever died is waited for so long
_NO_SPAN: Final = "0" * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Whole days (UTC), `from_us` ≤ start of the call < `to_us`, and the one model, or all.

    Raises:
        InvalidInput: not whole days, or none.
    """

    from_us: int
    to_us: int
    model: str | None = None

    def __post_init__(self) -> None:
        if self.from_us % DAY_US or self.to_us % DAY_US or self.from_us >= self.to_us:
            raise InvalidInput("a span of history is one whole day (UTC) or more", field="from")


@dataclass(slots=True)
class Report:
    """What is, or would be, changed.

    `rest` holds what is known by its sums only (sampled out, or its rows are gone): an estimate. `is_whole` is False
    where a preview stopped at its limit.
    """

    models: dict[str, Change] = field(default_factory=dict)
    rest: dict[str, Change] = field(default_factory=dict)
    changed: int = 0
    is_whole: bool = True


def price_of(pricer: Pricer, observation: Observation) -> Cost | None:
    """What a stored call costs at the prices of now, effective at its start."""
    draft = Draft(
        span=RawSpan(span_id=observation.span_id),
        type=observation.type,
        model=observation.model,
        model_requested=observation.model_requested,
        provider=observation.provider,
        service_tier=observation.service_tier,
        usage=observation.usage,
        started_at_us=observation.started_at_us,
    )
    pricer.price(draft)
    return draft.cost


def preview(database: Database, pricer: Pricer, span: Span, *, most: int | None = None) -> Report:
    """What re-pricing would change. Reads only.

    Args:
        most: calls looked at, the oldest first.
    """
    found, looked_at = Preview(), 0
    for calls in _calls(database, span):
        for call in calls:
            found.add(call, price_of(pricer, call))
        looked_at += len(calls)
        if most is not None and looked_at >= most:
            return Report(models=found.models, is_whole=False)
    changed = sum(change.changed for change in found.models.values())
    return Report(models=found.models, rest=_rest(database, pricer, span, found), changed=changed)


def apply(
    database: Database, pricer: Pricer, span: Span, *, tell: Callable[[int], None] = lambda calls: None
) -> Report:
    """Price anew what is stored, then what only roll-ups hold. A second run changes nothing.

    Args:
        tell: told the number of calls looked at so far.

    Raises:
        InvalidInput: another process does it: two at once would move the same sums twice.
    """
    lease = database.transact(_acquire, leases.new_owner())
    try:
        return _apply_held(database, pricer, span, tell, lease)
    finally:
        database.transact(leases.release, lease)


def _acquire(connection: Connection, owner: str) -> leases.Lease:
    lease = leases.acquire(connection, LEASE, owner, ttl_us=LEASE_US)
    if lease is None:
        raise InvalidInput("history is being re-priced by another process: wait until that is done")
    return lease


def _apply_held(
    database: Database, pricer: Pricer, span: Span, tell: Callable[[int], None], lease: leases.Lease
) -> Report:
    report, seen = Report(), 0
    size = GUEST_BATCH if database.is_guest else BATCH
    for calls in _calls(database, span):
        wanted = [call for call in calls if not reprice.same(call.cost, price_of(pricer, call))]
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            report.changed += database.transact(_apply, part, pricer)
        seen += len(calls)
        tell(seen)
        database.transact(_acquire, lease.owner)
    _apply_rest(database, pricer, span, database.transact(_acquire, lease.owner))
    return report


def _apply(connection: Connection, calls: list[Observation], pricer: Pricer) -> int:
    return reprice.apply(connection, calls, lambda call: price_of(pricer, call), now_us=time.time_ns() // 1000)


def _calls(database: Database, span: Span) -> Iterator[list[Observation]]:
    after: reprice.Place | None = None
    while True:
        with database.read() as connection:
            found = reprice.calls(
                connection, from_us=span.from_us, to_us=span.to_us, model=span.model, after=after, limit=READ
            )
        if found:
            yield found
        if len(found) < READ:
            return
        after = reprice.place_of(found[-1])


def _price_sums(pricer: Pricer) -> reprice.PriceSums:
    def price(model: str, provider: str, usage: Usage, at_us: int, tier: str) -> Cost | None:
        draft = Draft(
            span=RawSpan(span_id=_NO_SPAN),
            type="generation",
            model=None if model == rollups.UNKNOWN_MODEL else model,
            provider=provider or None,
            service_tier=tier or None,
            usage=usage,
            started_at_us=at_us,
        )
        pricer.price(draft)
        return draft.cost

    return price


def _rest(database: Database, pricer: Pricer, span: Span, stored: Preview) -> dict[str, Change]:
    """What the sums would change by, beyond the calls that are stored."""
    price = _price_sums(pricer)
    found: dict[str, Change] = {}
    with database.read() as connection:
        for row in reprice.rest(connection, from_us=span.from_us, to_us=span.to_us, model=span.model):
            if row["dimension"] or row["grain"] != "hour":
                continue
            cost = reprice.estimated(row, price)
            if cost is None:
                continue
            change = found.setdefault(row["model"], Change())
            change.calls += row["calls"]
            change.before_nano += row["cost_total_nano"]
            change.after_nano += cost.total_nano
    for model, known in stored.models.items():
        if model in found:
            found[model].calls -= known.changed
            found[model].before_nano -= known.changed_before_nano
            found[model].after_nano -= known.changed_after_nano
    return {model: change for model, change in found.items() if change.calls > 0}


def _apply_rest(database: Database, pricer: Pricer, span: Span, lease: leases.Lease) -> None:
    """Move sums that no stored call stands for any more: those of stored calls moved with their rows."""
    price = _price_sums(pricer)
    rows: list[Values] = []
    with database.read() as connection:
        for row in reprice.rest(connection, from_us=span.from_us, to_us=span.to_us, model=span.model):
            cost = reprice.estimated(row, price)
            if cost is not None:
                rows += reprice.moved(row, cost)
    # Two rows a key, both or neither: what is taken back is there anew.
    for start in range(0, len(rows), APPENDED):
        database.transact(_append, lease, rows[start : start + APPENDED])


def _append(connection: Connection, lease: leases.Lease, rows: list[Values]) -> None:
    if not leases.renew(connection, lease, ttl_us=LEASE_US):
        raise InvalidInput("history is being re-priced by another process, which took over: look at its result")
    reprice.append(connection, rows)
