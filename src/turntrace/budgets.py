"""Puts the budgets of one application together: database, prices, pseudonyms. Imported where the first one is used."""

from collections.abc import Callable
from typing import Any

from turntrace.errors import BudgetExceeded, BudgetUnavailable
from turntrace.guards.budget import Budgets
from turntrace.guards.refusal import answer, answer_flask, answer_starlette
from turntrace.integrations.pricefile import Prices
from turntrace.jobs.subject import pseudonym
from turntrace.keyring import KeyRing
from turntrace.settings import Settings
from turntrace.storage.database import Database


def build(settings: Settings, keys: KeyRing | None, engine: Any, on_fault: Callable[[str, Exception], None]) -> Budgets:
    """The budgets of these settings; nothing is connected yet."""
    ring = keys or KeyRing.from_settings(settings, None)
    return Budgets(
        settings,
        lambda: Database(settings.database_url, engine=engine),
        Prices(settings),
        lambda user_id: pseudonym(ring, user_id),
        on_fault,
    )


__all__ = [
    "BudgetExceeded",
    "BudgetUnavailable",
    "Budgets",
    "answer",
    "answer_flask",
    "answer_starlette",
    "build",
]
