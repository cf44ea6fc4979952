"""The command line `turntrace`: parse, call one function of the library, print. Fails with one clear line."""

import argparse
import getpass
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from turntrace import cli_money, cli_privacy
from turntrace.deferred import Deferred
from turntrace.errors import TurntraceError
from turntrace.settings import Settings
from turntrace.storage import audit, keys, leases, migrate, people, switches
from turntrace.storage.database import Database
from turntrace.storage.opening import open_database

if TYPE_CHECKING:
    from turntrace import assembly, doctor, scheduler
    from turntrace.storage import rotation
else:
    assembly, doctor, scheduler = (Deferred(f"turntrace.{name}") for name in ("assembly", "doctor", "scheduler"))
    rotation = Deferred("turntrace.storage.rotation")

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 where it failed, 2 where the words were wrong."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except TurntraceError as error:
        print(f"turntrace: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"turntrace: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    parser = argparse.ArgumentParser(prog="turntrace", description="Turntrace: see what your LLM features really do.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(subparsers)
    _add_db(subparsers)
    _add_worker(subparsers)
    _add_jobs(subparsers)
    _add_keys(subparsers)
    _add_users(subparsers)
    _add_switch(subparsers)
    cli_privacy.add(subparsers, _leaf, _settings, _database)
    cli_money.add(subparsers, _leaf, _group, _settings, _database)
    _leaf(subparsers, "doctor", _doctor, "Say what is wrong or risky with this set-up.")
    return parser


def _leaf(parent: Any, name: str, run: Command, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parent.add_parser(name, help=help_text, description=help_text)
    parser.add_argument("--database-url", help="SQLAlchemy URL; else TURNTRACE_DATABASE_URL, else ./turntrace.db")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def _group(parent: Any, name: str, help_text: str) -> Any:
    parser = parent.add_parser(name, help=help_text, description=help_text)
    return parser.add_subparsers(metavar="COMMAND", required=True)


def _settings(arguments: argparse.Namespace) -> Settings:
    overrides = {"database_url": arguments.database_url} if arguments.database_url else {}
    return Settings.from_environment(**overrides)


def _database(arguments: argparse.Namespace, *, check: bool = True) -> Database:
    database = open_database(_settings(arguments))
    if check:
        migrate.ensure_schema(database)
    return database


def _note(connection: Connection, action: str, target: str, **details: Any) -> None:
    """Into the audit log, in the transaction that does it."""
    now_us = _now_us()
    audit.append(connection, actor="command line", action=action, target=target, details=details or None, now_us=now_us)


def _now_us() -> int:
    return time.time_ns() // 1000


def _say(arguments: argparse.Namespace, data: Any, text: str) -> int:
    print(json.dumps(data) if arguments.json else text)
    return 0


# --- demo -----------------------------------------------------------------------------------------------------------


def _add_demo(parent: Any) -> None:
    parser = _leaf(
        parent, "demo", _demo, "Run the example bot with an offline model and drive conversations through it."
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--turns", type=int, default=240, help="turns to drive through it")
    parser.add_argument("--home", default=".demo", help="directory of the demo's database and spool")
    parser.add_argument("--exit", action="store_true", help="end when all turns are done")


def _demo(arguments: argparse.Namespace) -> int:
    # The example lies beside the package in a checkout, and inside it in a wheel.
    places = (Path(__file__).parents[2], Path(__file__).parent / "demo")
    home = next((place for place in places if (place / "example_app" / "demo.py").exists()), None)
    if home is None:
        raise TurntraceError("the example app is not installed with this package")
    sys.path.insert(0, str(home))
    try:
        demo = importlib.import_module("example_app.demo")
    except ModuleNotFoundError as error:
        raise TurntraceError(f"{error.name} is missing: pip install 'turntrace[example]'") from None
    words = ["--port", str(arguments.port), "--turns", str(arguments.turns), "--home", arguments.home]
    demo.main([*words, *(["--exit"] if arguments.exit else [])])
    return 0


# --- db -------------------------------------------------------------------------------------------------------------


def _add_db(parent: Any) -> None:
    group = _group(parent, "db", "The tables of Turntrace.")
    upgrade = _leaf(group, "upgrade", _db_upgrade, "Make the tables, or bring them to this release.")
    upgrade.add_argument("revision", nargs="?", default="head")
    downgrade = _leaf(group, "downgrade", _db_downgrade, "Go back to an earlier revision; `base` drops the tables.")
    downgrade.add_argument("revision")
    _leaf(group, "current", _db_current, "Print the revision of the database.")
    _leaf(group, "check", _db_check, "Fail unless the database is at the newest revision.")
    sql = _leaf(group, "sql", _db_sql, "Print the SQL that `upgrade` would run.")
    sql.add_argument("revision", nargs="?", default="head")


def _db_upgrade(arguments: argparse.Namespace) -> int:
    revision = migrate.upgrade(_database(arguments, check=False), arguments.revision)
    return _say(arguments, {"revision": revision}, f"the database is at revision {revision}")


def _db_downgrade(arguments: argparse.Namespace) -> int:
    revision = migrate.downgrade(_database(arguments, check=False), arguments.revision)
    return _say(arguments, {"revision": revision}, f"the database is at revision {revision or 'base'}")


def _db_current(arguments: argparse.Namespace) -> int:
    revision = migrate.current(_database(arguments, check=False))
    return _say(arguments, {"revision": revision}, revision or "none: run `turntrace db upgrade`")


def _db_check(arguments: argparse.Namespace) -> int:
    migrate.check(_database(arguments, check=False))
    return _say(arguments, {"is_current": True}, "the database is at the newest revision")


def _db_sql(arguments: argparse.Namespace) -> int:
    sql = migrate.sql(_database(arguments, check=False), arguments.revision)
    return _say(arguments, {"sql": sql}, sql)


# --- worker ---------------------------------------------------------------------------------------------------------


def _add_worker(parent: Any) -> None:
    parser = _leaf(parent, "worker", _worker, "Work on the spool until stopped (setting worker=external).")
    parser.add_argument("--app", help="`module:attribute` of the application's Turntrace; else TURNTRACE_* variables")
    parser.add_argument("--from-pipe", action="store_true", help=argparse.SUPPRESS)


def _worker(arguments: argparse.Namespace) -> int:
    if arguments.from_pipe:
        return assembly.work_from_pipe(sys.stdin.buffer)
    if arguments.app:
        return assembly.work_until_signalled(assembly.settings_of(arguments.app))
    return assembly.work_until_signalled(_settings(arguments))


# --- jobs -----------------------------------------------------------------------------------------------------------


def _add_jobs(parent: Any) -> None:
    group = _group(parent, "jobs", "What runs on a timer.")
    _leaf(group, "list", _jobs_list, "List the jobs with their interval and last run.")
    run = _leaf(group, "run", _jobs_run, "Run a job now.")
    run.add_argument("name")


def _jobs(arguments: argparse.Namespace) -> "tuple[scheduler.Job, ...]":
    settings = _settings(arguments)
    return assembly.jobs(settings, cli_privacy.keys_of(settings))


def _jobs_list(arguments: argparse.Namespace) -> int:
    jobs = _jobs(arguments)
    with _database(arguments).read() as connection:
        last = {job.name: leases.last_slot(connection, job.name) for job in jobs}
    data = [
        {
            "name": job.name,
            "interval_seconds": job.interval_seconds,
            "help": job.help,
            "last_slot_at_us": last[job.name],
        }
        for job in jobs
    ]
    lines = [f"{job.name}  every {job.interval_seconds} s  {job.help}" for job in jobs]
    return _say(arguments, data, "\n".join(lines))


def _jobs_run(arguments: argparse.Namespace) -> int:
    counts = dict(scheduler.job(arguments.name, _jobs(arguments)).run(_database(arguments)))
    return _say(arguments, counts, ", ".join(f"{name}: {count}" for name, count in counts.items()))


# --- keys -----------------------------------------------------------------------------------------------------------


def _add_keys(parent: Any) -> None:
    group = _group(parent, "keys", "Keys of the REST API, and the rotation of content keys.")
    create = _leaf(group, "create", _keys_create, "Make a key; it is shown once.")
    create.add_argument("--name", required=True)
    create.add_argument("--scope", action="append", required=True, choices=keys.SCOPES)
    _leaf(group, "list", _keys_list, "List the keys, without their secrets.")
    revoke = _leaf(group, "revoke", _keys_revoke, "Make a key useless, within 5 s everywhere.")
    revoke.add_argument("id")
    text = "Encrypt stored content and judges' API keys anew with the current key; content in clear where it is off."
    _leaf(group, "rotate", _keys_rotate, text)


def _keys_create(arguments: argparse.Namespace) -> int:
    with _database(arguments).write() as connection:
        made = keys.create(connection, name=arguments.name, scopes=tuple(arguments.scope), now_us=_now_us())
        _note(connection, "key.create", made.id, scopes=list(made.scopes))
    data = {"id": made.id, "key": made.key, "scopes": list(made.scopes)}
    return _say(arguments, data, f"{made.key}\nid {made.id}, scopes {', '.join(made.scopes)}; it is not shown again")


def _keys_list(arguments: argparse.Namespace) -> int:
    with _database(arguments).read() as connection:
        found = keys.list_keys(connection)
    data: list[dict[str, Any]] = [
        {"id": k.id, "name": k.name, "scopes": list(k.scopes), "is_revoked": k.is_revoked} for k in found
    ]
    lines = [f"{k['id']}  {k['name']}  {','.join(k['scopes'])}{'  revoked' if k['is_revoked'] else ''}" for k in data]
    return _say(arguments, data, "\n".join(lines) or "no keys")


def _keys_revoke(arguments: argparse.Namespace) -> int:
    with _database(arguments).write() as connection:
        keys.revoke(connection, arguments.id, now_us=_now_us())
        _note(connection, "key.revoke", arguments.id)
    return _say(arguments, {"id": arguments.id, "is_revoked": True}, f"{arguments.id} is revoked")


def _keys_rotate(arguments: argparse.Namespace) -> int:
    done: dict[str, int] = {}
    ring = cli_privacy.keys_of(_settings(arguments))
    for done in rotation.rotate(_database(arguments), now_us=_now_us(), keys=ring):
        print(f"\r{sum(done.values()):,} rows", end="", file=sys.stderr)
    print(file=sys.stderr)
    lines = [f"{name}: {count}" for name, count in done.items() if count]
    return _say(arguments, done, "\n".join(lines) or "every row is as it should be")


# --- users ----------------------------------------------------------------------------------------------------------


def _add_users(parent: Any) -> None:
    group = _group(parent, "users", "Accounts of the panel.")
    create = _leaf(group, "create", _users_create, "Make an account.")
    create.add_argument("name")
    create.add_argument("--role", required=True, choices=people.ROLES)
    create.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    _leaf(group, "list", _users_list, "List the accounts.")
    disable = _leaf(group, "disable", _users_disable, "Close an account and end its sessions.")
    disable.add_argument("name")


def _users_create(arguments: argparse.Namespace) -> int:
    password = sys.stdin.readline().rstrip("\n") if arguments.password_stdin else _ask_password()
    with _database(arguments).write() as connection:
        people.create(connection, arguments.name, role=arguments.role, password=password, now_us=_now_us())
        _note(connection, "account.create", arguments.name, role=arguments.role)
    data = {"name": arguments.name, "role": arguments.role}
    return _say(arguments, data, f"{arguments.name} may log in as {arguments.role}")


def _ask_password() -> str:
    try:
        first, second = getpass.getpass("Password: "), getpass.getpass("Again: ")
    except EOFError:
        raise TurntraceError("no password was given: write it to standard input with --password-stdin") from None
    if first != second:
        raise TurntraceError("the two passwords differ")
    return first


def _users_list(arguments: argparse.Namespace) -> int:
    with _database(arguments).read() as connection:
        found = people.list_accounts(connection)
    data = [{"name": a.name, "role": a.role, "is_disabled": a.is_disabled} for a in found]
    lines = [f"{a['name']}  {a['role']}{'  disabled' if a['is_disabled'] else ''}" for a in data]
    return _say(arguments, data, "\n".join(lines) or "no accounts: run `turntrace users create NAME --role admin`")


def _users_disable(arguments: argparse.Namespace) -> int:
    with _database(arguments).write() as connection:
        people.disable(connection, arguments.name, now_us=_now_us())
        _note(connection, "account.disable", arguments.name)
    return _say(arguments, {"name": arguments.name, "is_disabled": True}, f"{arguments.name} is disabled")


# --- switch ---------------------------------------------------------------------------------------------------------


def _add_switch(parent: Any) -> None:
    text = "Switch recording off or on in every process of the application, within 5 s; without a word: say which."
    _leaf(parent, "switch", _switch, text).add_argument("state", nargs="?", choices=("on", "off"))


def _switch(arguments: argparse.Namespace) -> int:
    database = _database(arguments)
    if arguments.state is not None:
        value = "1" if arguments.state == "on" else "0"
        with database.write() as connection:
            switches.put(connection, switches.ENABLED, value, now_us=_now_us(), author="command line")
            _note(connection, "settings.switch", arguments.state)
    with database.read() as connection:
        is_on = switches.get(connection, switches.ENABLED) != "0"
    return _say(arguments, {"is_on": is_on}, f"recording is {'on' if is_on else 'off'}")


# --- doctor ---------------------------------------------------------------------------------------------------------

_MARKS: Final = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def _doctor(arguments: argparse.Namespace) -> int:
    found = doctor.examine(_settings(arguments))
    lines = [f"{_MARKS[finding.level]}  {finding.text}" for finding in found]
    data = [{"level": finding.level, "text": finding.text} for finding in found]
    _say(arguments, data, "\n".join(lines))
    return 1 if any(finding.level == "error" for finding in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
