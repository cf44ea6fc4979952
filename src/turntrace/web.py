"""The web side of a Turntrace: panel and API over the database, and what they are told about this process."""

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from starlette.types import ASGIApp

from turntrace import api, panel
from turntrace.api import portability
from turntrace.api.context import ApiContext
from turntrace.api.otlp import Receiver, ReceiverContext
from turntrace.errors import TurntraceError
from turntrace.evaluating import workbench
from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.integrations.pricefile import Prices
from turntrace.keyring import KeyRing
from turntrace.panel.context import PanelContext
from turntrace.pipeline.redact import TraceRedactor
from turntrace.pipeline.redact.trial import Trial, try_text
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.spool.directory import Location, WorkerLock
from turntrace.spool.home import segment_sizes
from turntrace.storage import migrate
from turntrace.storage.opening import open_database
from turntrace.storage.queries import loss as losses
from turntrace.tracing.context import suspended
from turntrace.tracing.guard import Guard
from turntrace.tracing.recorder import Recorder as RecordsTurns
from turntrace.tracing.recorder import emit
from turntrace.version import __version__
from turntrace.worker.comment import TAG_PURPOSE, redacted_text
from turntrace.worker.status import in_spool, live_counts, read_status
from turntrace.worker.vitals import read_vitals


class Spool(Protocol):
    """What the receiver asks the spool of this process."""

    def refusal(self, size: int) -> str | None: ...


class Recorder(RecordsTurns, Protocol):
    """What the web side asks the recorder of this process."""

    guard: Guard
    location: Location | None
    keys: KeyRing | None

    @property
    def spool(self) -> Spool | None: ...
    def start(self) -> None: ...
    def warnings(self) -> tuple[str, ...]: ...


class Web:
    """Made at the first request of the panel or API in a process."""

    def __init__(self, settings: Settings, recorder: Recorder, engine: Any = None) -> None:
        self.settings, self.recorder = settings, recorder
        recorder.start()
        self.database = open_database(settings, engine)
        self._analyzer: PresidioAnalyzer | None = None
        self._redactor: TraceRedactor | None = None
        self._redactor_lock = threading.Lock()
        # The panel says what is wrong on every page; a host's database is never migrated by ourselves.
        with contextlib.suppress(TurntraceError):
            migrate.ensure_schema(self.database)

    def build_panel(self) -> ASGIApp:
        """The panel with the REST API inside."""
        keys = self.recorder.keys or KeyRing.from_settings(self.settings, None)
        bench = workbench(self.settings, keys)
        context = ApiContext(
            settings=self.settings,
            database=self.database,
            keyring=keys,
            loss=self.loss,
            status=self.status,
            suspend=suspended,
            redact_text=self.redact_text,
            workbench=bench,
            pricer=Prices(self.settings),
        )
        return panel.build(
            PanelContext(
                settings=self.settings,
                database=self.database,
                keyring=keys,
                loss=self.loss,
                status=self.status,
                suspend=suspended,
                api=api.build(context),
                otlp=self._receiver(),
                redact_text=self.redact_text,
                try_text=self.try_text,
                workbench=bench,
                export_subject=self._export_subject,
                pricer=Prices(self.settings),
            )
        )

    def _export_subject(self, user_ids: tuple[str, ...], is_zip: bool) -> Iterator[bytes]:
        found = portability.records(self.database, user_ids)
        return portability.archive(found) if is_zip else portability.lines(found)

    def _receiver(self) -> ASGIApp:
        return Receiver(
            ReceiverContext(
                database=self.database,
                # Which frame is a turn's first shows only where all that came of it is known: none is marked.
                write=lambda kind, payload: emit(self.recorder, kind, payload, is_first=False),
                refusal=self._refusal,
                suspend=suspended,
            )
        )

    def _refusal(self, size: int) -> str | None:
        """Why the spool should not be given so many bytes over OTLP, or None."""
        self.recorder.start()
        spool = self.recorder.spool
        return "recording is switched off" if spool is None else spool.refusal(size)

    @property
    def _root(self) -> Path | None:
        return self.recorder.location.path if self.recorder.location else None

    def loss(self) -> Loss:
        """The whole balance: the database's part, the living processes' counters and the spool."""
        live = live_counts(self._root) if self._root else {}
        waiting = in_spool(self._root, live) if self._root else 0
        with self.database.read() as connection:
            return losses.balance(connection, live, waiting)

    def status(self) -> Mapping[str, Any]:
        """This process and its worker, for the System page."""
        found: dict[str, Any] = {
            "version": __version__,
            "pid": os.getpid(),
            "warnings": self.recorder.warnings(),
            "faults": self.recorder.guard.faults(),
        }
        root = self._root
        if root is not None:
            found["spool"] = _spool(root, self.settings.spool_max_bytes)
            found["vitals"] = read_vitals(root)
            found |= _worker(root, self.settings.worker)
        return found

    def try_text(self, text: str, route: str) -> Trial:
        """What would be stored of a text, by an analysing process of its own that ends with the answer."""
        analyzer = build_analyzer(self.settings)
        try:
            return try_text(self.settings, analyzer, text, key=secrets.token_bytes(32), route=route)
        finally:
            if analyzer is not None:
                analyzer.close()

    def redact_text(self, text: str) -> str:
        """What people write about turns, redacted as turns are. Loads Presidio at the first use."""
        if self.settings.redaction == "off":
            return text
        with self._redactor_lock:
            if self._redactor is None:
                key = (self.recorder.keys or KeyRing.from_settings(self.settings, None)).derive(TAG_PURPOSE)
                self._analyzer = build_analyzer(self.settings)
                self._redactor = TraceRedactor.of(self.settings, self._analyzer, key=key)
            return redacted_text(self._redactor, text, scope="comment")

    def close(self) -> None:
        """End the process that redacts what people write; the next text starts another."""
        with self._redactor_lock:
            analyzer, self._analyzer, self._redactor = self._analyzer, None, None
        if analyzer is not None:
            analyzer.close()


def _spool(root: Path, max_bytes: int) -> dict[str, Any]:
    sizes = segment_sizes(root)
    return {
        "path": str(root),
        "bytes": sum(sizes),
        "max_bytes": max_bytes,
        "segments": len(sizes),
        "unread": in_spool(root),
    }


def _worker(root: Path, mode: str) -> dict[str, Any]:
    # By its lock, not by its pid: that may be another's since, or belong to another container.
    is_alive = WorkerLock(root).is_held_elsewhere()
    status = read_status(root)
    if status is None:
        return {"worker": {"mode": mode, "is_alive": is_alive}}
    found: dict[str, Any] = {
        "worker": {
            "mode": mode,
            "is_alive": is_alive,
            "heartbeat_at_us": status.at_us,
            "pid": status.pid,
            "version": status.version,
            "open_turns": status.open_turns,
            "skipped": dict(status.skipped),
        }
    }
    if status.last_error is not None:
        found["last_error"] = {"type": status.last_error, "at_us": status.last_error_at_us, "where": "worker"}
    return found
