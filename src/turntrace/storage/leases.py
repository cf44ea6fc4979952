"""Leases: one process at a time may do a thing, by the clock of the database, with a fencing number; and runs of jobs.

A holder that was paused (a stopped process, a frozen machine) finds at its next write that the lease is another's:
`hold` in the same transaction makes sure of it.
"""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, and_, case, delete, func, literal_column, or_, select, update

from turntrace.storage import bulk, tables
from turntrace.storage.narrow import json_object

EVALUATOR: Final = "evaluator:"  # before the id of one: the name of the job that plans for it

_l = tables.lease.c
_r = tables.job_run.c

# Microseconds since the Unix epoch as the database sees it. Not of the transaction's begin: it may have waited.
_NOW: Final = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
}


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that we hold; `epoch` is larger than that of every holder before."""

    name: str
    owner: str
    epoch: int


def new_owner() -> str:
    """A name for this process that no other ever has; take another after a fork."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(8)}"


def now_us(dialect: str) -> Any:
    """The database's clock, as an SQL expression."""
    return literal_column(_NOW["mysql" if dialect == "mariadb" else dialect], BigInteger)


def acquire(connection: Connection, name: str, owner: str, *, ttl_us: int) -> Lease | None:
    """Take a lease that is free or expired, or prolong our own; None while another holds it."""
    now = now_us(connection.dialect.name)
    is_ours = and_(_l.owner == owner, _l.expires_at_us >= now)
    taken = (
        update(tables.lease)
        .where(_l.name == name, or_(_l.expires_at_us < now, _l.owner == owner))
        # The epoch first: MariaDB sets from left to right, and it looks at the old owner.
        .ordered_values(
            (_l.epoch, case((is_ours, _l.epoch), else_=_l.epoch + 1)),
            (_l.owner, owner),
            (_l.expires_at_us, now + ttl_us),
        )
    )
    if connection.execute(taken).rowcount == 1:
        epoch: int = connection.execute(select(_l.epoch).where(_l.name == name)).scalar_one()
        return Lease(name, owner, epoch)
    return _create(connection, name, owner, now + ttl_us)


def _create(connection: Connection, name: str, owner: str, expires: Any) -> Lease | None:
    statement = bulk.insert_missing(connection.dialect.name, tables.lease)
    made = connection.execute(statement.values(name=name, owner=owner, epoch=1, expires_at_us=expires))
    return Lease(name, owner, 1) if made.rowcount == 1 else None


def renew(connection: Connection, lease: Lease, *, ttl_us: int) -> bool:
    """Prolong a lease; False: another has taken it since, stop at once."""
    prolonged = update(tables.lease).where(*_is(lease)).values(expires_at_us=now_us(connection.dialect.name) + ttl_us)
    return connection.execute(prolonged).rowcount == 1


def release(connection: Connection, lease: Lease) -> None:
    """Give a lease back, so that nobody need wait for its end."""
    connection.execute(update(tables.lease).where(*_is(lease)).values(expires_at_us=0))


def hold(connection: Connection, lease: Lease) -> bool:
    """Whether the lease is ours still; if so nobody can take it before this transaction ends."""
    now = now_us(connection.dialect.name)
    statement = select(_l.epoch).where(*_is(lease), _l.expires_at_us >= now).with_for_update()
    return connection.execute(statement).first() is not None


def is_alone(connection: Connection, name: str) -> bool:
    """Whether no other transaction that asked the same is going on; nobody waits. With SQLite there is one anyway."""
    if connection.dialect.name == "sqlite":
        return True
    free = select(_l.name).where(_l.name == name).with_for_update(skip_locked=True)
    if connection.execute(free).first() is not None:
        return True
    if connection.execute(select(_l.name).where(_l.name == name)).first() is not None:
        return False
    _make(connection, name)
    return connection.execute(free).first() is not None


def be_alone(connection: Connection, name: str) -> None:
    """Wait until no other transaction that asked `is_alone` is going on; none begins before this one ends."""
    if connection.dialect.name != "sqlite":
        _make(connection, name)
        connection.execute(select(_l.name).where(_l.name == name).with_for_update())


def _make(connection: Connection, name: str) -> None:
    statement = bulk.insert_missing(connection.dialect.name, tables.lease)
    connection.execute(statement.values(name=name, owner="", epoch=0, expires_at_us=0))


def _is(lease: Lease) -> tuple[Any, ...]:
    return (_l.name == lease.name, _l.owner == lease.owner, _l.epoch == lease.epoch)


# --- runs of jobs ---------------------------------------------------------------------------------------------------


def begin_run(connection: Connection, lease: Lease, job: str, *, slot_at_us: int, now_us: int) -> int | None:
    """Note that a job runs for a slot of time; None when it ran for that slot already. Answers the run's id."""
    statement = bulk.insert_missing(connection.dialect.name, tables.job_run)
    made = connection.execute(
        statement.values(
            job=job,
            slot_at_us=slot_at_us,
            owner=lease.owner,
            epoch=lease.epoch,
            status="running",
            started_at_us=now_us,
        )
    )
    if made.rowcount != 1:
        return None
    found = connection.execute(select(_r.id).where(_r.job == job, _r.slot_at_us == slot_at_us)).scalar_one()
    return int(found)


def finish_run(
    connection: Connection, run_id: int, *, status: str, now_us: int, details: Mapping[str, Any] | None = None
) -> None:
    """Note how a run ended: `done` or `failed`, with counts or the type of an error, never with content."""
    values = {"status": status, "finished_at_us": now_us, "details": json_object(details or {})}
    connection.execute(update(tables.job_run).where(_r.id == run_id).values(values))


def last_slot(connection: Connection, job: str) -> int | None:
    """The latest slot that a job ran for."""
    statement = select(_r.slot_at_us).where(_r.job == job).order_by(_r.slot_at_us.desc()).limit(1)
    return connection.execute(statement).scalar()


def job_names(connection: Connection) -> Iterator[str]:
    """Names of jobs that ran, in order: a step of the index for each, however many runs there are."""
    name = connection.execute(select(func.min(_r.job))).scalar()
    while name is not None:
        yield str(name)
        name = connection.execute(select(func.min(_r.job)).where(_r.job > name)).scalar()


def prune_runs(connection: Connection, *, before_us: int, done_before_us: int) -> int:
    """Forget runs of slots before an instant; those that ended well already before `done_before_us`.

    The last run of a job that ended well stays until `before_us`: a job that runs every few seconds would else leave
    hundreds of thousands of rows that say nothing. The last run for an evaluator stays as long as the evaluator: the
    next leader must know which slot of a month was run. Answers how many runs were forgotten.
    """
    past = _r.slot_at_us < before_us
    is_kept = _r.job.startswith(EVALUATOR, autoescape=True)
    forgotten = int(connection.execute(delete(tables.job_run).where(past, ~is_kept)).rowcount)
    for job in list(job_names(connection)):
        last_us = last_slot(connection, job) or 0
        is_done = and_(_r.status == "done", _r.slot_at_us < done_before_us)
        old = delete(tables.job_run).where(_r.job == job, _r.slot_at_us < last_us, or_(past, is_done))
        forgotten += int(connection.execute(old).rowcount)
    return forgotten


def forget_runs(connection: Connection, job: str) -> None:
    """Forget all runs of a job that there is no more."""
    connection.execute(delete(tables.job_run).where(_r.job == job))
