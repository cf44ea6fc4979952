"""A spool in memory: for `worker=thread` where no directory can be had. It does not outlive its process."""

import contextlib
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Container, Mapping
from typing import Final

from turntrace.records.batch import ProcessCounts
from turntrace.records.fragment import FrameKind
from turntrace.spool.counters import (
    DROPPED,
    EVICTED,
    FAULT,
    LOST_FRAMES,
    QUEUED,
    UNQUEUED,
    WRITTEN,
    Counters,
    balance,
    by_prefix,
)
from turntrace.spool.reader import Frame
from turntrace.spool.ring import Held, Ring
from turntrace.spool.writer import MEMORY_BYTES

MEMORY_FULL: Final = "memory_full"


class MemorySpool:
    """`SpoolWriter` and `SpoolReader` in one, bounded by the oldest turns being dropped. Thread-safe.

    Delivered frames are kept until they are committed (`rewind` delivers them again) and count against the bound of
    none: a worker takes a bounded number of bytes at a time.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MEMORY_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.counters = Counters()
        self._max_bytes, self._clock, self._wall = max_bytes, clock, wall
        self._begin()
        _spools.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a finaliser may append while we allocate; there is no half-done state to see
        self._ring = Ring(self._max_bytes)
        self._delivered: deque[Frame] = deque()
        self._again: deque[Frame] = deque()
        self._sequence = 0
        self.process_id = secrets.token_hex(8)
        self._pid = os.getpid()

    @property
    def segment_id(self) -> str:
        """Name in progress marks."""
        return f"memory-{self.process_id}"

    @property
    def skipped(self) -> Mapping[str, int]:
        """Nothing in memory is ever damaged."""
        return {}

    def refusal(self, size: int) -> str | None:
        """Why `size` more bytes of what its sender can send again should not be taken now, or None."""
        with self._lock:
            return MEMORY_FULL if self._ring.size + size > self._max_bytes // 2 else None

    def append(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
        """Take one frame; False when it was dropped and counted (it belongs to a turn that was dropped before)."""
        try:
            with self._lock:
                return self._take(kind, payload, is_first)
        except Exception:
            self.counters.add(f"{FAULT}spool.append")
            self.counters.add(f"{DROPPED if is_first else LOST_FRAMES}internal")
            return False

    def _take(self, kind: FrameKind, payload: bytes, is_first: bool) -> bool:
        now = self._clock()
        if not is_first and self._ring.is_abandoned(payload, now):
            self.counters.add(f"{LOST_FRAMES}{MEMORY_FULL}")
            return False
        if is_first:
            self.counters.add(QUEUED)
        self.counters.add("bytes_written", len(payload))
        evicted = self._ring.put(Held(kind, payload, is_first), now)
        if evicted.turns:
            self.counters.add(f"{EVICTED}{MEMORY_FULL}", evicted.turns)
        if evicted.frames:
            self.counters.add(f"{LOST_FRAMES}{MEMORY_FULL}", evicted.frames)
        return True

    def poll(self, max_frames: int, max_bytes: int) -> list[Frame]:
        """The next frames, in order within each turn."""
        frames: list[Frame] = []
        with self._lock:
            while len(frames) < max_frames and max_bytes > 0 and (frame := self._next()) is not None:
                frames.append(frame)
                max_bytes -= len(frame.payload)
            self._delivered.extend(frames)
        return frames

    def _next(self) -> Frame | None:
        if self._again:
            return self._again.popleft()
        held = self._ring.peek()
        if held is None:
            return None
        self._ring.pop()
        if held.is_first:
            self.counters.add(UNQUEUED)
            self.counters.add(WRITTEN)
        self._sequence += 1
        return Frame(
            segment=self.segment_id,
            sequence=self._sequence,
            kind=FrameKind(held.kind),
            is_first=held.is_first,
            is_done=False,
            process_id=self.process_id,
            payload=held.payload,
        )

    def commit(self, marks: Mapping[str, int]) -> None:
        """Take note that frames up to these sequences are stored."""
        through = marks.get(self.segment_id, 0)
        with self._lock:
            while self._delivered and self._delivered[0].sequence <= through:
                self._delivered.popleft()

    def rewind(self) -> None:
        """Deliver again what is not committed."""
        with self._lock:
            self._again.extendleft(reversed(self._delivered))
            self._delivered.clear()

    def release(self, pinned: Container[str]) -> None:
        """Nothing to remove."""

    def dead(self) -> list[str]:
        """Who could ask is alive."""
        return []

    def forget(self, process_id: str) -> None:
        """Nothing to remove."""

    def counts(self) -> list[ProcessCounts]:
        """The absolute counts of this process."""
        with self._lock:  # before that of the counters: whoever appends takes both in this order
            values = self.counters.values()
        accepted, dropped, _ = balance(values)
        return [
            ProcessCounts(
                process_id=self.process_id,
                accepted=accepted,
                dropped=dropped,
                faults=by_prefix(values, FAULT),
                turns=values.get("turns", 0),
                overhead_us=values.get("overhead_us", 0),
                bytes_written=values.get("bytes_written", 0),
                seen_at_us=self._wall(),
            )
        ]

    def unread(self) -> int:
        """Turns that were accepted and whose first frame was not delivered yet."""
        with self._lock:
            return self._ring.first_count + sum(frame.is_first for frame in self._again)

    def is_empty(self) -> bool:
        """Whether every frame, of whatever kind, was taken and committed."""
        with self._lock:
            return not (len(self._ring) or self._again or self._delivered)

    def reset_after_fork(self) -> None:
        """In the child: the parent's frames are the parent's to store."""
        self.counters.reset_after_fork()
        self._begin()

    def close(self) -> None:
        """Nothing to close."""


_spools: "weakref.WeakSet[MemorySpool]" = weakref.WeakSet()


def _after_fork() -> None:
    for spool in list(_spools):
        with contextlib.suppress(Exception):
            spool.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
