"""What the runtime hands to the API."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from turntrace.jobs.workbench import Workbench
from turntrace.keyring import KeyRing
from turntrace.pipeline.price import Pricer
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage.database import Database


def _as_written(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Everything the API needs from outside.

    `loss` answers the whole balance, the live spool included; `status` the worker's state; `suspend` is a context
    manager in which nothing is recorded; `redact_text` redacts free text of people before it is stored (it may raise:
    then nothing is stored); `workbench` checks and tries evaluators; `pricer` gives the prices in force.
    """

    settings: Settings
    database: Database
    keyring: KeyRing | None = None
    loss: Callable[[], Loss]
    status: Callable[[], Mapping[str, Any]] = dict
    suspend: Callable[[], AbstractContextManager[Any]] = nullcontext
    redact_text: Callable[[str], str] = _as_written
    workbench: Workbench | None = None
    pricer: Callable[[Connection], Pricer] = lambda connection: Pricer()
