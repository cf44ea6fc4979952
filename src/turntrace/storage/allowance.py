"""What evaluators may spend in a UTC day: reserved with the claims of runs, settled with their ends."""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, and_, select, update

from turntrace.records.evaluator import Claim, Outcome
from turntrace.storage import bulk, tables
from turntrace.storage.queries import evaluators as queries

DAY_US: Final = 86_400_000_000
UNKNOWN_COST_NANO: Final = 10_000_000  # a cent: what is reserved, and counted, for a run without a known price

# Errors of judges that took no question, or refused it unread: nobody charges for those.
_FREE: Final = frozenset({"address_not_allowed", "unknown_host", "unreachable", "tls", "http_503", "http_529"})
_REFUSED: Final = "http_4"

_b = tables.budget.c
Ending = tuple[Claim, Outcome]


def reserve(connection: Connection, evaluator_id: str, cap: int | None, wanted: int, *, now_us: int) -> tuple[int, int]:
    """Reserve money for as many runs as the rest of today's budget allows.

    Args:
        cap: nano-dollars a day; None: without bound, and nothing is reserved.

    Returns:
        For how many runs, and nano-dollars for each.
    """
    if cap is None:
        return wanted, 0
    # What an owner that died had reserved stays spent: it may have asked.
    each = queries.mean_cost(connection, evaluator_id) or UNKNOWN_COST_NANO
    name, day = _key(evaluator_id, now_us)
    fresh = {"name": name, "day_at_us": day, "cap_nano": cap, "spent_nano": 0, "reserved_nano": 0}
    connection.execute(bulk.insert_missing(connection.dialect.name, tables.budget).values(fresh))
    is_today = and_(_b.name == name, _b.day_at_us == day)
    row = connection.execute(select(_b.spent_nano, _b.reserved_nano).where(is_today).with_for_update()).one()
    rest = cap - row.spent_nano - row.reserved_nano
    runs = max(0, min(wanted, rest // each))
    reserved = row.reserved_nano + runs * each
    connection.execute(update(tables.budget).where(is_today).values(cap_nano=cap, reserved_nano=reserved))
    return int(runs), each


def settle(connection: Connection, endings: Iterable[Ending], *, now_us: int) -> None:
    """What was reserved becomes what was spent; a run without a known price counts as what was reserved for it, unless
    no judge took the question."""
    by_evaluator: dict[str, list[Ending]] = {}
    for claim, outcome in endings:
        if claim.reserved_nano:
            by_evaluator.setdefault(claim.evaluator_id, []).append((claim, outcome))
    for evaluator_id, own in sorted(by_evaluator.items()):
        _settle(connection, evaluator_id, own, now_us)


def _settle(connection: Connection, evaluator_id: str, endings: Sequence[Ending], now_us: int) -> None:
    name, day = _key(evaluator_id, now_us)
    is_today = and_(_b.name == name, _b.day_at_us == day)
    row = connection.execute(select(_b.spent_nano, _b.reserved_nano).where(is_today).with_for_update()).first()
    if row is None:
        return
    spent, reserved = row.spent_nano, row.reserved_nano
    for claim, outcome in endings:
        # Claimed before midnight and ended after it: yesterday's reservation no longer holds anybody back.
        if reserved >= claim.reserved_nano:
            spent, reserved = spent + _spent(claim, outcome), reserved - claim.reserved_nano
    connection.execute(update(tables.budget).where(is_today).values(spent_nano=spent, reserved_nano=reserved))


def _spent(claim: Claim, outcome: Outcome) -> int:
    if outcome.cost_nano is not None:
        return outcome.cost_nano
    return claim.reserved_nano if outcome.judge_turn_id is not None and not _is_free(outcome.error or "") else 0


def _is_free(error: str) -> bool:
    return error in _FREE or error.startswith(_REFUSED)


def _key(evaluator_id: str, now_us: int) -> tuple[str, int]:
    return f"evaluator:{evaluator_id}", now_us - now_us % DAY_US
