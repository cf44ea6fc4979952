"""`/budgets`: what may be spent, and what is spent of it now."""

import time as clock
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.api.answer import money, time
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.schema import Schema, boolean, integer, listing, moment, nullable, record, text
from turntrace.api.schema import money as money_schema
from turntrace.errors import NotFound
from turntrace.records.budget import ACTIONS, PERIODS, SCOPES, Budget, Spending, renews_at_us, starts_at_us
from turntrace.storage import audit, budgets

_LIMIT: Final = text("US dollars, exact", pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")
BODY: Final[Schema] = record(
    {
        "id": text("of the budget to change; none: a new one", maxLength=32),
        "name": text(minLength=1, maxLength=100),
        "scope": text(enum=list(SCOPES)),
        "value": text("the one user, tenant, … it is for; none: each has a budget of its own", maxLength=200),
        "period": text("in UTC", enum=list(PERIODS)),
        "limit": _LIMIT,
        "action": text("when it is used up", enum=list(ACTIONS)),
        "downgrade_to": text("the cheaper model, with the action downgrade", maxLength=200),
        "is_enabled": boolean(),
    },
    required=("name", "scope", "period", "limit", "action"),
)
_ACCOUNT: Final = record(
    {
        "value": text(),
        "spent": money_schema(),
        "reserved": money_schema("held by processes for their next calls"),
        "calls": integer(),
        "refused": integer(),
    }
)
BUDGET: Final = record(
    {
        "id": text(),
        "name": text(),
        "scope": text(),
        "value": nullable(text()),
        "period": text(),
        "limit": money_schema(),
        "action": text(),
        "downgrade_to": nullable(text()),
        "is_enabled": boolean(),
        "renews_at": moment(),
        "accounts": listing(_ACCOUNT, "the fullest of this period, 100 at the most"),
    }
)
SHOWN: Final = 100


async def _list(call: Call) -> Answer:
    data = await call.read(_all)
    return Answer({"data": data, "next_cursor": None})


def _all(c: Connection) -> list[dict[str, Any]]:
    now_us = clock.time_ns() // 1000
    rules = budgets.list_rules(c)
    periods = [(rule.id, starts_at_us(rule.period, now_us)) for rule in rules]
    found = budgets.list_spending(c, periods, limit=SHOWN)
    return [_shape(rule, found[rule.id], now_us) for rule in rules]


def _shape(rule: Budget, accounts: Sequence[Spending], now_us: int) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "scope": rule.scope,
        "value": rule.value or None,
        "period": rule.period,
        "limit": money(rule.limit_nano),
        "action": rule.action,
        "downgrade_to": rule.downgrade_to,
        "is_enabled": rule.is_enabled,
        "renews_at": time(renews_at_us(rule.period, now_us)),
        "accounts": [
            {
                "value": each.value,
                "spent": money(each.spent_nano),
                "reserved": money(each.reserved_nano),
                "calls": each.calls,
                "refused": each.refused,
            }
            for each in accounts
        ],
    }


async def _put(call: Call) -> Answer:
    body = await call.body()
    budget = _budget(body)
    actor = f"key {call.principal.name}" if call.principal else "api"
    made = await call.run(call.context.database.transact, _store, budget, actor)
    return Answer(_shape(made, (), clock.time_ns() // 1000), 200 if budget.id else 201)


def _budget(body: Mapping[str, Any]) -> Budget:
    return Budget(
        id=body.get("id", ""),
        name=body["name"].strip(),
        scope=body["scope"],
        value=body.get("value", "").strip(),
        period=body["period"],
        limit_nano=int(Decimal(body["limit"]).scaleb(9)),
        action=body["action"],
        downgrade_to=body.get("downgrade_to") or None,
        is_enabled=body.get("is_enabled", True),
    )


def _store(c: Connection, budget: Budget, actor: str) -> Budget:
    if budget.id:
        budgets.get(c, budget.id)
    now_us = clock.time_ns() // 1000
    made = budgets.put(c, budget, now_us=now_us)
    details = {"scope": made.scope, "limit_nano": made.limit_nano, "budget_action": made.action}
    audit.append(c, actor=actor, action="budget.save", target=made.id, details=details, now_us=now_us)
    return made


async def _remove(call: Call) -> Answer:
    budget_id = call.request.path_params["budget_id"]
    actor = f"key {call.principal.name}" if call.principal else "api"
    await call.run(call.context.database.transact, _delete, budget_id, actor)
    return Answer({"id": budget_id})


def _delete(c: Connection, budget_id: str, actor: str) -> None:
    if not budgets.remove(c, budget_id):
        raise NotFound("there is no such budget")
    audit.append(c, actor=actor, action="budget.remove", target=budget_id, now_us=clock.time_ns() // 1000)


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/budgets",
        name="listBudgets",
        summary="Budgets with the fullest accounts of their present period",
        handle=_list,
        answers={200: ("all of them", record({"data": listing(BUDGET), "next_cursor": nullable(text())}))},
    ),
    Endpoint(
        method="POST",
        path="/budgets",
        name="putBudget",
        summary="Make a budget, or change the one that `id` names; processes follow it within 2 seconds",
        handle=_put,
        scopes=("admin",),
        body=BODY,
        answers={200: ("changed", BUDGET), 201: ("made", BUDGET)},
    ),
    Endpoint(
        method="DELETE",
        path="/budgets/{budget_id}",
        name="deleteBudget",
        summary="Remove a budget and its counters",
        handle=_remove,
        scopes=("admin",),
        path_parameters={"budget_id": "id of the budget"},
        answers={200: ("removed", record({"id": text()}))},
    ),
)
