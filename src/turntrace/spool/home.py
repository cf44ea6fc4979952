"""The directory of one capturing process: `p-<id>/` with the lock that tells it is alive, and its counters.

It appears under its name complete: made beside it, locked, then renamed.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from turntrace.spool.counters import Counters
from turntrace.spool.segment import SUFFIX

PREFIX: Final = "p-"
UNBORN: Final = ".new-"
LOCK: Final = "lock"
COUNTERS: Final = "counters"


def counter_files(root: Path) -> list[Path]:
    """The counters of every process that spools below `root`. Directories may go at any moment: what is gone is left
    out."""
    return [path for home in _homes(root) if (path := home / COUNTERS).exists()]


def segment_sizes(root: Path) -> list[int]:
    """Bytes of every segment below `root`; what is worked off meanwhile is left out."""
    return [size for home in _homes(root) for size in _sizes(home)]


def _homes(root: Path) -> list[Path]:
    try:
        return sorted(root / name for name in os.listdir(root) if name.startswith(PREFIX))
    except OSError:
        return []


def _sizes(home: Path) -> Iterator[int]:
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    yield entry.stat(follow_symlinks=False).st_size


class ProcessHome:
    """Held for life by the process that made it. Not thread-safe: the writer's lock is held."""

    def __init__(self, root: Path, counters: Counters) -> None:
        self._root = root
        self._counters = counters
        self._lock = -1
        self.process_id = secrets.token_hex(8)

    @property
    def path(self) -> Path:
        """The directory, which may not exist yet, or not any more."""
        return self._root / f"{PREFIX}{self.process_id}"

    @property
    def is_open(self) -> bool:
        """Whether this process has made its directory."""
        return self._lock >= 0

    def ensure(self) -> None:
        """Make the directory, or whatever of it somebody removed; counters go on from their present values.

        Raises:
            OSError: it cannot be made.
        """
        if self.is_open and self._is_whole():
            return
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.is_dir():
            self._repair()
        else:
            self._make()

    def _is_whole(self) -> bool:
        return os.fstat(self._lock).st_nlink > 0 and _exists(self.path / LOCK) and _exists(self.path / COUNTERS)

    def _make(self) -> None:
        unborn = self._root / f"{UNBORN}{secrets.token_hex(8)}"
        unborn.mkdir(mode=0o700)
        try:
            lock = _locked(unborn / LOCK)
            try:
                self._counters.bind(unborn / COUNTERS)
                unborn.rename(self.path)
            except OSError:
                os.close(lock)
                raise
        except OSError:
            shutil.rmtree(unborn, ignore_errors=True)
            raise
        self._take_lock(lock)

    def _repair(self) -> None:
        if not self.is_open or os.fstat(self._lock).st_nlink == 0 or not _exists(self.path / LOCK):
            fresh = self.path / f"{UNBORN}{LOCK}"
            fresh.unlink(missing_ok=True)
            lock = _locked(fresh)
            fresh.replace(self.path / LOCK)
            self._take_lock(lock)
        if not _exists(self.path / COUNTERS):
            self._counters.bind(self.path / COUNTERS)

    def _take_lock(self, descriptor: int) -> None:
        former, self._lock = self._lock, descriptor
        if former >= 0:
            os.close(former)

    def leave(self) -> None:
        """Let go: from now on the directory may be adopted.

        Only by `close`, never by LOCK_UN: in a forked child that would free the parent's lock.
        """
        self._counters.close()
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = -1

    def leave_to_parent(self) -> None:
        """In a forked child: forget the parent's directory, and have a name of our own."""
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = -1
        self._counters.reset_after_fork()
        self.process_id = secrets.token_hex(8)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _exists(path: Path) -> bool:
    return os.path.lexists(path)
