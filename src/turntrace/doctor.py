"""`turntrace doctor`: what is wrong or risky with a set-up, each as one sentence with what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from turntrace.errors import SettingsError, TurntraceError
from turntrace.integrations.pricefile import read_file
from turntrace.records.evaluator import EVALUATION
from turntrace.settings import Settings
from turntrace.spool.counters import SURROUNDED, Counters, by_prefix
from turntrace.spool.directory import locate
from turntrace.spool.home import counter_files
from turntrace.storage import migrate, residence, strays
from turntrace.storage.database import Database
from turntrace.storage.opening import open_database
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
        _stores,
        _spool,
        _keys,
        _privacy,
        _files,
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
        yield from _packets(database, settings.max_turn_bytes)
    finally:
        database.close()


def _packets(database: Database, turn_bytes: int) -> Iterator[Finding]:
    """MariaDB hangs up on a larger packet, which looks as if it were away: the turn would be tried again for ever."""
    if database.dialect != "mariadb":
        return
    with database.read() as connection:
        packet = int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())
    wanted = 2 * turn_bytes  # content that does not deflate, and the statement around it
    if packet < wanted:
        advice = f"set it to {wanted} or more there, or max_turn_bytes to {packet // 2} or less here"
        yield Finding("error", f"database: max_allowed_packet is {packet}, too small for the largest turn: {advice}")


def _stores(settings: Settings) -> Iterator[Finding]:
    """The databases of `content_urls`, and what they cannot be for."""
    database = open_database(settings)
    try:
        for name in _unnamed(database):
            text = "blobs are to be deleted in a store that content_urls lacks; erasures of their turns wait for it"
            yield Finding("error", f"content of {name}: {text}")
        if not settings.content_urls:
            return
        for name, store in database.stores.items():
            yield _store(name, store)
        if EVALUATION not in database.stores:
            text = f"judges' turns quote what they judge: name {EVALUATION} in content_urls too"
            yield Finding("warning", f"content of environments: {text}")
    finally:
        database.close()


def _store(name: str, store: Database) -> Finding:
    try:
        residence.look(store)
    except TurntraceError as error:
        return Finding("error", f"content of {name}: {error}")
    return Finding("ok", f"content of {name}: {store.name} is reached and has its table")


def _unnamed(database: Database) -> list[str]:
    try:
        return strays.unnamed(database)
    except TurntraceError:
        return []  # said of the database already


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
    if settings.redaction == "ner" and not _is_installed(settings.ner_model or ""):
        text = f"ner_model {settings.ner_model} cannot be imported: texts are withheld. Install it, and turntrace[ner]"
        yield Finding("error", f"privacy: {text}")
    elif settings.content == "full":
        yield Finding("warning", "privacy: content=full stores unredacted text")
    elif settings.redaction == "off" and settings.content != "metadata":
        yield Finding("warning", "privacy: redaction=off stores texts as they are")
    else:
        yield Finding("ok", f"privacy: content={settings.content}, redaction={settings.redaction}")


def _is_installed(model: str) -> bool:
    try:
        return all(find_spec(name) is not None for name in ("spacy", model))
    except (ImportError, ValueError):  # of a package that a dotted name begins with
        return False


def _files(settings: Settings) -> Iterator[Finding]:
    """Files that settings name: worker and panel read them at their start."""
    try:
        if settings.prices_file:
            read_file(Path(settings.prices_file))
    except SettingsError as error:
        yield Finding("error", f"{error}; no worker starts, and no panel")
    try:
        settings.destinations()
    except SettingsError as error:
        yield Finding("error", f"{error}; nothing is sent on")


def _panel(settings: Settings) -> Iterator[Finding]:
    if settings.panel_user or settings.panel_auth:
        yield Finding("ok", "panel: somebody can log in by the settings")
    else:
        yield Finding("ok", "panel: open only to accounts; make one with `turntrace users create NAME --role admin`")


def _server(settings: Settings) -> Iterator[Finding]:
    """What the application's own processes found out about their server: this one runs elsewhere."""
    root = locate(settings).path
    running = [Counters.read(path) for path in counter_files(root)] if root is not None else []
    found = {name for counters in running for name in by_prefix(counters, SURROUNDED)}
    for name in sorted(found & SURROUNDINGS.keys()):
        yield Finding("error" if name == "uwsgi" else "warning", f"server: {SURROUNDINGS[name]}")
    if running and not found:
        yield Finding("ok", f"server: {len(running)} {'process records' if len(running) == 1 else 'processes record'}")
