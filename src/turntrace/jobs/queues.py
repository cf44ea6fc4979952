"""Queues that fill themselves: some turns of each past day, at random among those that match."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal
from time import time_ns
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.errors import InvalidInput
from turntrace.evaluation.queue import Queue
from turntrace.records.filter import TraceFilter
from turntrace.storage import queues
from turntrace.storage.database import Database
from turntrace.storage.queries.quality import disputed
from turntrace.storage.queries.traces import list_ids

DAY_US: Final = 86_400_000_000
MOST_MATCHES: Final = 100_000  # turns of a day that are chosen among
DISAGREEMENT: Final = "disagreement"  # a score's name: turns about which two said different things
_NAMES: Final = frozenset(field.name for field in fields(TraceFilter)) - {"from_us", "to_us"}


def fill_queues(database: Database, *, now_us: int | None = None) -> Mapping[str, int]:
    """Put turns of yesterday (UTC) into every queue that asks for some; again is the same as once.

    Which turns are chosen follows from their ids alone, so that two who do this at once choose the same.
    """
    now = time_ns() // 1000 if now_us is None else now_us
    end = now - now % DAY_US
    with database.read() as connection:
        wanted = [queue for queue in queues.list_queues(connection) if queue.daily]
        chosen = {queue.id: _chosen(connection, queue, end - DAY_US, end) for queue in wanted}
    added = sum(database.transact(queues.fill, queue, chosen[queue.id], now_us=now) for queue in wanted)
    return {"queues": len(wanted), "turns": added}


def _chosen(connection: Connection, queue: Queue, from_us: int, to_us: int) -> list[str]:
    given = queue.filter or {}
    narrowed = replace(read_filter(given), from_us=from_us, to_us=to_us)
    turn_ids = list_ids(connection, narrowed, limit=MOST_MATCHES)
    if DISAGREEMENT in given:
        told_apart = disputed(connection, str(given[DISAGREEMENT]), from_us=from_us, to_us=to_us, limit=MOST_MATCHES)
        turn_ids = [turn_id for turn_id in turn_ids if turn_id in told_apart]
    return sorted(turn_ids, key=lambda turn_id: _place(queue.id, turn_id))[: queue.daily]


def _place(queue_id: str, turn_id: str) -> bytes:
    return hashlib.sha256(f"{queue_id}{turn_id}".encode()).digest()


def read_filter(given: Mapping[str, Any]) -> TraceFilter:
    """The filter of a queue, by the names that the lists have for it, without times; `disagreement` is read apart.

    Raises:
        InvalidInput: there is no such filter, or a number that is none.
    """
    unknown = sorted(set(given) - _NAMES - {DISAGREEMENT})
    if unknown:
        raise InvalidInput(f"filter: the trace list does not know {', '.join(unknown)[:100]}", field="filter")
    values: dict[str, Any] = {name: str(value) for name, value in given.items() if name != DISAGREEMENT}
    try:
        if "min_cost" in values:
            values["min_cost"] = Decimal(values["min_cost"])
        if "min_duration_ms" in values:
            values["min_duration_ms"] = float(values["min_duration_ms"])
    except (ArithmeticError, ValueError):
        raise InvalidInput("filter: min_cost and min_duration_ms are numbers", field="filter") from None
    return TraceFilter(**values)
