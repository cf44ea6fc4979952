"""Puts the heavy parts together: database, pipeline, worker, panel, API. Imported only where one of them is needed."""

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from turntrace.errors import SettingsError, TurntraceError
from turntrace.evaluating import evaluating
from turntrace.integrations import tokens
from turntrace.integrations.delivery import Delivery
from turntrace.integrations.otlphttp import Guard, OtlpSender
from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.integrations.pricefile import Prices, read_file
from turntrace.jobs import report, repricing
from turntrace.jobs.subject import pseudonym as pseudonym_of
from turntrace.keyring import KeyRing, subject_names
from turntrace.pipeline import Modes, Pipeline, Pricer
from turntrace.pipeline.redact import TraceRedactor
from turntrace.pipeline.sample import Hook, Sampler
from turntrace.records.destination import Destination
from turntrace.records.usage import Price
from turntrace.scheduler import Job, Scheduler, jobs_of
from turntrace.settings import Settings
from turntrace.spool.directory import WorkerLock, locate
from turntrace.spool.memory import MemorySpool
from turntrace.spool.reader import SpoolReader
from turntrace.storage import declared, marks, migrate, prices, switches, windows
from turntrace.storage.database import Database, memory_engine
from turntrace.storage.opening import open_database
from turntrace.version import __version__
from turntrace.worker.capacity import Capacity
from turntrace.worker.comment import TAG_PURPOSE
from turntrace.worker.exporter import Exporter, Exporters, names_for
from turntrace.worker.heap import Heap
from turntrace.worker.loop import Source, Worker
from turntrace.worker.reception import Desk
from turntrace.worker.signals import stop_on
from turntrace.worker.status import Status, read_status, write_status
from turntrace.worker.supervisor import NOT_ELECTED
from turntrace.worker.switch import switch

log = logging.getLogger("turntrace.worker")

PRICES_SECONDS = 1.0
SWITCH_SECONDS = 2.0
SCHEMA_SECONDS = 2.0
WINDOW_GRACE_US = 3_600_000_000
NICENESS = 10


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def open_memory(settings: Settings) -> Any:
    """An engine on a new database in memory, for the worker and the panel of one process together."""
    return memory_engine(settings.database_url)


class PriceList:
    """The operator's own prices, from file and database, looked up again every second.

    A change gives the pipeline a new `Pricer`; the price of an observation is that of its start, so no order matters.
    """

    def __init__(self, settings: Settings, database: Database, pipeline: Pipeline) -> None:
        self._from_file = read_file(Path(settings.prices_file)) if settings.prices_file else ()
        self._database, self._pipeline = database, pipeline
        self._known: tuple[Price, ...] = ()
        self._look_at = 0.0
        self._set(())

    def refresh(self) -> None:
        """Look again, if the last look was a second ago; an unreachable database leaves the list as it is."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + PRICES_SECONDS
        try:
            with self._database.read() as connection:
                found = tuple(prices.list_prices(connection))
        except TurntraceError:
            return
        if found != self._known:
            self._set(found)

    def _set(self, found: tuple[Price, ...]) -> None:
        self._known = found
        self._pipeline.pricer = Pricer((*self._from_file, *found))


class Windows:
    """Windows of full capture, looked up every two seconds."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database, self._pipeline = database, pipeline
        self._look_at = 0.0

    def refresh(self) -> None:
        """Look again, if it is time; an unreachable database leaves them as they are: they end by themselves."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + SWITCH_SECONDS
        try:
            with self._database.read() as connection:
                # A turn is worked on after it began: windows that have just ended still count for it.
                found = windows.list_windows(connection, now_us=now_us() - WINDOW_GRACE_US)
        except TurntraceError:
            return
        self._pipeline.modes.windows = found


class KillSwitch:
    """The row `enabled` of the database, looked up every two seconds and told on to the capturing processes."""

    def __init__(self, database: Database, tell: Callable[[bool], None]) -> None:
        self._database, self._tell = database, tell
        self._look_at = 0.0

    def refresh(self) -> None:
        """Look again, if it is time. Told every time: somebody may have cleared the spool's directory."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + SWITCH_SECONDS
        try:
            with self._database.read() as connection:
                value = switches.get(connection, switches.ENABLED)
        except TurntraceError:
            return  # as it was
        self._tell(value != "0")


