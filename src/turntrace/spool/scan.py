"""One segment file as its reader sees it: intact records in order, whatever lies between them."""

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from turntrace.errors import KeyMissing
from turntrace.keyring import KeyRing
from turntrace.spool.frame import (
    FILE_HEAD_BYTES,
    FIRST,
    RECORD_BYTES,
    RECORD_MAGIC,
    DamagedHead,
    ForeignFile,
    NewerFormat,
    RecordHead,
    SegmentCipher,
    SegmentHead,
    read_head,
)

CHUNK_BYTES: Final = 1 << 20
TORN: Final = "torn"
CORRUPT: Final = "corrupt"
FOREIGN: Final = "foreign"
NEWER: Final = "newer_format"
KEY_MISSING: Final = "key_missing"


class Record(NamedTuple):
    """One intact record. `lost` turns were accepted between the record before and this one, and cannot be read."""

    head: RecordHead
    payload: bytes
    lost: int


class SegmentScan:
    """Reads a segment from where it stopped. Single-threaded."""

    def __init__(self, path: Path, keys: KeyRing, skipped: Counter[str]) -> None:
        """Raises `OSError` where the file cannot be opened (it may be gone)."""
        self.path = path
        self.head: SegmentHead | None = None
        self.left_alone: str | None = None  # why this file is nobody's to read now, and never to be removed by us
        self.accepted = 0  # of the last record that was read
        self.sequence = 0
        self.is_finished = False
        self._keys, self._skipped = keys, skipped
        self._cipher: SegmentCipher | None = None
        self._at = 0
        self._is_suspect = False
        self._is_in_damage = False
        self._buffer = b""
        self._buffer_at = 0
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self._leave_alone(FOREIGN)

    @property
    def is_removable(self) -> bool:
        """Whether nothing can be had from the file any more."""
        return self.is_finished or self.left_alone == CORRUPT

    @property
    def is_blank(self) -> bool:
        """Whether nothing is known of what the file held: its head is gone, or was never written."""
        return self.left_alone == CORRUPT or (self.is_finished and self.head is None)

    def is_sealed(self) -> bool:
        """Whether its writer has marked the file as complete."""
        return not os.fstat(self._descriptor).st_mode & 0o200

    def peek(self) -> SegmentHead | None:
        """The head of the file, before any record is read and also without its key; None where there is none (yet)."""
        if self.head is None and not self.left_alone:
            with contextlib.suppress(OSError, ValueError):
                self.head = read_head(os.pread(self._descriptor, FILE_HEAD_BYTES, 0))
                self.accepted = self.head.accepted_before
        return self.head

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def rewind(self) -> None:
        """Read again from the first record."""
        self._at = FILE_HEAD_BYTES if self._cipher else 0
        self.sequence = 0
        self.accepted = self.head.accepted_before if self.head else 0
        self.is_finished = self._is_suspect = self._is_in_damage = False

    def records(self, *, is_complete: bool) -> Iterator[Record]:
        """Intact records from where the last call stopped.

        Args:
            is_complete: nobody writes to this file any more (known *before* this call): what does not end is torn, not
                yet to come, and at the end `is_finished` is set.
        """
        if self.is_finished or self.left_alone:
            return
        self._buffer = b""  # may be older than the file, whose tail its writer may have taken back
        if self._cipher is None and not self._begin(is_complete):
            return
        while (record := self._next(is_complete)) is not None:
            yield record

    def _begin(self, is_complete: bool) -> bool:
        start = os.pread(self._descriptor, FILE_HEAD_BYTES, 0)
        if len(start) < FILE_HEAD_BYTES and not is_complete:
            return False
        if len(start) < FILE_HEAD_BYTES and not start.strip(b"\0"):
            self.is_finished = True  # made, and never written to
            return False
        try:
            self.head = read_head(start)
            self.accepted = self.head.accepted_before
            self._cipher = SegmentCipher(self._keys, self.head.uuid, self.head.key_id)
        except ForeignFile:
            return self._leave_alone(FOREIGN)
        except NewerFormat:
            return self._leave_alone(NEWER)
        except KeyMissing:
            return self._leave_alone(KEY_MISSING)
        except DamagedHead:
            return self._leave_alone(CORRUPT)  # without its head nobody can ever read it
        self._at = FILE_HEAD_BYTES
        return True

    def _leave_alone(self, why: str) -> bool:
        self.left_alone = why
        self._skipped[why] += 1
        return False

    def _next(self, is_complete: bool) -> Record | None:
        """The next intact record, or None at the end of what can be read now."""
        while True:
            head = self._head_here()
            if head is None:
                if not self._resync(is_complete):
                    return None
                continue
            body = self._read(self._at + RECORD_BYTES, head.length)
            if len(body) < head.length and not is_complete:
                return None  # being written
            record = self._open(head, body)
            if record is not None:
                return record
            if not is_complete and not self._is_suspect and self._is_last(head):
                self._is_suspect = True  # seen half-way, perhaps: it has until the next call
                return None
            self._damage(TORN if len(body) < head.length else CORRUPT)
            self._at += 1  # its length is not to be believed: what it spans may hold good records

    def _head_here(self) -> RecordHead | None:
        assert self._cipher is not None
        data = self._read(self._at, RECORD_BYTES)
        return self._cipher.head_at(data, 0) if len(data) == RECORD_BYTES else None

    def _open(self, head: RecordHead, body: bytes) -> Record | None:
        assert self._cipher is not None
        if head.sequence <= self.sequence or len(body) < head.length:
            return None  # a copy of a record that was there already, or cut off
        payload = self._cipher.open(head, body)
        if payload is None:
            return None
        lost = max(head.accepted - (head.flags & FIRST) - self.accepted, 0)
        self._at += head.end
        self.sequence, self.accepted = head.sequence, max(head.accepted, self.accepted)
        self._is_suspect = self._is_in_damage = False
        return Record(head, payload, lost)

    def _is_last(self, head: RecordHead) -> bool:
        return self._at + head.end >= os.fstat(self._descriptor).st_size

    def _resync(self, is_complete: bool) -> bool:
        """Go to the next intact record head; False at the end of the file."""
        assert self._cipher is not None
        size = os.fstat(self._descriptor).st_size
        if size - self._at < RECORD_BYTES:
            if is_complete:
                if size > self._at:
                    self._damage(TORN)
                self._at = size
                self.is_finished = True
            return False
        if not is_complete and not self._is_suspect:
            self._is_suspect = True
            return False
        self._damage(CORRUPT)
        self._at += self._distance()
        return True

    def _distance(self) -> int:
        """Bytes from here to the next place where an intact record head may be, at least 1."""
        assert self._cipher is not None
        data = self._read(self._at, CHUNK_BYTES)
        found = data.find(RECORD_MAGIC, 1)
        while 0 <= found <= len(data) - RECORD_BYTES:
            if self._cipher.head_at(data, found) is not None:
                return found
            found = data.find(RECORD_MAGIC, found + 1)
        return found if found > 0 else max(len(data) - len(RECORD_MAGIC) + 1, 1)

    def _damage(self, reason: str) -> None:
        """Count one damaged stretch, however many steps it takes to get over it."""
        if not self._is_in_damage:
            self._skipped[reason] += 1
            self._is_in_damage = True

    def _read(self, at: int, size: int) -> bytes:
        """`size` bytes at `at`, fewer at the end of the file."""
        begin = at - self._buffer_at
        if begin < 0 or begin + size > len(self._buffer):
            self._buffer = os.pread(self._descriptor, max(size, CHUNK_BYTES), at)
            self._buffer_at, begin = at, 0
        return self._buffer[begin : begin + size]

    def remove(self) -> None:
        """Unlink the file: all of it is stored."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
