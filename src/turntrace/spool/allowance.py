"""How many bytes may still be written: the bound of the whole application, and the free space of the disk."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SPOOL_FULL: Final = "spool_full"
DISK_LOW: Final = "disk_low"
SURVEY_SECONDS: Final = 1.0
KEEP_FREE_BYTES: Final = 64 << 20
_LARGEST_RESERVE: Final = 64 << 20


class Allowance:
    """Own bytes are counted exactly; those of other processes are looked at once a second at the most.

    A part is kept back for turns that were accepted already, so that they can still end when new ones are refused.
    """

    __slots__ = ("_is_disk_low", "_max_bytes", "_reserve", "_root", "_scanned_at", "_surveyed_at", "_used")

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._reserve = min(_LARGEST_RESERVE, max_bytes // 8)
        self._used = 0
        self._is_disk_low = False
        self._surveyed_at = self._scanned_at = float("-inf")

    def refusal(self, size: int, *, is_first: bool) -> str | None:
        """Why `size` more bytes may not be written, or None."""
        room = self._max_bytes - self._used - size
        if room < (self._reserve if is_first else 0):
            return SPOOL_FULL
        return DISK_LOW if self._is_disk_low and is_first else None

    def room(self) -> int:
        """How many more bytes may be written whatever they are: none where `refusal` has to be asked."""
        return 0 if self._is_disk_low else self._max_bytes - self._used - self._reserve

    def spend(self, size: int) -> None:
        """Count bytes that were written."""
        self._used += size

    def survey(self, now: float, *, is_rotation: bool = False) -> None:
        """Look at the disk, and near the bound (or at a rotation) at all the files. Cheap when called too often."""
        if now - self._surveyed_at >= SURVEY_SECONDS:
            self._surveyed_at = now
            self._is_disk_low = _is_low(self._root)
        if now - self._scanned_at >= SURVEY_SECONDS and (is_rotation or self._used * 2 > self._max_bytes):
            self._scanned_at = now
            self._used = bytes_below(self._root)


def _is_low(root: Path) -> bool:
    try:
        disk = os.statvfs(root)
    except OSError:
        return False  # the write itself will tell
    return disk.f_bavail * disk.f_frsize < min(KEEP_FREE_BYTES, disk.f_blocks * disk.f_frsize // 10)


def bytes_below(root: Path) -> int:
    """Bytes of the files in `root` and in its directories."""
    return sum(_sizes(str(root), 2))


def _sizes(path: str, levels: int) -> Iterator[int]:
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a file that went in the meantime
                if entry.is_dir(follow_symlinks=False):
                    if levels > 1:
                        yield from _sizes(entry.path, levels - 1)
                else:
                    yield entry.stat(follow_symlinks=False).st_size
