"""Absolute 64-bit counters of one process in a small mapped file, readable after the death of their writer.

Layout: 64 bytes of head (magic, number of slots), then slots of 64 bytes: name, NUL padded to 56 bytes, and value, one
aligned native 64-bit word, so that a value is never seen half written. Every counter only grows or is set by a single
store; what must agree (turns accepted, turns dropped) is therefore *derived* from counters, see `balance`.
"""

import contextlib
import errno
import mmap
import os
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MAGIC: Final = b"ttcount\n"
SLOTS: Final = 255
SLOT_BYTES: Final = 64
NAME_BYTES: Final = 56
FILE_BYTES: Final = (SLOTS + 1) * SLOT_BYTES
OVERFLOW: Final = "other"

# Counters the spool keeps about turns, each by the first frame of the turn.
WRITTEN: Final = "written"  # on disk
QUEUED: Final = "queued"  # taken into memory, the disk being unusable
UNQUEUED: Final = "unqueued"  # of those, written to disk later
DROPPED: Final = "dropped:"  # + reason: refused
EVICTED: Final = "evicted:"  # + reason: taken into memory and dropped from there
FAULT: Final = "fault:"  # + seam
LOST_FRAMES: Final = "lost_frames:"  # + reason: later frames of a turn that is accounted for elsewhere

# What else a capturing process says of itself.
CPU: Final = "cpu_us"  # CPU time of the whole process, the host's included
SURROUNDED: Final = "surrounded:"  # + what its server is or lacks, by the names of `turntrace.surroundings`
PAUSED_UNTIL: Final = "paused_until_us"  # recording pauses after many faults: until when, Unix time


