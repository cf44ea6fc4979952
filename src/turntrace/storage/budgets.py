"""Budgets in the database: the rules, and the counters that all processes of the application share.

What a process may spend is granted to it here, before it spends it: `spent + reserved` of an account never exceeds its
limit by a grant. What a call then costs beyond its reservation is the only way past the limit, and what a process that
died had spent and not told: its grant comes back when its lease has run out, by the clock of the database.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.records.budget import ACTIONS, PERIODS, SCOPES, Budget, Spending
from turntrace.records.filter import TraceFilter
from turntrace.storage import bulk, leases, tables
from turntrace.storage.queries import costs

MAX_LIMIT_NANO: Final = 1_000_000_000 * 1_000_000_000
MAX_RULES: Final = 500
_rule: Final = tables.spending_rule.c
_s: Final = tables.spending.c
# The filter of the cost roll-ups that a scope's value goes into; hours are not kept of users.
_COUNTED: Final = {"user": "user_id", "feature": "feature", "route": "route", "tenant": "tag", "key": "tag"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a process tells of one account, and what it asks for. Nano-dollars.

    `spend` was spent since it last told; `release` of what it holds is given back or was used up by that; `need` is the
    least it must have more, `wish` what it would like to have at the most (both 0: nothing). `holder` is the process,
    which has what it is granted for `lease_us` from now on.
    """

    budget_id: str
    value: str
    period_at_us: int
    holder: str = ""
    lease_us: int = 60_000_000
    user_id: str | None = None
    spend: int = 0
    release: int = 0
    need: int = 0
    wish: int = 0
    calls: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer to a change: what was granted, what the process holds now, and the account after it.

    `is_breached`: it reached its limit now.
    """

    granted: int
    held: int
    spent: int
    reserved: int
    is_breached: bool = False


# --- rules ----------------------------------------------------------------------------------------------------------


def put(connection: Connection, budget: Budget, *, now_us: int) -> Budget:
    """Store a budget, by its id or, without one, as a new one.

    Raises:
        InvalidInput: a field is unusable, the name is taken, or there are too many.
    """
    _check(budget)
    clash = select(_rule.id).where(_rule.name == budget.name, _rule.id != budget.id)
    if connection.execute(clash).first() is not None:
        raise InvalidInput(f"name: there is a budget named {budget.name!r} already", field="name")
    known = connection.execute(select(_rule.created_at_us).where(_rule.id == budget.id)).scalar()
    if known is None and connection.execute(select(func.count()).select_from(tables.spending_rule)).scalar_one() >= (
        MAX_RULES
    ):
        raise InvalidInput(f"there are {MAX_RULES} budgets already: remove some")
    made = replace(budget, id=budget.id or uuid.uuid4().hex, created_at_us=known or now_us, updated_at_us=now_us)
    values = {column.name: getattr(made, column.name) for column in tables.spending_rule.c}
    if known is None:
        connection.execute(tables.spending_rule.insert().values(values))
    else:
        connection.execute(update(tables.spending_rule).where(_rule.id == made.id).values(values))
    return made


def _check(budget: Budget) -> None:
    for field, allowed in (("scope", SCOPES), ("period", PERIODS), ("action", ACTIONS)):
        if getattr(budget, field) not in allowed:
            raise InvalidInput(f"{field}: expected one of {', '.join(allowed)}", field=field)
    if not 1 <= len(budget.name.strip()) <= 100:
        raise InvalidInput("name: expected 1 to 100 characters", field="name")
    if len(budget.value) > 200 or "\0" in budget.value + budget.name:
        raise InvalidInput("value: expected at most 200 characters", field="value")
    if budget.scope == "application" and budget.value:
        raise InvalidInput("value: the application has none", field="value")
    if not 0 <= budget.limit_nano <= MAX_LIMIT_NANO:
        raise InvalidInput("limit: expected 0 to 1000000000 US dollars", field="limit")
    if budget.downgrade_to is not None and (budget.action != "downgrade" or len(budget.downgrade_to) > 200):
        raise InvalidInput("downgrade_to: the model to use instead, with the action downgrade", field="downgrade_to")


def list_rules(connection: Connection) -> tuple[Budget, ...]:
    """All budgets by name."""
    rows = connection.execute(select(tables.spending_rule).order_by(_rule.name)).mappings()
    return tuple(_budget(row) for row in rows)


def get(connection: Connection, budget_id: str) -> Budget:
    """One budget.

    Raises:
        NotFound: there is none with this id.
    """
    row = connection.execute(select(tables.spending_rule).where(_rule.id == budget_id)).mappings().first()
    if row is None:
        raise NotFound("there is no such budget")
    return _budget(row)


def remove(connection: Connection, budget_id: str) -> bool:
    """Remove a budget and its counters; False where there is none."""
    connection.execute(delete(tables.spending).where(_s.rule_id == budget_id))
    return bool(connection.execute(delete(tables.spending_rule).where(_rule.id == budget_id)).rowcount)


def _budget(row: Any) -> Budget:
    return Budget(**{**row, "is_enabled": bool(row["is_enabled"])})


# --- accounts -------------------------------------------------------------------------------------------------------


def exchange(connection: Connection, changes: Sequence[Change], *, now_us: int) -> list[Outcome]:
    """Tell and ask for several accounts in one transaction; the answers in the order of `changes`."""
    rules = {rule.id: rule for rule in list_rules(connection)}
    found: dict[tuple[str, int, str], Outcome] = {}
    # In one order for all processes: none waits for another that waits for it.
    for change in sorted(changes, key=_key):
        rule = rules.get(change.budget_id)
        found[_key(change)] = (
            Outcome(granted=0, held=0, spent=0, reserved=0)
            if rule is None
            else _apply(connection, rule, change, now_us)
        )
    return [found[_key(change)] for change in changes]


def _key(change: Change) -> tuple[str, int, str]:
    return change.budget_id, change.period_at_us, change.value


def _apply(connection: Connection, rule: Budget, change: Change, now_us: int) -> Outcome:
    where = (_s.rule_id == rule.id, _s.period_at_us == change.period_at_us, _s.value == change.value)
    clock = leases.now_us(connection.dialect.name).label("clock")
    wanted = select(tables.spending, clock).where(*where).with_for_update()
    row = connection.execute(wanted).first()
    if row is None:
        _open(connection, rule, change, now_us)
        row = connection.execute(wanted).one()
    grants = _Grants(row.grants, row.clock)
    spent = row.spent_nano + change.spend
    released = grants.release(change) + grants.take_lapsed(but=change.holder)
    reserved = max(0, row.reserved_nano - released)
    granted = _grant(rule.limit_nano - spent - reserved, change)
    held = grants.give(change, granted)
    is_breached = row.notified_at_us is None and spent >= rule.limit_nano and rule.is_enabled
    values = {
        "spent_nano": spent,
        "reserved_nano": reserved + granted,
        "calls": row.calls + change.calls,
        "refused": row.refused + change.refused,
        "updated_at_us": now_us,
        "grants": grants.text,
        **({"notified_at_us": now_us} if is_breached else {}),
    }
    connection.execute(update(tables.spending).where(*where).values(values))
    return Outcome(granted=granted, held=held, spent=spent, reserved=reserved + granted, is_breached=is_breached)


class _Grants:
    """Which process holds what of an account: JSON of process → [nano-dollars, until when by the database's clock]."""

    def __init__(self, text: str | None, now_us: int) -> None:
        self._held: dict[str, list[int]] = json.loads(text) if text else {}
        self._now_us = now_us

    @property
    def text(self) -> str | None:
        """As it is stored."""
        return json.dumps(self._held, separators=(",", ":")) if self._held else None

    def release(self, change: Change) -> int:
        """What a process gives back of what it holds: nothing of what was taken from it when its lease had run out."""
        own = self._held.get(change.holder)
        if own is None:
            return 0
        released = min(change.release, own[0])
        own[0] -= released
        return released

    def take_lapsed(self, *, but: str) -> int:
        """What processes held that have not been heard of."""
        lapsed = [name for name, (_, until_us) in self._held.items() if until_us < self._now_us and name != but]
        return sum(self._held.pop(name)[0] for name in lapsed)

    def give(self, change: Change, granted: int) -> int:
        """Add a grant and prolong the lease; answers what the process holds now."""
        held = self._held.pop(change.holder, [0])[0] + granted
        if held:
            self._held[change.holder] = [held, self._now_us + change.lease_us]
        return held


def _grant(room: int, change: Change) -> int:
    """The whole wish while there is plenty, less and less towards the end, so that little lies idle elsewhere."""
    if room <= 0 or change.wish <= 0:
        return 0
    return min(change.wish, max(min(change.need, room), room // 4))


def _open(connection: Connection, rule: Budget, change: Change, now_us: int) -> None:
    """A new account begins with what the roll-ups know: a budget made at noon counts the morning, too."""
    statement = bulk.insert_missing(connection.dialect.name, tables.spending)
    connection.execute(
        statement.values(
            rule_id=rule.id,
            period_at_us=change.period_at_us,
            value=change.value,
            user_id=change.user_id,
            spent_nano=_known_spending(connection, rule, change),
            reserved_nano=0,
            calls=0,
            refused=0,
            updated_at_us=now_us,
        )
    )


def _known_spending(connection: Connection, rule: Budget, change: Change) -> int:
    """Nano-dollars of this period in the roll-ups; 0 where they do not keep the scope."""
    if rule.scope == "user" and rule.period == "hour":
        return 0
    named: dict[str, Any] = {}
    if rule.scope != "application":
        is_tag = rule.scope in ("tenant", "key")
        named[_COUNTED[rule.scope]] = f"{rule.scope}:{change.value}" if is_tag else change.value
    rows = costs.costs(connection, filter=TraceFilter(from_us=change.period_at_us, **named))
    return (rows[0].cost_total_nano or 0) if rows else 0


def list_spending(
    connection: Connection, periods: Iterable[tuple[str, int]], *, limit: int = 20
) -> dict[str, list[Spending]]:
    """The accounts of some budgets in one period each, the fullest first, `limit` of each.

    Args:
        periods: ids of budgets with the start of the period.
    """
    return {budget_id: _accounts(connection, budget_id, period_at_us, limit) for budget_id, period_at_us in periods}


def _accounts(connection: Connection, budget_id: str, period_at_us: int, limit: int) -> list[Spending]:
    wanted = select(tables.spending).where(_s.rule_id == budget_id, _s.period_at_us == period_at_us)
    return [
        Spending(
            budget_id=row.rule_id,
            value=row.value,
            period_at_us=row.period_at_us,
            spent_nano=row.spent_nano,
            reserved_nano=row.reserved_nano,
            calls=row.calls,
            refused=row.refused,
            notified_at_us=row.notified_at_us,
        )
        for row in connection.execute(wanted.order_by(_s.spent_nano.desc(), _s.value).limit(limit))
    ]


def settle_lost(connection: Connection, budget_id: str, *, now_us: int) -> int:
    """Give back what processes that died hold of a budget; living ones ask anew. Answers the number of accounts.

    A reservation of a living process is forgotten, too: calls that are under way then may exceed the limit.
    """
    held = (_s.rule_id == budget_id, _s.reserved_nano > 0)
    statement = update(tables.spending).where(*held).values(reserved_nano=0, grants=None, updated_at_us=now_us)
    return int(connection.execute(statement).rowcount)


def prune(connection: Connection, *, before_us: int) -> int:
    """Forget accounts of periods that began before an instant; answers how many."""
    return int(connection.execute(delete(tables.spending).where(_s.period_at_us < before_us)).rowcount)
