"""The directory of one capturing process as its reader sees it: its segments, its counters, and whether it is alive."""

import contextlib
import fcntl
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from turntrace.keyring import KeyRing
from turntrace.records.batch import ProcessCounts
from turntrace.spool.counters import DROPPED, EVICTED, FAULT, WRITTEN, Counters, balance, by_prefix
from turntrace.spool.home import COUNTERS, LOCK
from turntrace.spool.scan import CORRUPT, SegmentScan
from turntrace.spool.segment import SUFFIX

SETTLED: Final = "settled"
NEVER_WRITTEN: Final = "memory_lost"  # turns that waited in memory for a disk when their process died


class Segment:
    """A segment and how far it is stored."""

    def __init__(self, number: int, scan: SegmentScan) -> None:
        self.number = number
        self.scan = scan
        self.mark = 0  # stored when this reader began with it
        self.committed = 0  # stored since
        self.is_begun = False
        self.is_complete = False  # nobody appends any more

    def rewind(self) -> None:
        """Deliver from the start again."""
        self.mark, self.committed = max(self.mark, self.committed), 0
        self.is_begun = False
        self.scan.rewind()

    @property
    def segment_id(self) -> str | None:
        """Name in progress marks; None until its head can be read."""
        return self.scan.head.segment_id if self.scan.head else None

    @property
    def is_stored(self) -> bool:
        """Whether the file holds nothing that is not in the database."""
        return self.is_complete and self.scan.is_removable and self.scan.sequence <= max(self.committed, self.mark)