class Counters:
    """Named counters. In memory until `bind` gives them a file; a forked child starts again at zero, unbound."""

    __slots__ = ("_lock", "_map", "_names", "_next", "_slots", "_words")

    def __init__(self) -> None:
        # A finaliser may count while we count: it must neither wait for its own thread nor see a half-made slot.
        self._lock = threading.RLock()
        self._map: mmap.mmap | None = None
        self._clear()

    def _clear(self) -> None:
        self._slots: dict[str, int] = {}
        self._next = 0
        self._names: memoryview = memoryview(bytearray(FILE_BYTES))
        self._words = self._names.cast("Q")
        self._names[: len(MAGIC)] = MAGIC
        self._words[1] = SLOTS

    def reset_after_fork(self) -> None:
        """Leave the parent's file to the parent and begin at zero."""
        self._lock = threading.RLock()
        self._unmap()
        self._clear()

    def bind(self, path: Path) -> None:
        """Live in the file `path` from now on, made new with the present values.

        Raises:
            OSError: no such file can be made.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _take_blocks(descriptor)
            fresh = mmap.mmap(descriptor, FILE_BYTES)
        finally:
            os.close(descriptor)
        with self._lock:
            fresh[:] = bytes(self._names)
            self._unmap()
            self._map = fresh
            self._names = memoryview(fresh)
            self._words = self._names.cast("Q")

    def close(self) -> None:
        """Let go of the file; values stay readable here and there."""
        with self._lock:
            present = bytearray(self._names)
            self._unmap()
            self._names = memoryview(present)
            self._words = self._names.cast("Q")

    def _unmap(self) -> None:
        self._words.release()
        self._names.release()
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()
            self._map = None

    def add(self, name: str, n: int = 1) -> None:
        """Add to a counter; an unknown one begins at zero."""
        with self._lock:
            self._words[self._word(name)] += n

    def put(self, name: str, value: int) -> None:
        """Set a counter."""
        with self._lock:
            self._words[self._word(name)] = value

    def put_and_add(self, put: str, value: int, add: str, n: int) -> None:
        """Set one counter and add to another: what every write does."""
        with self._lock:
            words, slots = self._words, self._slots
            try:
                words[slots[put]] = value
                words[slots[add]] += n
            except KeyError:
                words[self._word(put)] = value
                words[self._word(add)] += n

    def add_both(self, one: str, n: int, other: str, m: int) -> None:
        """Add to two counters: what every turn does."""
        with self._lock:
            words, slots = self._words, self._slots
            if one in slots and other in slots:
                words[slots[one]] += n
                words[slots[other]] += m
            else:
                words[self._word(one)] += n
                words[self._word(other)] += m

    def raise_to(self, name: str, value: int) -> None:
        """Set a counter to `value` if it is lower (longest, largest)."""
        with self._lock:
            word = self._word(name)
            if self._words[word] < value:
                self._words[word] = value

    def get(self, name: str) -> int:
        """The value; 0 for an unknown name."""
        with self._lock:
            word = self._slots.get(name)
            return 0 if word is None else self._words[word]

    def values(self) -> dict[str, int]:
        """All counters, `accepted` among them."""
        with self._lock:
            found = {name: self._words[word] for name, word in self._slots.copy().items()}
        return {**found, "accepted": balance(found)[0]}

    def _word(self, name: str) -> int:
        word = self._slots.get(name)
        return self._new(name) if word is None else word

    def _new(self, name: str) -> int:
        if self._next >= SLOTS - 1 and name != OVERFLOW:  # the last slot takes whatever comes too late
            return self._word(OVERFLOW)
        self._next += 1
        at = SLOT_BYTES * self._next
        word = (at + NAME_BYTES) // 8
        self._words[word] = 0
        self._slots[name] = word
        self._names[at : at + NAME_BYTES] = name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
        return word

    @staticmethod
    def read(path: Path) -> dict[str, int]:
        """All counters in a file, `accepted` among them; empty where there is no readable file of ours."""
        found = _parse(_content(path))
        return {**found, "accepted": balance(found)[0]} if found is not None else {}

    @classmethod
    def load(cls, path: Path) -> "Counters":
        """The counters of a dead process, bound again to their file: for who settles its estate.

        Raises:
            OSError: the file cannot be written.
        """
        counters = cls()
        for name, value in (_parse(_content(path)) or {}).items():
            counters.put(name, value)
        counters.bind(path)
        return counters


def balance(values: Mapping[str, int]) -> tuple[int, dict[str, int], int]:
    """Turns accepted, turns dropped by reason, and turns held in memory only.

    A turn is accepted once: with its first frame on disk or in memory, or by a drop. Always
    accepted = written + dropped + held in memory.
    """
    refused = _by_reason(values, DROPPED)
    evicted = _by_reason(values, EVICTED)
    in_memory_or_evicted = max(values.get(QUEUED, 0) - values.get(UNQUEUED, 0), sum(evicted.values()))
    accepted = values.get(WRITTEN, 0) + in_memory_or_evicted + sum(refused.values())
    dropped = {reason: refused.get(reason, 0) + evicted.get(reason, 0) for reason in (*refused, *evicted)}
    return accepted, dropped, in_memory_or_evicted - sum(evicted.values())


def by_prefix(values: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Counters whose name begins with `prefix`, without it; zero ones left out."""
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix) and value}


_by_reason = by_prefix


def _take_blocks(descriptor: int) -> None:
    """Take the blocks of the file now: a hole in the mapping would be a SIGBUS on a full disk."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
    elif os.write(descriptor, bytes(FILE_BYTES)) != FILE_BYTES:  # macOS has no such call
        raise OSError(errno.ENOSPC, "short write")


def _content(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return os.read(descriptor, FILE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _parse(content: bytes) -> dict[str, int] | None:
    if len(content) < FILE_BYTES or not content.startswith(MAGIC):
        return None
    found: dict[str, int] = {}
    for at in range(SLOT_BYTES, FILE_BYTES, SLOT_BYTES):
        name = content[at : at + NAME_BYTES].rstrip(b"\0")
        if not name:
            break
        found[name.decode("utf-8", "replace")] = struct.unpack_from("=Q", content, at + NAME_BYTES)[0]
    return found
