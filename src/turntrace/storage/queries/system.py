"""Facts about Turntrace itself: storage, worker, processes, jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, inspect, select, text

from turntrace.records.batch import ProcessCounts
from turntrace.records.loss import Loss
from turntrace.storage import leases, tables
from turntrace.storage.queries import loss

_JOBS: Final = 50
_t = tables.trace.c
_lease = tables.lease.c
_run = tables.job_run.c


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFact:
    """Who holds a lease (the worker's, a job's) and until when."""

    name: str
    owner: str | None
    expires_at_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRunFact:
    """One run of a job; `status` is running, done or failed, `details` JSON."""

    job: str
    status: str
    started_at_us: int
    finished_at_us: int | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """What the System page shows. `table_rows` are estimates, by table name without our prefix."""

    dialect: str
    schema_version: str | None = None
    database_bytes: int | None = None
    table_rows: Mapping[str, int] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    processes: tuple[ProcessCounts, ...] = ()
    leases: tuple[LeaseFact, ...] = ()
    jobs: tuple[JobRunFact, ...] = ()
    last_turn_at_us: int | None = None
    worker_seen_at_us: int | None = None  # when the worker last stored a batch or its counts


def system(c: Connection) -> SystemFacts:
    """Facts about storage and worker; cheap enough for a page that refreshes."""
    last_turn = select(_t.started_at_us).order_by(_t.started_at_us.desc(), _t.id.desc()).limit(1)
    processes = loss.processes(c)
    return SystemFacts(
        dialect=c.dialect.name,
        schema_version=_schema_version(c),
        database_bytes=_SIZES.get(c.dialect.name, _unknown_size)(c),
        table_rows=_ROWS.get(c.dialect.name, _rows_of_sqlite)(c),
        loss=loss.balance(c),
        processes=processes,
        leases=_leases(c),
        jobs=_jobs(c),
        last_turn_at_us=c.execute(last_turn).scalar(),
        worker_seen_at_us=_worker_seen(c, processes),
    )


def _worker_seen(c: Connection, processes: tuple[ProcessCounts, ...]) -> int | None:
    stored = c.execute(select(func.max(tables.segment.c.updated_at_us))).scalar()
    times = [time for time in (stored, *(process.seen_at_us for process in processes)) if time]
    return max(times) if times else None


def _schema_version(c: Connection) -> str | None:
    if not inspect(c).has_table(tables.VERSION_TABLE):
        return None
    return c.execute(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")).scalar()  # noqa: S608 (our constant)


def _leases(c: Connection) -> tuple[LeaseFact, ...]:
    rows = c.execute(select(_lease.name, _lease.owner, _lease.expires_at_us).order_by(_lease.name).limit(200))
    return tuple(LeaseFact(name=row.name, owner=row.owner, expires_at_us=row.expires_at_us) for row in rows)


def _jobs(c: Connection) -> tuple[JobRunFact, ...]:
    """The latest run of each job, the job that ran last first."""
    columns = (_run.job, _run.status, _run.started_at_us, _run.finished_at_us, _run.details)
    found = []
    for name in islice(leases.job_names(c), _JOBS):
        latest = select(*columns).where(_run.job == name).order_by(_run.slot_at_us.desc()).limit(1)
        found += [JobRunFact(**row) for row in c.execute(latest).mappings()]
    return tuple(sorted(found, key=lambda run: run.started_at_us, reverse=True))


def _names() -> list[str]:
    return sorted(tables.metadata.tables)


def _short(name: str) -> str:
    return name.removeprefix(tables.PREFIX)


def _size_of_sqlite(c: Connection) -> int | None:
    pages = c.execute(text("PRAGMA page_count")).scalar_one()
    return int(pages) * int(c.execute(text("PRAGMA page_size")).scalar_one())


def _size_of_postgresql(c: Connection) -> int | None:
    statement = text(
        "SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(CAST(:names AS text[])) AS name"
    )
    size = c.execute(statement, {"names": _names()}).scalar()
    return None if size is None else int(size)


def _size_of_mariadb(c: Connection) -> int | None:
    size = c.execute(_mariadb_tables("sum(data_length + index_length)"), {"names": _names()}).scalar()
    return None if size is None else int(size)


def _unknown_size(c: Connection) -> int | None:
    return None


def _rows_of_sqlite(c: Connection) -> dict[str, int]:
    """SQLite keeps no counts: the highest row number, where rows have one, and observations by their mean."""
    found: dict[str, int] = {}
    for name in ("trace", "content", "score", "rollup", "histogram"):
        table = tables.metadata.tables[tables.PREFIX + name]
        found[name] = int(c.execute(select(func.max(text("rowid"))).select_from(table)).scalar() or 0)
    newest = select(_t.observation_count).order_by(_t.started_at_us.desc(), _t.id.desc()).limit(100).subquery()
    mean = c.execute(select(func.avg(newest.c.observation_count))).scalar() or 0
    return {**found, "observation": round(float(mean) * found["trace"])}


def _rows_of_postgresql(c: Connection) -> dict[str, int]:
    statement = text(
        "SELECT name, (SELECT reltuples FROM pg_class WHERE oid = to_regclass(name)) "
        "FROM unnest(CAST(:names AS text[])) AS name"
    )
    rows = c.execute(statement, {"names": _names()})
    return {_short(name): max(0, int(estimate or 0)) for name, estimate in rows}


def _rows_of_mariadb(c: Connection) -> dict[str, int]:
    rows = c.execute(_mariadb_tables("table_name, table_rows"), {"names": _names()})
    return {_short(name): int(estimate or 0) for name, estimate in rows}


def _mariadb_tables(columns: str) -> Any:
    statement = f"SELECT {columns} FROM information_schema.tables WHERE table_schema = database()"  # noqa: S608
    return text(f"{statement} AND table_name IN :names").bindparams(bindparam("names", expanding=True))


_SIZES: Final = {
    "sqlite": _size_of_sqlite,
    "postgresql": _size_of_postgresql,
    "mysql": _size_of_mariadb,
    "mariadb": _size_of_mariadb,
}
_ROWS: Final = {
    "sqlite": _rows_of_sqlite,
    "postgresql": _rows_of_postgresql,
    "mysql": _rows_of_mariadb,
    "mariadb": _rows_of_mariadb,
}
