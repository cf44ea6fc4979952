"""Re-pricing that somebody asked for by panel or API: noted in the database, done by whoever holds the timer."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import InvalidInput
from turntrace.jobs import reprice
from turntrace.jobs.reprice import Span
from turntrace.pipeline.price import Pricer
from turntrace.storage import switches
from turntrace.storage.database import Database

NAME: Final = "reprice"
WAITING: Final = "waiting"
DONE: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for last, and how far it is: `waiting` or `done`."""

    span: Span
    status: str = WAITING
    author: str | None = None
    asked_at_us: int = 0
    finished_at_us: int | None = None
    looked_at: int = 0
    changed: int = 0


def ask(connection: Connection, span: Span, *, author: str, now_us: int) -> Order:
    """Note what is to be done.

    Raises:
        InvalidInput: something else is still waiting.
    """
    known = last(connection)
    if known is not None and known.status == WAITING:
        raise InvalidInput("history is being re-priced already: wait until that is done")
    made = Order(span=span, author=author, asked_at_us=now_us)
    _put(connection, made, now_us)
    return made


def last(connection: Connection) -> Order | None:
    """The latest order, if there ever was one."""
    text = switches.get(connection, NAME)
    if text is None:
        return None
    values = json.loads(text)
    return Order(**{**values, "span": Span(**values["span"])})


def is_asked(database: Database) -> bool:
    """Whether something waits."""
    with database.read() as connection:
        found = last(connection)
    return found is not None and found.status == WAITING


def run(database: Database, *, open_pricer: Callable[[Connection], Pricer]) -> Mapping[str, int]:
    """Do what waits. After a crash the next run does it again, which changes only what is left.

    Returns:
        Counts: calls looked at, and changed.
    """
    with database.read() as connection:
        order = last(connection)
        pricer = open_pricer(connection)
    if order is None or order.status != WAITING:
        return {"looked_at": 0, "changed": 0}
    seen = [0]
    report = reprice.apply(database, pricer, order.span, tell=lambda calls: seen.__setitem__(0, calls))
    now_us = time.time_ns() // 1000
    done = replace(order, status=DONE, finished_at_us=now_us, looked_at=seen[0], changed=report.changed)
    database.transact(_put, done, now_us)
    return {"looked_at": seen[0], "changed": report.changed}


def _put(connection: Connection, order: Order, now_us: int) -> None:
    span = {"from_us": order.span.from_us, "to_us": order.span.to_us, "model": order.span.model}
    values = {
        "span": span,
        "status": order.status,
        "author": order.author,
        "asked_at_us": order.asked_at_us,
        "finished_at_us": order.finished_at_us,
        "looked_at": order.looked_at,
        "changed": order.changed,
    }
    switches.put(connection, NAME, json.dumps(values), now_us=now_us, author=order.author)
