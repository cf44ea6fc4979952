"""Evaluators: written as versions that never change; switched, blocked and deleted as a whole."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.evaluation.judge import kept_key
from turntrace.records.evaluator import Evaluator
from turntrace.storage import bulk, leases, tables
from turntrace.storage.narrow import json_object
from turntrace.storage.queries import evaluators as queries

FAILURES_TO_BLOCK: Final = 5
FIRST_BLOCK_US: Final = 15_000_000
LONGEST_BLOCK_US: Final = 900_000_000

_e = tables.evaluator.c
_v = tables.evaluator_version.c
_n = tables.evaluation.c
_b = tables.backfill.c


def create(
    connection: Connection,
    definition: Mapping[str, Any],
    *,
    is_enabled: bool,
    sealed: str | None,
    author: str | None,
    now_us: int,
) -> Evaluator:
    """Store a new evaluator: it sees what is stored from now on.

    Raises:
        InvalidInput: the name is taken.
    """
    evaluator_id = uuid.uuid4().hex
    values = {
        "id": evaluator_id,
        "name": definition["name"],
        "kind": definition["kind"],
        "is_enabled": is_enabled,
        "version": 1,
        "watermark_us": now_us,
        "failure_count": 0,
        "created_at_us": now_us,
        "updated_at_us": now_us,
    }
    _refuse_taken_name(connection, definition["name"], "")
    if connection.execute(bulk.insert_missing(connection.dialect.name, tables.evaluator).values(values)).rowcount != 1:
        raise InvalidInput("$.name: another evaluator has this name", field="$.name")
    _add_version(connection, evaluator_id, 1, definition, sealed, author, now_us)
    return queries.get(connection, evaluator_id)


def revise(
    connection: Connection,
    evaluator_id: str,
    definition: Mapping[str, Any],
    *,
    is_enabled: bool,
    sealed: str | None,
    author: str | None,
    now_us: int,
) -> Evaluator:
    """Store a new version; the same definition again leaves the version as it is.

    Args:
        sealed: credentials; None keeps those of the version before, for the same provider and address only.

    Raises:
        NotFound: no such evaluator. InvalidInput: the name is taken, or credentials are missing for a changed address.
    """
    known = queries.get(connection, evaluator_id)
    _refuse_taken_name(connection, definition["name"], evaluator_id)
    version = known.version
    if dict(definition) != dict(known.definition) or sealed is not None:
        version += 1
        sealed = sealed or kept_key(known.sealed, known.definition, definition)
        _add_version(connection, evaluator_id, version, definition, sealed, author, now_us)
    values = {
        "name": definition["name"],
        "kind": definition["kind"],
        "is_enabled": is_enabled,
        "version": version,
        "watermark_us": known.watermark_us if known.is_enabled else now_us,  # what it slept through is for a backfill
        "failure_count": 0,
        "blocked_until_us": None,
        "blocked_reason": None,
        "updated_at_us": now_us,
    }
    connection.execute(update(tables.evaluator).where(_e.id == evaluator_id).values(values))
    return queries.get(connection, evaluator_id)


def _refuse_taken_name(connection: Connection, name: str, own_id: str) -> None:
    taken = select(_e.id).where(_e.name == name, _e.id != own_id)
    if connection.execute(taken).first() is not None:
        raise InvalidInput("$.name: another evaluator has this name", field="$.name")


def _add_version(
    connection: Connection,
    evaluator_id: str,
    version: int,
    definition: Mapping[str, Any],
    sealed: str | None,
    author: str | None,
    now_us: int,
) -> None:
    values = {
        "evaluator_id": evaluator_id,
        "version": version,
        "definition": json_object(definition),
        "sealed": sealed,
        "author": author,
        "created_at_us": now_us,
    }
    connection.execute(tables.evaluator_version.insert().values(values))


def switch(connection: Connection, evaluator_id: str, *, is_enabled: bool, now_us: int) -> None:
    """Switch an evaluator on or off; what it sleeps through it does not see.

    Raises:
        NotFound: no such evaluator.
    """
    known = queries.get(connection, evaluator_id)
    values: dict[str, Any] = {"is_enabled": is_enabled, "updated_at_us": now_us}
    if is_enabled and not known.is_enabled:
        values |= {"watermark_us": now_us, "failure_count": 0, "blocked_until_us": None, "blocked_reason": None}
    connection.execute(update(tables.evaluator).where(_e.id == evaluator_id).values(values))


def remove(connection: Connection, evaluator_id: str) -> None:
    """Delete an evaluator with its versions and its open work; the scores that it gave stay.

    Raises:
        NotFound: no such evaluator.
    """
    if connection.execute(delete(tables.evaluator).where(_e.id == evaluator_id)).rowcount != 1:
        raise NotFound("no such evaluator")
    connection.execute(delete(tables.evaluator_version).where(_v.evaluator_id == evaluator_id))
    connection.execute(delete(tables.evaluation).where(_n.evaluator_id == evaluator_id))
    connection.execute(delete(tables.backfill).where(_b.evaluator_id == evaluator_id))
    leases.forget_runs(connection, leases.EVALUATOR + evaluator_id)


def advance(connection: Connection, evaluator_id: str, watermark_us: int) -> None:
    """Note how far an evaluator has looked; never backwards."""
    further = update(tables.evaluator).where(_e.id == evaluator_id, _e.watermark_us < watermark_us)
    connection.execute(further.values(watermark_us=watermark_us))


def note_success(connection: Connection, evaluator_id: str) -> None:
    """Close the circuit breaker."""
    was_failing = update(tables.evaluator).where(_e.id == evaluator_id, _e.failure_count > 0)
    connection.execute(was_failing.values(failure_count=0, blocked_until_us=None, blocked_reason=None))


def note_failures(connection: Connection, evaluator_id: str, reason: str, *, count: int, now_us: int) -> None:
    """Count failures in a row; from the fifth on the breaker is open, each time for longer, with its reason."""
    grown = _e.failure_count + count
    connection.execute(update(tables.evaluator).where(_e.id == evaluator_id).values(failure_count=grown))
    failures = connection.execute(select(_e.failure_count).where(_e.id == evaluator_id)).scalar()
    if failures is None or failures < FAILURES_TO_BLOCK:
        return
    doublings = min(6, (int(failures) - FAILURES_TO_BLOCK) // FAILURES_TO_BLOCK)
    until_us = now_us + min(LONGEST_BLOCK_US, FIRST_BLOCK_US << doublings)
    values = {"blocked_until_us": until_us, "blocked_reason": reason[:200]}
    connection.execute(update(tables.evaluator).where(_e.id == evaluator_id).values(values))


def count(connection: Connection) -> int:
    """How many evaluators there are."""
    return int(connection.execute(select(func.count()).select_from(tables.evaluator)).scalar_one())
