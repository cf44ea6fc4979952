"""Budgets: what may be spent, what is spent of it now, and the forms of people who may change them."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.panel.gate.role import Role
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.panel.wording import iso
from turntrace.records.budget import Budget, Spending, renews_at_us, starts_at_us
from turntrace.storage import budgets

SCOPES: Final = {
    "application": "The whole application",
    "user": "Users",
    "tenant": "Tenants (tag tenant:…)",
    "feature": "Features",
    "route": "Routes",
    "key": "Keys (tag key:…)",
}
WHOM: Final = {"application": "all calls of the application"}
PERIODS: Final = {"hour": "hour", "day": "day", "month": "calendar month"}
ACTIONS: Final = {
    "refuse": "Refuse the call",
    "downgrade": "Use a cheaper model",
    "alert": "Alert",
    "observe": "Only observe",
}
DONE: Final = {
    "saved": "The budget is saved. Every process follows it within 2 seconds.",
    "removed": "The budget and its counters are removed.",
    "freed": "What processes held in advance is given back.",
}
SHOWN_ACCOUNTS: Final = 8
# Where the turns of an account are: the filter of the trace list, by scope.
_FILTERS: Final = {"user": "user_id", "feature": "feature", "route": "route"}
_TAGGED: Final = ("tenant", "key")
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One account of a budget: whose, where its turns are, and how full it is (per cent of the limit)."""

    label: str
    href: str
    spending: Spending
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One budget with its fullest accounts of the present period."""

    budget: Budget
    whom: str
    renews_at_us: int
    lines: list[Line]


def show(request: Request) -> Response:
    """`GET /budgets`."""
    visit = visit_of(request)
    now_us = visit.now_us
    with visit.context.database.read() as connection:
        rules = budgets.list_rules(connection)
        periods = [(rule.id, starts_at_us(rule.period, now_us)) for rule in rules]
        found = budgets.list_spending(connection, periods, limit=SHOWN_ACCOUNTS)
    visit.message = DONE.get(request.query_params.get("done", ""))
    return visit.render(
        "budgets.html",
        section="budgets",
        title="Budgets",
        cards=[_card(visit, rule, found[rule.id], now_us) for rule in rules],
        actions=ACTIONS,
        periods=PERIODS,
        may_change=visit.viewer.may(Role.OPERATOR),
    )


def _card(visit: Visit, rule: Budget, accounts: list[Spending], now_us: int) -> Card:
    return Card(
        budget=rule,
        whom=f"{rule.scope} {rule.value}" if rule.value else WHOM.get(rule.scope, f"each {rule.scope}"),
        renews_at_us=renews_at_us(rule.period, now_us),
        lines=[_line(visit, rule, each) for each in accounts],
    )


def _line(visit: Visit, rule: Budget, account: Spending) -> Line:
    named = {"from_": iso(account.period_at_us)}
    if rule.scope in _TAGGED:
        named["tag"] = f"{rule.scope}:{account.value}"
    elif rule.scope in _FILTERS:
        named[_FILTERS[rule.scope]] = account.value
    return Line(
        label=account.value or "all calls",
        href=visit.address.to("traces", **named),
        spending=account,
        percent=round(100 * account.spent_nano / rule.limit_nano) if rule.limit_nano else 100,
    )


def form(request: Request) -> Response:
    """`GET /budgets/edit`: a new budget, or the one that `id` names."""
    visit = _operator(request)
    budget_id = request.query_params.get("id", "")
    values: Mapping[str, str] = {"action": "refuse", "scope": "user", "period": "day", "is_enabled": "1"}
    if budget_id:
        with visit.context.database.read() as connection:
            values = _values(budgets.get(connection, budget_id))
    return _form(visit, values)


def save(request: Request) -> Response:
    """`POST /budgets/save`: the fields of the form."""
    visit = _operator(request)
    try:
        visit.context.database.transact(_store, visit, _budget(visit.form))
    except InvalidInput as error:
        return _form(visit, visit.form, error=str(error), code=400)
    return visit.back_to("budgets", done="saved")


def remove(request: Request) -> Response:
    """`POST /budgets/remove`: field `id`."""
    visit = _operator(request)
    visit.context.database.transact(_remove, visit, visit.form.get("id", ""))
    return visit.back_to("budgets", done="removed")


def free(request: Request) -> Response:
    """`POST /budgets/free`: field `id`; gives back what processes that died still hold."""
    visit = _operator(request)
    visit.context.database.transact(_free, visit, visit.form.get("id", ""))
    return visit.back_to("budgets", done="freed")


def _operator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.viewer.may(Role.OPERATOR):
        raise HTTPException(403)
    return visit


def _form(visit: Visit, values: Mapping[str, str], *, error: str | None = None, code: int = 200) -> Response:
    return visit.render(
        "budget.html",
        code=code,
        section="budgets",
        title="Budget",
        values=values,
        error=error,
        scopes=SCOPES,
        periods=PERIODS,
        actions=ACTIONS,
    )


def _values(budget: Budget) -> dict[str, str]:
    return {
        "id": budget.id,
        "name": budget.name,
        "scope": budget.scope,
        "value": budget.value,
        "period": budget.period,
        "limit": f"{Decimal(budget.limit_nano).scaleb(-9).normalize():f}",
        "action": budget.action,
        "downgrade_to": budget.downgrade_to or "",
        "is_enabled": "1" if budget.is_enabled else "",
    }


def _budget(form: Mapping[str, str]) -> Budget:
    try:
        limit = Decimal(form.get("limit", "").strip())
    except InvalidOperation:
        raise InvalidInput("limit: expected US dollars such as 5 or 0.25", field="limit") from None
    if not limit.is_finite() or not 0 <= limit <= 1_000_000_000:
        raise InvalidInput("limit: expected 0 to 1000000000 US dollars", field="limit")
    return Budget(
        id=form.get("id", ""),
        name=form.get("name", "").strip(),
        scope=form.get("scope", ""),
        value=form.get("value", "").strip(),
        period=form.get("period", ""),
        limit_nano=int(limit * _NANO),
        action=form.get("action", ""),
        downgrade_to=form.get("downgrade_to", "").strip() or None,
        is_enabled=bool(form.get("is_enabled")),
    )


def _store(connection: Connection, visit: Visit, budget: Budget) -> None:
    if budget.id:
        budgets.get(connection, budget.id)
    made = budgets.put(connection, budget, now_us=visit.now_us)
    details: dict[str, Any] = {"scope": made.scope, "period": made.period, "limit_nano": made.limit_nano}
    noted(connection, visit, "budget.save", made.id, **details, budget_action=made.action, is_enabled=made.is_enabled)


def _remove(connection: Connection, visit: Visit, budget_id: str) -> None:
    if budgets.remove(connection, budget_id):
        noted(connection, visit, "budget.remove", budget_id)


def _free(connection: Connection, visit: Visit, budget_id: str) -> None:
    if budgets.settle_lost(connection, budget_id, now_us=visit.now_us):
        noted(connection, visit, "budget.free", budget_id)
