"""Puts the budgets of one application together: database, prices, pseudonyms. Imported where the first one is used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from turntrace.errors import BudgetExceeded, BudgetUnavailable
from turntrace.guards.budget import Budgets
from turntrace.guards.refusal import answer, answer_flask, answer_starlette
from turntrace.integrations.pricefile import read_file
from turntrace.jobs.subject import pseudonym
from turntrace.keyring import KeyRing
from turntrace.pipeline.price import Pricer
from turntrace.records.usage import Price
from turntrace.settings import Settings
from turntrace.storage import prices
from turntrace.storage.database import Database


class Prices:
    """Gives the `Pricer` of the own prices in file and database; the same one while they are the same."""

    def __init__(self, settings: Settings) -> None:
        self._from_file: tuple[Price, ...] = read_file(Path(settings.prices_file)) if settings.prices_file else ()
        self._known: tuple[Price, ...] | None = None
        self._pricer = Pricer()

    def __call__(self, connection: Connection) -> Pricer:
        found = (*self._from_file, *prices.list_prices(connection))
        if found != self._known:
            self._known, self._pricer = found, Pricer(found)
        return self._pricer


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
