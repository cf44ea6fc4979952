"""`turntrace doctor`: what is wrong or risky with a set-up, each as one sentence with what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from turntrace.errors import TurntraceError
from turntrace.settings import Settings
from turntrace.spool.counters import SURROUNDED, Counters, by_prefix
from turntrace.spool.directory import locate
from turntrace.spool.home import COUNTERS, PREFIX
from turntrace.storage import migrate
from turntrace.storage.database import Database
from turntrace.surroundings import SURROUNDINGS


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
    """What the application's own processes found out about their server: this one runs elsewhere."""
    root = locate(settings).path
    running = [Counters.read(path) for path in root.glob(f"{PREFIX}*/{COUNTERS}")] if root is not None else []
    found = {name for counters in running for name in by_prefix(counters, SURROUNDED)}
    for name in sorted(found & SURROUNDINGS.keys()):
        yield Finding("error" if name == "uwsgi" else "warning", f"server: {SURROUNDINGS[name]}")
    if running and not found:
        yield Finding("ok", f"server: {len(running)} {'process records' if len(running) == 1 else 'processes record'}")