class ProcessSpool:
    """One `p-<id>/`. Single-threaded."""

    def __init__(self, path: Path, process_id: str, keys: KeyRing, skipped: Counter[str]) -> None:
        self.path, self.process_id = path, process_id
        self._keys, self._skipped = keys, skipped
        self._lock = -1
        self._is_buried = False
        self._foreign: set[str] = set()
        self._gone = 0  # number of the last segment that is gone, and turns accepted at its end (None: unknown)
        self._end: int | None = None
        self.segments: dict[int, Segment] = {}

    @property
    def is_buried(self) -> bool:
        """Dead, done with, and still there because of what is not ours to remove."""
        return self._is_buried

    @property
    def is_dead(self) -> bool:
        """Whether its owner is gone and we hold its lock."""
        return self._lock >= 0

    def adopt(self) -> bool:
        """Try to become the owner: succeeds once the process is dead. Never asks for its pid, which may be reused."""
        if self.is_dead:
            return True
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(self.path / LOCK).st_ino != os.fstat(descriptor).st_ino:
                raise OSError("the lock was replaced")
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def is_left(self) -> bool:
        """Whether the owner is gone; asked without becoming it."""
        if self.adopt():
            self.close()
            return True
        return False

    def look(self) -> Iterator[Segment]:
        """Segments in order, newly found ones included. Whether one is complete is settled here, before it is read."""
        self._find()
        last = max(self.segments, default=0)
        for number in sorted(self.segments):
            segment = self.segments[number]
            segment.is_complete = segment.is_complete or self.is_dead or number < last or segment.scan.is_sealed()
            yield segment

    def _find(self) -> None:
        try:
            names = os.listdir(self.path)
        except OSError:
            names = []
        present = set()
        for name in names:
            number = _number(name)
            if number is None:
                if name not in (LOCK, COUNTERS) and name not in self._foreign and not name.startswith("."):
                    self._foreign.add(name)
                    self._skipped["foreign"] += 1
                continue
            present.add(number)
            if number not in self.segments:
                with contextlib.suppress(OSError):
                    self.segments[number] = Segment(number, SegmentScan(self.path / name, self._keys, self._skipped))
        for number in set(self.segments) - present:  # somebody removed it under us
            gone = self.segments.pop(number)
            self._remember_end(gone)
            gone.scan.close()

    def _remember_end(self, segment: Segment) -> None:
        if segment.number > self._gone and not segment.scan.is_blank:
            self._gone = segment.number
            self._end = segment.scan.accepted if segment.scan.head and not segment.scan.left_alone else None

    def _end_before(self, number: float) -> int | None:
        """Turns accepted at the end of the segments before `number`, as far as they could be read; None: unknown."""
        for earlier in sorted((n for n in self.segments if self._gone < n < number), reverse=True):
            scan = self.segments[earlier].scan
            if not scan.is_blank:
                return scan.accepted if scan.is_finished else None
        return self._end

    def lost_before(self, segment: Segment) -> int:
        """Turns that were accepted at the end of the segment before this one and cannot be read."""
        head, end = segment.scan.head, self._end_before(segment.number)
        return max(head.accepted_before - end, 0) if head and end is not None else 0

    def is_all_read_before(self, segment: Segment) -> bool:
        """Whether no earlier segment is left that may yet be read: what is missing before this one is gone for good."""
        earlier = (self.segments[number].scan for number in self.segments if number < segment.number)
        return all(scan.is_finished or scan.is_blank for scan in earlier)

    @property
    def is_read(self) -> bool:
        """Whether all there is has been read, what cannot be read left aside."""
        return all(s.is_complete and (s.scan.is_removable or s.scan.left_alone) for s in self.segments.values())

    def release(self, pinned: Callable[[str], bool]) -> None:
        """Unlink segments that are stored and that nobody needs."""
        for number in sorted(self.segments):
            segment = self.segments[number]
            if segment.is_stored and not (segment.segment_id and pinned(segment.segment_id)):
                if self.is_dead:
                    self.settle()
                self._remember_end(segment)
                segment.scan.remove()
                del self.segments[number]

    def settle(self) -> None:
        """Bring the counters of a dead process to what its files say: it may have died between a write and its count.
        Done once, in its file, so that every later reader finds the same."""
        if not self.is_read or Counters.read(self.path / COUNTERS).get(SETTLED):
            return
        try:
            counters = Counters.load(self.path / COUNTERS)
        except OSError:
            return
        end = self._end_before(math.inf)
        if end is not None:
            lost = counters.get(WRITTEN) - end  # counted, and not to be found at the end of the files
            counters.put(WRITTEN, end)
            if lost > 0:
                counters.add(f"{DROPPED}{CORRUPT}", lost)
        held = balance(counters.values())[2]
        if held:
            counters.add(f"{EVICTED}{NEVER_WRITTEN}", held)
        counters.put(SETTLED, 1)
        counters.close()

    def counts(self, seen_at_us: int) -> ProcessCounts | None:
        """What the process counted, absolute; None where its counters are gone."""
        values = Counters.read(self.path / COUNTERS)
        if not values:
            return None
        seen = max((s.scan.accepted for s in self.segments.values()), default=0)
        values["written"] = max(values.get(WRITTEN, 0), seen)
        accepted, dropped, _ = balance(values)
        return ProcessCounts(
            process_id=self.process_id,
            accepted=accepted,
            dropped=dropped,
            faults=by_prefix(values, FAULT),
            turns=values.get("turns", 0),
            overhead_us=values.get("overhead_us", 0),
            bytes_written=values.get("bytes_written", 0),
            seen_at_us=seen_at_us,
            is_dead=self.is_dead,
        )

    def unread(self) -> int:
        """Turns accepted whose first frame was not delivered yet: on disk, or in the memory of a living process."""
        self._find()
        values = Counters.read(self.path / COUNTERS)
        scans = [self.segments[number].scan for number in sorted(self.segments)]
        heads = [(scan, head.accepted_before) for scan in scans if (head := scan.peek())]
        ends = [before for _, before in heads[1:]] + [values.get(WRITTEN, 0)]
        pairs = zip(heads, ends, strict=False)
        # Behind a segment that is read, others may be gone already: what they held is not waiting.
        on_disk = sum(max(end - scan.accepted, 0) for (scan, _), end in pairs if not scan.is_finished)
        return on_disk + balance(values)[2]

    def bury(self) -> bool:
        """Remove the directory of a dead process. False where something is left in it that is not ours to remove: then
        its counters stay too, and we keep its lock so as not to begin again."""
        self._is_buried = True
        if any(_number(name) is not None for name in _listing(self.path)):
            return False
        for name in (COUNTERS, LOCK):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        with contextlib.suppress(OSError):
            self.path.rmdir()
        self.close()
        return True

    def close_segments(self) -> None:
        """Close the files of all segments."""
        for segment in self.segments.values():
            segment.scan.close()
        self.segments.clear()

    def close(self) -> None:
        """Close all files; an adopted lock is free again."""
        self.close_segments()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _number(name: str) -> int | None:
    stem = name.removesuffix(SUFFIX)
    return int(stem) if stem != name and stem.isascii() and stem.isdigit() else None


def _listing(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
