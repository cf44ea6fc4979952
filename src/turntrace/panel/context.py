"""What the panel needs of the application it lives in; the runtime fills it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from starlette.types import ASGIApp

from turntrace.jobs.workbench import Workbench
from turntrace.keyring import KeyRing
from turntrace.panel.labelled import Labelled
from turntrace.pipeline.price import Pricer
from turntrace.pipeline.redact.trial import Trial
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage.database import Database


@dataclass(frozen=True, kw_only=True)
class PanelContext:
    """Everything the panel is given.

    `status()` describes this process; the System page shows the keys `warnings` (texts), `spool`
    (`path bytes max_bytes segments unread`), `worker` (`mode is_alive heartbeat_at_us behind_us`), `last_error`
    (`type at_us where`), `version` and `pid`, each where present. `suspend()` switches recording off inside it.
    `api` is mounted at `/api/v1`, `otlp` at `/otlp`; both do their own authentication by keys. `redact_text` is
    applied to what people write about turns; `try_text` says what would be stored of a text on a route;
    `workbench` checks and tries evaluators.
    `export_subject(user_ids, is_zip)` writes everything held about a person.
    `pricer(connection)` gives the prices in force; none: the bundled table alone.
    """

    settings: Settings
    database: Database
    keyring: KeyRing
    loss: Callable[[], Loss]
    status: Callable[[], Mapping[str, Any]]
    suspend: Callable[[], AbstractContextManager[Any]]
    api: ASGIApp | None = None
    otlp: ASGIApp | None = None
    redact_text: Callable[[str], str] | None = None
    try_text: Callable[[str, str], Trial] | None = None
    workbench: Workbench | None = None
    export_subject: Callable[[tuple[str, ...], bool], Iterator[bytes]] | None = None
    pricer: Callable[[Connection], Pricer] = lambda connection: Pricer()
    labelled: Labelled = field(default_factory=Labelled)
