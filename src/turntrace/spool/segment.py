"""One segment file as its writer sees it: made, appended to by single writes, sealed."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final
from uuid import uuid4

from turntrace.failpoint import active as fail_points
from turntrace.failpoint import reach
from turntrace.keyring import KeyRing
from turntrace.spool.frame import FILE_HEAD_BYTES, SegmentCipher, SegmentHead
from turntrace.version import __version__

SUFFIX: Final = ".seg"
SEALED_MODE: Final = 0o400
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def segment_path(directory: Path, number: int) -> Path:
    """Where segment `number` lives."""
    return directory / f"{number:08d}{SUFFIX}"


class OpenSegment:
    """Not thread-safe: the writer's lock is held. Only one process ever appends to a segment."""

    __slots__ = ("_cipher", "_descriptor", "_sequence", "head", "opened_at", "path", "records", "size")

    def __init__(self, path: Path, keys: KeyRing, *, accepted_before: int, wall_us: int, now: float) -> None:
        """Make the file `path`.

        Raises:
            OSError: it cannot be made; nothing is left behind.
        """
        key_id = keys.current_id
        self.head = SegmentHead(
            uuid=uuid4().bytes,
            key_id=key_id,
            created_at_us=wall_us,
            accepted_before=accepted_before,
            library_version=__version__,
        )
        self.path = path
        self._cipher = SegmentCipher(keys, self.head.uuid, key_id)
        self._sequence = 0
        self.size = FILE_HEAD_BYTES
        self.records = 0
        self.opened_at = now
        reach("spool.before_open")
        self._descriptor = os.open(path, _FLAGS, 0o600)
        try:
            head = self.head.pack()
            if os.write(self._descriptor, head) != len(head):
                raise OSError(errno.ENOSPC, "short write")
        except OSError:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise

    def append(self, kind: int, flags: int, accepted: int, payload: bytes) -> int:
        """Append one record by one write; returns its bytes.

        Raises:
            OSError: it was not written. Where its beginning could not be cut off again, readers find the next record
                behind it.
        """
        self._sequence += 1  # also past a record that fails: a nonce is never used twice
        record = self._cipher.seal(kind, flags, self._sequence, accepted, payload)
        size = len(record)
        if fail_points:
            reach("spool.before_write")
        written = os.write(self._descriptor, record)
        if written != size:
            self._take_back(written)
            raise OSError(errno.ENOSPC, "short write")
        self.size += size
        self.records += 1
        if fail_points:
            reach("spool.after_write")
        return size

    def _take_back(self, written: int) -> None:
        """Cut off the beginning of a record. Its place comes from the file, not from our own count of bytes, which an
        asynchronous exception may have left behind: a wrong one would cut into a good record."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)

    def is_deleted(self) -> bool:
        """Whether somebody removed the file under us: what is written now would be lost with this process."""
        try:
            return os.fstat(self._descriptor).st_nlink == 0
        except OSError:
            return True

    def seal(self) -> None:
        """Nothing will be appended any more: readers see it by the mode, which needs no space on a full disk."""
        reach("spool.before_seal")
        with contextlib.suppress(OSError):  # a later segment, or our end, says the same
            os.fchmod(self._descriptor, SEALED_MODE)
        self.close()

    def discard(self) -> None:
        """Remove a segment that nothing was written to."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file without a word, as a forked child must."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
