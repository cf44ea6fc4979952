"""`turntrace doctor`: what is wrong or risky with a set-up, each as one sentence with what to do."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from turntrace.errors import TurntraceError
from turntrace.settings import Settings
from turntrace.spool.directory import locate
from turntrace.storage import migrate
from turntrace.storage.database import Database


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `level` is ok, warning or error."""

    level: str
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; nothing is changed."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _database,
        _spool,
        _keys,
        _privacy,
        _panel,
        _server,
    )
    return [finding for check in checks for finding in check(settings)]


def _database(settings: Settings) -> Iterator[Finding]:
    database = Database(settings.database_url)
    try:
        migrate.check(database)
    except TurntraceError as error:
        yield Finding("error", f"database: {error}")
    else:
        yield Finding("ok", f"database: {database.name} is reached and at the newest revision")
    finally:
        database.close()


def _spool(settings: Settings) -> Iterator[Finding]:
    location = locate(settings)
    if location.path is None:
        yield Finding("error", "spool: no directory can be written to; turns not yet stored are lost with the process")
        return
    yield Finding("ok", f"spool: {location.path}")
    for warning in location.warnings:
        yield Finding("warning", f"spool: {warning}")


def _keys(settings: Settings) -> Iterator[Finding]:
    if settings.secret_key is None:
        text = "no secret_key: a key file is generated beside the spool; hosts that share a database need one key"
        yield Finding("warning", f"keys: {text}")
    else:
        yield Finding("ok", "keys: secret_key is set")


def _privacy(settings: Settings) -> Iterator[Finding]:
    if settings.content == "full":
        yield Finding("warning", "privacy: content=full stores unredacted text")
    elif settings.redaction == "off" and settings.content != "metadata":
        yield Finding("warning", "privacy: redaction=off stores texts as they are")
    else:
        yield Finding("ok", f"privacy: content={settings.content}, redaction={settings.redaction}")


def _panel(settings: Settings) -> Iterator[Finding]:
    if settings.panel_user or settings.panel_auth:
        yield Finding("ok", "panel: somebody can log in by the settings")
    else:
        yield Finding("ok", "panel: open only to accounts; make one with `turntrace users create NAME --role admin`")


def _server(settings: Settings) -> Iterator[Finding]:
    if "gevent.monkey" in sys.modules or "eventlet" in sys.modules:
        yield Finding("warning", "server: gevent or eventlet is patched in; use worker=external")
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "opt", {}).get("enable-threads"):
        yield Finding("error", "server: uWSGI runs without threads; start it with --enable-threads")
    if settings.worker == "thread" and Path("/.dockerenv").exists():
        yield Finding("ok", "server: the worker runs in a thread of the web process")