def build_redactor(settings: Settings, keys: KeyRing, analyzer: PresidioAnalyzer | None = None) -> TraceRedactor | None:
    """What takes personal data out; None where the settings ask for none."""
    if settings.redaction == "off":
        return None
    return TraceRedactor.of(settings, analyzer or build_analyzer(settings), key=keys.derive(TAG_PURPOSE))


def pseudonym(keys: KeyRing) -> Callable[[str], str]:
    """A keyed function of user ids: the same id gives the same 32 hex digits, and no key no way back."""
    return partial(pseudonym_of, keys)


def jobs(settings: Settings, keys: KeyRing) -> tuple[Job, ...]:
    """Every job of these settings."""
    price = partial(repricing.run, open_pricer=Prices(settings))
    text = "Price history anew, where somebody asked for it."
    found = (*jobs_of(settings, keys), Job("reprice", 10, price, text, repricing.is_asked))
    addresses = settings.report_addresses()
    if not addresses:
        return found
    key = keys.derive(report.ADDRESS_PURPOSE)
    send = partial(
        report.send_due,
        every=settings.report_every,
        open_pricer=Prices(settings),
        deliver={report.address_key(key, each): Delivery([each], settings.may_call) for each in addresses},
        now_us=now_us,
        panel_url=settings.panel_url,
        success=settings.success_score,
    )
    is_due = partial(report.is_due, every=settings.report_every, now_us=now_us)
    return (*found, Job("report", 600, send, "Send the report on spending.", is_due))


def load_hook(settings: Settings) -> Hook | None:
    """The sampler of the host's own; where it cannot be imported, it is said and the rates of the settings count."""
    if settings.sampler is None:
        return None
    module, _, attribute = settings.sampler.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Hook = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a module of the host's raises at import
        log.error("sampler: %s cannot be imported (%s): sample_rate counts", settings.sampler, type(error).__name__)
        return None
    return found


def build_worker(
    settings: Settings,
    source: Source,
    keys: KeyRing,
    database: Database,
    tell: Callable[[Status], None],
    tell_switch: Callable[[bool], None] = lambda is_on: None,
    *,
    analyzer: PresidioAnalyzer | None = None,
) -> Worker:
    """The worker over a spool; `tell_switch` is told whether recording is wanted.

    Args:
        analyzer: an analyser that the caller closes; none: one that lives as long as this process.
    """
    redactor = build_redactor(settings, keys, analyzer)
    sampler = Sampler.of(settings, load_hook(settings))
    modes = Modes(settings, partial(subject_names, keys))
    pipeline = Pipeline(
        settings,
        redactor=redactor,
        pseudonym=pseudonym(keys),
        sampler=sampler,
        modes=modes,
        count_tokens=tokens.count if settings.estimate_usage and tokens.is_installed() else None,
    )
    price_list = PriceList(settings, database, pipeline)
    kill_switch = KillSwitch(database, tell_switch)
    capture_windows = Windows(database, pipeline)
    capacity = Capacity(database, settings.storage_max_bytes, pipeline.modes)

    def look() -> None:
        price_list.refresh()
        kill_switch.refresh()
        capture_windows.refresh()
        capacity.refresh()

    return Worker(
        source,
        database,
        pipeline,
        batch_turns=settings.batch_turns,
        poll_seconds=settings.poll_ms / 1000,
        before_step=look,
        tell=tell,
        redactor=redactor,
        desk=Desk(database, keys),
        exports=names_for(find_destinations(settings)),
    )


