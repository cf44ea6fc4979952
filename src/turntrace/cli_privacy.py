"""Commands about people's data: `erase` and `prune`."""

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turntrace.deferred import Deferred
from turntrace.errors import InvalidInput, TurntraceError
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Receipt
from turntrace.settings import Settings
from turntrace.spool.directory import locate
from turntrace.storage.database import Database

if TYPE_CHECKING:
    from turntrace import privacy
    from turntrace.jobs import retain
else:
    privacy, retain = Deferred("turntrace.privacy"), Deferred("turntrace.jobs.retain")

Leaf = Callable[..., argparse.ArgumentParser]
OpenSettings = Callable[[argparse.Namespace], Settings]
OpenDatabase = Callable[[argparse.Namespace], Database]


def keys_of(settings: Settings) -> KeyRing:
    """The key ring of these settings, as the application's processes have it."""
    return KeyRing.from_settings(settings, locate(settings).key_file)


def add(parent: Any, leaf: Leaf, settings: OpenSettings, database: OpenDatabase) -> None:
    """Add the commands to the command line.

    Args:
        leaf: makes a command.
        settings, database: of the words of a command.
    """
    text = "Erase everything of a person that began until now, of one session, or one trace."
    parser = leaf(parent, "erase", lambda words: _erase(words, settings(words), database(words)), text)
    parser.add_argument("user", nargs="?", help="id of the user as the application knows it")
    parser.add_argument("--session", help="id of a session (USER: only of this user)")
    parser.add_argument("--trace", help="id of a turn, or W3C trace id")
    parser.add_argument("--dry-run", action="store_true", help="count what would go, change nothing")
    parser.add_argument("--suppress", action="store_true", help="refuse also what the person does from now on")
    parser.add_argument("--receipt", metavar="ID", help="print the receipt of an erasure, as it stands now")
    parser.add_argument("--verify", metavar="FILE", help="check the signature of a receipt kept as JSON")
    text = "Delete what retention would delete now, until nothing is left."
    prune = leaf(parent, "prune", lambda words: _prune(words, settings(words), database(words)), text)
    prune.add_argument("--dry-run", action="store_true", help="count what would go, change nothing")


def _prune(words: argparse.Namespace, settings: Settings, database: Database) -> int:
    rules = settings.retention_rules()
    with closing(database):
        if words.dry_run:
            counts = retain.rehearse(database, rules=rules)
        else:
            counts = retain.retain(
                database, rules=rules, archive_dir=settings.archive_dir, seconds=float("inf"), tell=_tell
            )
    shown = {name: number for name, number in counts.items() if name != "left"}
    told = ", ".join(f"{name} {number:,}" for name, number in sorted(shown.items())) or "nothing"
    print(json.dumps(shown) if words.json else f"{'would delete' if words.dry_run else 'deleted'}: {told}")
    return 0


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def _erase(words: argparse.Namespace, settings: Settings, database: Database) -> int:
    with closing(privacy.Privacy(database, keys_of(settings), archive_dir=settings.archive_dir)) as tool:
        if words.verify:
            return _verify(words, tool)
        receipt = tool.receipt(words.receipt) if words.receipt else _carried_out(words, tool)
    print(json.dumps(receipt.document()) if words.json else _told(receipt))
    return 0


def _carried_out(words: argparse.Namespace, tool: "privacy.Privacy") -> Receipt:
    options: dict[str, Any] = {"dry_run": words.dry_run, "actor": f"command line {_person()}"}
    if sum(bool(word) for word in (words.trace, words.session, words.user and not words.session)) != 1:
        raise InvalidInput("name one of USER, --session and --trace")
    # Somebody waits at a terminal: until it is done.
    options["timeout_seconds"] = float("inf")
    if words.trace:
        return tool.erase_trace(words.trace, **options)
    if words.session:
        return tool.erase_session(words.session, user_id=words.user, **options)
    return tool.erase_subject(words.user, suppress=words.suppress, **options)


def _person() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def _told(receipt: Receipt) -> str:
    counts = ", ".join(f"{name} {number:,}" for name, number in sorted(receipt.counts.items())) or "nothing"
    if receipt.is_dry_run:
        return f"would erase: {counts}"
    if not receipt.is_finished:
        return f"erasure {receipt.id} is {receipt.status}; so far: {counts}"
    physical = receipt.verification.get("physical")
    return f"erased: {counts}\nreceipt {receipt.id}, verified: no row is left; bytes in the file: {physical}"


def _verify(words: argparse.Namespace, tool: "privacy.Privacy") -> int:
    try:
        found = json.loads(sys.stdin.read() if words.verify == "-" else Path(words.verify).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"{words.verify} holds no receipt as JSON")
    if not tool.is_valid(found):
        raise TurntraceError("this receipt was changed, or signed with a key that is not in the ring")
    print(json.dumps({"is_valid": True}) if words.json else "the receipt is ours, and was not changed")
    return 0
