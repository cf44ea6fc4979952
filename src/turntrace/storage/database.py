"""The database: one lazy engine, short transactions, guest manners. Knows drivers, not tables of ours."""

import copy
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import Pool, StaticPool

from turntrace.errors import DatabaseUnavailable, DriverMissing, SchemaOutOfDate
from turntrace.settings import Secret
from turntrace.storage import fault, residence, seal
from turntrace.storage.address import OWN_FILE, is_memory, shown, sync_url
from turntrace.storage.deadline import bounded_class
from turntrace.storage.pace import Pace
from turntrace.storage.seal import Cipher

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 30
BUSY_MILLISECONDS: Final = 5000
GUEST_LOCK_SECONDS: Final = 0.02  # longest we hold the write lock of a host's SQLite file
STATEMENTS_KEPT: Final = 64  # prepared, by each SQLite connection: some take 100 KB
PAGE_BYTES: Final = 8192  # a turn's compressed content fits a page of our own file without waste
TRIES: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.02
_WRITING: Final = "turntrace_writing"


class Database:
    """One database of Turntrace's tables. Nothing is opened before the first transaction of a process.

    Args:
        url: SQLAlchemy URL; async drivers are mapped to sync ones. None and no engine: our own `turntrace.db`.
        engine: the host's engine (sync or async). Its connection settings are used through a pool of our own, so that
            no pragma, time limit or open transaction of ours reaches the host's connections; an in-memory SQLite
            engine is shared as it is.
        setting: where the URL was stated, for messages.

    Raises:
        SettingsError, DriverMissing: at once, when the URL cannot be used.
    """

    def __init__(
        self, url: str | URL | Secret | None = None, *, engine: Any = None, setting: str = "database_url"
    ) -> None:
        self._host_engine: Engine | None = getattr(engine, "sync_engine", engine)
        given = self._host_engine.url if self._host_engine is not None else url
        self.url = sync_url(given.reveal() if isinstance(given, Secret) else given or OWN_FILE, setting)
        self.is_memory = is_memory(self.url)
        self.pace = Pace(GUEST_LOCK_SECONDS / 2)  # of transactions in a host's SQLite file
        self._is_guest: bool | None = True if self._host_engine is not None else None
        self.cipher: Cipher | None = None  # set before first use: seals and opens content
        self.stores: Mapping[str, Database] = {}  # the same: where content of an environment lies, if not here
        self.is_store = False  # the same: whether it is such a store of another database
        self._lens: Callable[[Connection], None] | None = None
        self._whole: Database | None = None
        self._start_fresh()

    def _start_fresh(self) -> None:
        self._pid = os.getpid()
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        # SQLite in memory has one connection for all threads: they take turns.
        self._turn = self._shared_turn() if self.is_memory else nullcontext()

    def _shared_turn(self) -> Any:
        """One lock for all that share a connection: the worker's `Database` and the panel's are two objects."""
        if self._host_engine is None:
            return threading.RLock()
        return _turns.setdefault(self._host_engine.pool, threading.RLock())

    def __repr__(self) -> str:
        return f"Database({shown(self.url)})"

    @property
    def name(self) -> str:
        """Where the database is, without secrets."""
        return shown(self.url)

    @property
    def dialect(self) -> str:
        """`sqlite`, `postgresql` or `mariadb` (MySQL included)."""
        family = self.url.get_backend_name()
        return "mariadb" if family == "mysql" else family

    @property
    def is_guest(self) -> bool:
        """Whether this is a SQLite file of the host's: lock it briefly, leave its journal mode alone."""
        if self.dialect != "sqlite" or self.is_memory:
            return False
        if self._is_guest is None:
            with self.read():
                pass
        return bool(self._is_guest)

    @property
    def engine(self) -> Engine:
        """Our engine, made on first use in this process."""
        if self._pid != os.getpid():
            self.reset_after_fork()
        with self._lock:
            if self._engine is None:
                self._engine = self._make_engine()
            return self._engine

    def reset_after_fork(self) -> None:
        """Forget the parent's connections without closing its sockets."""
        if self._engine is not None:
            self._engine.dispose(close=False)
        self._start_fresh()

    def close(self) -> None:
        """Close every idle connection; the next use opens new ones."""
        if self._pid == os.getpid() and self._engine is not None and not self._shares_pool:
            self._engine.dispose()
        for store in self.stores.values():
            store.close()

    def through(self, lens: Callable[[Connection], None]) -> "Database":
        """The same database, over the same pool, of which every connection is shown to `lens` first."""
        engine = self.engine  # made now, so that both have the same
        found = copy.copy(self)
        found._engine, found._lens, found._whole = engine, lens, self.whole
        return found

    @property
    def whole(self) -> "Database":
        """The database without a lens: for sums about the installation, never for anybody's turns."""
        return self._whole or self

    # --- transactions ---

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in one read transaction: all its statements see the same moment on SQLite.

        Raises:
            DatabaseUnavailable, SchemaOutOfDate: with one clear line; other errors of statements as they are.
        """
        with self._turn, self._translated(), self.engine.connect() as connection:
            if self._lens is not None:
                self._lens(connection)
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in one short transaction, committed at the end; SQLite's write lock is taken at the first
        statement (`BEGIN IMMEDIATE`). The body cannot be run again on a deadlock: `transact` does that.
        """
        with self._turn, self._translated(), self.engine.connect() as connection:
            if self._lens is not None:
                self._lens(connection)
            writing = connection.execution_options(**{_WRITING: True})
            yield writing
            writing.commit()

    def transact(self, function: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        """`function(connection, …)` in a write transaction, run again after a deadlock, a few times at the most."""
        for attempt in range(TRIES):
            try:
                return self._transact_once(function, *arguments, **named)
            except Exception as error:
                if attempt == TRIES - 1 or not fault.is_retried(error.__cause__ or error):
                    raise
            time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def _transact_once(
        self, function: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        with self.write() as connection:
            return function(connection, *arguments, **named)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of drivers as ours, where a user or a later try can help. Their texts may hold data: left out."""
        try:
            yield
        except Exception as error:
            if fault.is_schema_missing(error):
                raise SchemaOutOfDate from error
            if fault.is_locked(error):
                raise DatabaseUnavailable(f"{self.name} is locked by another writer") from error
            if fault.is_unavailable(error):
                raise DatabaseUnavailable(f"{self.name} cannot be reached or written to") from error
            if self.is_store and fault.is_refusal(error):
                # A right that is missing, a standby: no turn is to be lost over what its operator can mend.
                raise DatabaseUnavailable(f"{self.name} refuses to be read or written to") from error
            raise

    def checkpoint(self, *, tries: int = 5) -> bool:
        """Bring SQLite's write-ahead log into the file and empty it, never waiting for anybody.

        Returns:
            Whether the log is empty now; False: readers or writers are busy, try later. True on other databases.
        """
        if self.dialect != "sqlite" or self.is_memory:
            return True
        for attempt in range(tries):
            if self._checkpoint_once():
                return True
            time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
        return False

    def _checkpoint_once(self) -> bool:
        with self._translated(), self.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.execute("PRAGMA busy_timeout=0")
            try:
                busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                raw.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
            return not busy

    # --- the engine ---

    @property
    def _shares_pool(self) -> bool:
        return self._host_engine is not None and self.is_memory

    def _make_engine(self) -> Engine:
        try:
            engine = create_engine(self.url, **self._options())
        except ImportError as error:
            raise DriverMissing(f"the driver {error.name} for {self.dialect} is not installed") from None
        if self.cipher is not None:
            seal.use(engine.dialect, self.cipher)
        if self.stores:
            residence.use(engine.dialect, self.stores)
        if self.dialect == "sqlite":
            if not self._shares_pool:
                event.listen(engine, "connect", self._prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        elif self.dialect == "postgresql":
            event.listen(engine, "begin", _begin_postgresql)
            if engine.dialect.driver == "psycopg":
                event.listen(engine, "do_connect", _connect_bounded)
        else:
            event.listen(engine, "connect", _prepare_mariadb)
        return engine

    def _options(self) -> dict[str, Any]:
        # Parameters are texts of the host's users: they stay out of error messages.
        # Last in, first out: a connection too many stays cold instead of filling a page cache of its own in turn.
        options: dict[str, Any] = {"hide_parameters": True}
        if self._host_engine is not None:
            pool = self._host_engine.pool
            if self.is_memory:
                return {**options, "pool": pool}
            if not self._host_engine.dialect.is_async:
                return {**options, "pool": pool.recreate()}
        if self.is_memory:
            return {**options, "poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        if self.dialect == "sqlite":
            arguments = {"timeout": BUSY_MILLISECONDS / 1000, "cached_statements": STATEMENTS_KEPT}
            return {**options, "pool_use_lifo": True, "connect_args": arguments}
        pooled = {
            "pool_use_lifo": True,
            "pool_size": 3,
            "max_overflow": 7,
            "pool_timeout": CONNECT_SECONDS,
            "pool_recycle": 1800,
        }
        return {
            **options,
            **pooled,
            "pool_pre_ping": True,
            "isolation_level": "READ COMMITTED",
            "connect_args": _connect_arguments(self.url),
        }

    def _prepare_sqlite(self, raw: Any, _record: Any) -> None:
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        # What is erased is overwritten, not only unlinked.
        cursor.execute("PRAGMA secure_delete=ON")
        if self.is_memory:
            cursor.close()
            return
        if self._is_guest is None:
            self._is_guest = _has_foreign_tables(cursor)
        if not self._is_guest:
            cursor.execute(f"PRAGMA page_size={PAGE_BYTES}")  # has no effect once the file has content
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()


_turns: "weakref.WeakKeyDictionary[Pool, threading.RLock]" = weakref.WeakKeyDictionary()


def memory_engine(url: str | URL | Secret | None) -> Engine:
    """An engine of one connection on a new SQLite database in memory, to be shared by several `Database`s."""
    given = url.reveal() if isinstance(url, Secret) else url or OWN_FILE
    return create_engine(
        sync_url(given), hide_parameters=True, poolclass=StaticPool, connect_args={"check_same_thread": False}
    )


def _has_foreign_tables(cursor: Any) -> bool:
    cursor.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' "
        r"AND name NOT LIKE 'turntrace\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'"
    )
    return bool(cursor.fetchone()[0])


def _begin_sqlite(connection: Connection) -> None:
    # Python's driver begins late and never IMMEDIATE: say it ourselves, or two writers can deadlock.
    writing = connection.get_execution_options().get(_WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _connect_bounded(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
    bounded = bounded_class(STATEMENT_SECONDS + 5)
    return None if bounded is None else bounded.connect(*arguments, **named)


def _begin_postgresql(connection: Connection) -> None:
    # LOCAL: behind a pooler in transaction mode the server connection is somebody else's the next moment.
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000}")


def _prepare_mariadb(raw: Any, _record: Any) -> None:
    cursor = raw.cursor()
    cursor.execute("SET SESSION innodb_lock_wait_timeout = 10, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")
    cursor.execute("SET SESSION time_zone = '+00:00'")
    cursor.close()


def _connect_arguments(url: URL) -> dict[str, Any]:
    """Time limits by driver; what the URL says itself wins."""
    if url.drivername == "postgresql+psycopg":
        # Prepared statements do not survive a pooler in transaction mode.
        wanted: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": None}
    elif url.drivername.endswith("+pymysql"):
        limit = STATEMENT_SECONDS + 5
        wanted = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": limit,
            "write_timeout": limit,
            "charset": "utf8mb4",
        }
    else:
        wanted = {"connect_timeout": CONNECT_SECONDS}
    return {name: value for name, value in wanted.items() if name not in url.query}