def find_destinations(settings: Settings) -> tuple[Destination, ...]:
    """Where turns are sent on to; none, and a line in the log, where the file with them is of no use."""
    try:
        return settings.destinations()
    except SettingsError as error:
        log.error("nothing is sent on: %s", error)
        return ()


@contextmanager
def exporting(settings: Settings, database: Database) -> Iterator[None]:
    """Stored turns are sent on to the destinations of the settings inside."""
    guard, found = Guard(settings.export_allowed_hosts), find_destinations(settings)
    most, names = settings.export_max_turns, [destination.name for destination in found]
    exporters = Exporters(
        [
            Exporter(database, destination, OtlpSender(destination, guard), most_waiting=most, known=names)
            for destination in found
        ]
    )
    exporters.start()
    try:
        yield
    finally:
        exporters.stop(settings.shutdown_seconds)


def stored_mark(database: Database) -> Callable[[str], int]:
    """Answers the last sequence of a segment that is stored, 0 where none is."""

    def mark(segment: str) -> int:
        with database.read() as connection:
            return marks.get(connection, segment)

    return mark


def wait_for_schema(
    database: Database,
    stop: threading.Event,
    tell: Callable[[Exception], None] = lambda error: None,
    *,
    pause_seconds: float = SCHEMA_SECONDS,
) -> bool:
    """Make sure that the tables are there; while they are not, turns stay in the spool. False when stopped first.

    It looks once even when it is stopped already: a script may have ended before its worker began.

    Args:
        tell: told at each look why turns have to wait.
    """
    said = ""
    while True:
        try:
            migrate.ensure_schema(database)
            return True
        except Exception as error:
            kind = type(error).__name__
            if kind != said:  # a driver's text may hold more than we want to log
                log.warning("turns wait in the spool: %s", error if isinstance(error, TurntraceError) else kind)
                said = kind
            tell(error)
        if stop.wait(pause_seconds):
            return False


def _tell_waiting(root: Path) -> Callable[[Exception], None]:
    """Writes a sign of life with the reason why nothing is stored; what waits in the spool stays as last known."""

    def tell(error: Exception) -> None:
        known, now = read_status(root) or Status(at_us=0, pid=0), now_us()
        present = replace(known, at_us=now, pid=os.getpid(), version=__version__)
        write_status(root, replace(present, last_error=type(error).__name__, last_error_at_us=now))

    return tell


def _note_settings(settings: Settings, database: Database) -> None:
    """Changes of what is kept of people belong into the audit log; a worker begins without it where that cannot be."""
    try:
        database.transact(declared.note, settings, now_us=now_us())
    except TurntraceError as error:
        log.warning("the settings could not be noted: %s", type(error).__name__)


