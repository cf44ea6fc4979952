"""What the worker tells the other processes of the application, in one small file beside the spool's segments.

The database may be away when it matters most, so it is not told there.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from turntrace.spool.counters import Counters, balance
from turntrace.spool.home import PREFIX, counter_files

FILE = "worker.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The worker as it was at `at_us` (Unix microseconds).

    `in_spool` turns were accepted and not yet stored when each process had accepted `accepted` turns, drops left out.
    `read` says how many bytes each process had spooled when there was last nothing left to read and all of it was
    stored: frames that are no turn's first (late ones, scores, what came over OTLP) are in no count of turns.
    `skipped` counts what could not be read in the spool, `last_error` is the type of the last fault.
    """

    at_us: int
    pid: int
    version: str = ""
    in_spool: int = 0
    accepted: Mapping[str, int] = field(default_factory=dict)
    read: Mapping[str, int] = field(default_factory=dict)
    open_turns: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    last_error: str | None = None
    last_error_at_us: int | None = None
    batches: int = 0
    turns: int = 0


def write_status(root: Path, status: Status) -> None:
    """Replace the file; a spool that cannot be written to leaves it as it was."""
    new = root / f".{FILE}.{status.pid}"
    try:
        new.write_bytes(orjson.dumps(asdict(status)))
        os.replace(new, root / FILE)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()


def read_status(root: Path) -> Status | None:
    """What the worker said last, or None."""
    try:
        status = Status(**orjson.loads((root / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return status if isinstance(status.accepted, dict) else None  # written by another release


def live_counts(root: Path) -> dict[str, tuple[int, dict[str, int]]]:
    """Turns accepted, and dropped by reason, of every process with a directory below `root`, as of this moment."""
    found = {}
    for path in counter_files(root):
        accepted, dropped, _ = balance(Counters.read(path))
        found[path.parent.name.removeprefix(PREFIX)] = accepted, {k: n for k, n in dropped.items() if n}
    return found


def in_spool(root: Path, live: Mapping[str, tuple[int, Mapping[str, int]]] | None = None) -> int:
    """Turns below `root` that are not stored yet: by the worker's last word and what has been spooled since."""
    status = read_status(root)  # before the counts, so that a turn in between is counted rather than missed
    counts = live_counts(root) if live is None else live
    spooled = {process: accepted - sum(dropped.values()) for process, (accepted, dropped) in counts.items()}
    if status is None:
        return sum(spooled.values())
    # A process that is gone was worked off; one killed between a write and its count may seem to have gone back.
    since = sum(max(0, n - status.accepted.get(process, 0)) for process, n in spooled.items())
    return status.in_spool + since


def is_read(root: Path) -> bool:
    """Whether every frame below `root`, of whatever kind, is stored: nothing was spooled since the worker was idle."""
    status = read_status(root)
    known = status.read if status is not None else {}
    for path in counter_files(root):
        written = Counters.read(path).get("bytes_written", 0)
        if written > known.get(path.parent.name.removeprefix(PREFIX), 0):
            return False
    return True
