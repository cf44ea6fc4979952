"""Turns on disk before retention deletes them: JSON lines, one file a day and kind, compressed when the day is over.

Erasure reaches them: what a person or a turn left in these files goes with the rows. One process at a time is at them,
by a lock in the directory: a file that is written anew would lose what somebody adds meanwhile.
"""

import fcntl
import gzip
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import orjson

from turntrace.records.erasure import Target
from turntrace.records.trace import Trace

OPEN: Final = ".jsonl"
PACKED: Final = ".jsonl.gz"
_LOCK: Final = ".lock"
_MODE: Final = 0o600
_TAIL: Final = 64 << 10


class Archive:
    """A directory of archived turns.

    A turn may be there twice, when a process died between writing and deleting: its `id` tells.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._is_alone = False  # this object holds the lock

    def write(self, kind: str, found: Iterable[Trace], *, at_us: int) -> None:
        """Add turns to the file of the day; they are on disk when this returns.

        Args:
            kind: `content` (texts went, numbers stay in the database) or `numbers` (all went).
        """
        lines = b"".join(_line(trace) for trace in found)
        if not lines:
            return
        day = datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d")
        with self.alone(), _appending(self._home / f"{kind}-{day}{OPEN}") as stream:
            _cut_torn(stream)
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())

    def pack(self, *, at_us: int) -> None:
        """Compress the files of days that are over."""
        day = datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d")
        if not self._home.is_dir():
            return
        with self.alone():
            for path in sorted(self._home.glob(f"*{OPEN}")):
                if not path.name.endswith(f"-{day}{OPEN}"):
                    with _lines(path) as lines:
                        _replace(path.with_name(path.name + ".gz"), lines)
                    path.unlink()

    def files(self) -> list[Path]:
        """The files, by name."""
        return sorted((*self._home.glob(f"*{OPEN}"), *self._home.glob(f"*{PACKED}")))

    def forget(self, target: Target, erased: Collection[str] = ()) -> int:
        """Take what an erasure is about out of every file; answers how many lines went.

        Args:
            erased: ids of turns that it has erased: those of judges name nobody.
        """
        if not self._home.is_dir():
            return 0
        with self.alone():
            return sum(_forget(path, target, frozenset(erased)) for path in self.files())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep everybody else away from the files. May be entered again inside; not for several threads.

        Whoever archives turns reads their rows inside: an erasure that deletes them meanwhile looks here afterwards.
        """
        if self._is_alone:
            yield
            return
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file of its own: network file systems lock no directory.
        descriptor = os.open(self._home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._is_alone = True
            yield
        finally:
            self._is_alone = False
            os.close(descriptor)


def _line(trace: Trace) -> bytes:
    return orjson.dumps({"record": "trace", "trace": trace}, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


@contextmanager
def _appending(path: Path) -> Iterator[IO[bytes]]:
    """The file for appending."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "r+b") as stream:
        yield stream


def _cut_torn(stream: IO[bytes]) -> None:
    """Take off a last line that a killed process left half: its turns are in the database still."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL)
        stream.seek(start)
        newline = stream.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    stream.seek(end)
    stream.truncate()


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    """The whole lines of a file."""
    with path.open("rb") as file, gzip.open(file) if path.name.endswith(PACKED) else file as stream:
        yield (line for line in stream if line.endswith(b"\n"))


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file anew, in one step for whoever looks."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as stream:
        if path.name.endswith(PACKED):
            with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=6) as packed:
                packed.writelines(lines)
        else:
            stream.writelines(lines)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


def _forget(path: Path, target: Target, erased: frozenset[str]) -> int:
    """Write a file anew without some lines, where it has any of them."""
    with _lines(path) as lines:
        gone = sum(_belongs(line, target, erased) for line in lines)
    if gone:
        with _lines(path) as lines:
            _replace(path, (line for line in lines if not _belongs(line, target, erased)))
    return gone


def _belongs(line: bytes, target: Target, erased: frozenset[str]) -> bool:
    trace = orjson.loads(line)["trace"]
    if trace["id"] in target.turn_ids or trace["id"] in erased:
        return True
    if target.until_us is not None and trace["started_at_us"] > target.until_us:
        return False
    named = {trace.get("user_id"), *(step.get("user_id") for step in trace.get("observations", ()))}
    conversation = (trace.get("session_id"), trace.get("user_id") or "")
    return not named.isdisjoint(target.user_ids) or conversation in target.sessions