def work(
    settings: Settings,
    root: Path,
    keys: KeyRing,
    stop: threading.Event,
    engine: Any = None,
    *,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Work on the spool below `root` until `stop` is set. The worker's lock must be held.

    Args:
        after_step: called after each step of the worker.
    """
    database = open_database(settings, engine)
    with closing(database):
        if not wait_for_schema(database, stop, _tell_waiting(root)):
            return
        _note_settings(settings, database)
        scheduler = Scheduler(database, jobs(settings, keys))
        scheduler.start()
        reading = closing(SpoolReader(root, keys, mark=stored_mark(database)))
        try:
            with reading as reader, _analyzer(settings) as found, exporting(settings, database):
                worker = build_worker(
                    settings,
                    reader,
                    keys,
                    database,
                    lambda status: write_status(root, status),
                    lambda is_on: switch(root, is_on=is_on),
                    analyzer=found,
                )
                with evaluating(settings, database, keys, root, worker.pipeline):
                    worker.run(stop, drain_seconds=settings.shutdown_seconds, after_step=after_step)
        finally:
            scheduler.stop()


@contextmanager
def _analyzer(settings: Settings) -> Iterator[PresidioAnalyzer | None]:
    """The analyser of the settings, whose process ends with the block."""
    analyzer = build_analyzer(settings)
    try:
        yield analyzer
    finally:
        if analyzer is not None:
            analyzer.close()


def work_memory(
    settings: Settings,
    spool: MemorySpool,
    keys: KeyRing,
    stop: threading.Event,
    engine: Any,
    tell_switch: Callable[[bool], None] = lambda is_on: None,
) -> None:
    """Work on a spool in the memory of this process until `stop` is set."""
    database = open_database(settings, engine)
    with closing(database), _analyzer(settings) as found:
        if not wait_for_schema(database, stop):
            return
        _note_settings(settings, database)
        scheduler = Scheduler(database, jobs(settings, keys))
        scheduler.start()
        try:
            worker = build_worker(settings, spool, keys, database, lambda status: None, tell_switch, analyzer=found)
            with exporting(settings, database), evaluating(settings, database, keys, spool, worker.pipeline):
                worker.run(stop, drain_seconds=settings.shutdown_seconds)
        finally:
            scheduler.stop()


def work_from_pipe(stream: IO[bytes]) -> int:
    """The worker process: settings come as one line of JSON, the end of the stream is the sign to drain and go."""
    told = json.loads(stream.readline() or b"null")
    if told is None:
        return NOT_ELECTED
    settings, root = Settings.of(**told["settings"]), Path(told["root"])
    lock = WorkerLock(root)
    if not lock.inherit(told["lock"]):
        return NOT_ELECTED
    heap = _be_modest(settings)
    stop = threading.Event()
    threading.Thread(target=_watch, args=(stream, stop, told["parent"]), daemon=True).start()
    stop_on([signal.SIGTERM], stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host; the closed pipe tells us afterwards
    try:
        work(settings, root, KeyRing.from_settings(settings, Path(told["key_file"])), stop, after_step=heap.tidy)
    finally:
        lock.release()
    return 0


def _be_modest(settings: Settings) -> Heap:
    heap = Heap()
    heap.relax()
    logging.basicConfig(level=settings.log_level.upper(), format="turntrace worker: %(levelname)s %(message)s")
    try:
        os.nice(NICENESS)
    except OSError:
        log.debug("the worker could not be niced")
    return heap


def _watch(stream: IO[bytes], stop: threading.Event, parent: int) -> None:
    """End with the parent: its pipe closes, or, where a fork of it still holds the pipe, it is no longer our parent."""
    threading.Thread(target=_stop_at_end, args=(stream, stop), daemon=True).start()
    while not stop.wait(1.0):
        if os.getppid() != parent:
            stop.set()


def _stop_at_end(stream: IO[bytes], stop: threading.Event) -> None:
    stream.read()
    stop.set()


def work_until_signalled(settings: Settings) -> int:
    """The external worker: waits for its turn to be elected, then works until SIGTERM or SIGINT."""
    location = locate(settings)
    if location.path is None:
        raise SettingsError("no spool directory can be used: name one with spool_dir")
    root = location.path
    stop = threading.Event()
    stop_on([signal.SIGTERM, signal.SIGINT], stop)
    heap = _be_modest(settings)
    lock = WorkerLock(root)
    while not lock.acquire():
        if stop.wait(1.0):
            return 0
    try:
        work(settings, root, KeyRing.from_settings(settings, location.key_file), stop, after_step=heap.tidy)
    finally:
        lock.release()
    return 0


def settings_of(app: str) -> Settings:
    """The settings of the Turntrace at `module:attribute`.

    Raises:
        SettingsError: it cannot be imported or is none.
    """
    module, _, attribute = app.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"cannot import {app!r}: write `module:attribute`") from error
    if not isinstance(getattr(found, "settings", None), Settings):
        raise SettingsError(f"{app!r} is no Turntrace")
    return found.settings  # type: ignore[no-any-return]
