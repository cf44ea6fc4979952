"""The reading end: tails the segments of all processes below one root. Progress is the database's to remember.

A reader keeps offsets in memory only. Reading a segment again from its start is always safe: the marks that were
committed with the rows say what is in already.
"""

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from turntrace.failpoint import reach
from turntrace.keyring import KeyRing
from turntrace.records.batch import ProcessCounts
from turntrace.records.fragment import FrameKind
from turntrace.spool.frame import FIRST
from turntrace.spool.home import LOCK, PREFIX, UNBORN
from turntrace.spool.process import ProcessSpool, Segment
from turntrace.spool.scan import CORRUPT, Record

_KINDS: Final = {int(kind): kind for kind in FrameKind}
_ALWAYS_NEW: Final = frozenset({FrameKind.START, FrameKind.DELTA})
_UNBORN_SECONDS: Final = 60.0
MOST_LEFT: Final = 128  # directories of dead processes at once: each takes two open files and more until it is stored


class Frame(NamedTuple):
    """One frame as the worker gets it.

    `is_done`: stored already (never for START and DELTA, whose turns are rebuilt from the segments). `lost`: turns
    accepted by this process just before this frame that damage made unreadable; to be counted as dropped in the
    transaction that stores this frame's mark. What a reader cannot know, because the files of those turns were gone
    when it began, shows in `before`.
    """

    segment: str
    sequence: int
    kind: FrameKind
    is_first: bool
    is_done: bool
    process_id: str
    payload: bytes
    lost: int = 0
    is_stored: bool = False  # at or below the stored mark, whatever its kind
    before: int | None = None  # turns of the process that were accepted before this frame and `lost`; None: unknown
    through: int = 0  # turns of the process accepted through this frame; 0: they are not numbered


class SpoolReader:
    """Reads what the processes below `root` have written. Single-threaded; one at a time by `WorkerLock`.

    Args:
        mark: the sequence up to which a segment is stored, by segment id; 0 for one never heard of.
        wall: Unix time in microseconds.
    """

    def __init__(
        self,
        root: Path,
        keys: KeyRing,
        *,
        mark: Callable[[str], int],
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._root, self._keys, self._mark, self._wall = root, keys, mark, wall
        self._skipped: Counter[str] = Counter()
        self._processes: dict[str, ProcessSpool] = {}
        self._left: set[str] = set()  # processes that were dead when they were found
        self._turn = 0

    @property
    def skipped(self) -> Mapping[str, int]:
        """Stretches and files that could not be read: torn, corrupt, foreign, newer_format, key_missing."""
        return self._skipped

    def poll(self, max_frames: int, max_bytes: int) -> list[Frame]:
        """The next frames, in order within each segment and process; one more than `max_bytes` allows may come."""
        frames: list[Frame] = []
        room = max_bytes
        for process in self._in_turn():
            for frame in self._frames(process):
                frames.append(frame)
                room -= len(frame.payload)
                if len(frames) >= max_frames or room <= 0:
                    return frames
        return frames

    def _in_turn(self) -> list[ProcessSpool]:
        """All processes, beginning with another one each time: a busy one must not starve the rest."""
        self._find()
        processes = [self._processes[name] for name in sorted(self._processes)]
        self._turn = (self._turn + 1) % max(len(processes), 1)
        return processes[self._turn :] + processes[: self._turn]

    def _find(self) -> None:
        room = MOST_LEFT - sum(not self._processes[known].is_buried for known in self._left & self._processes.keys())
        for name in _listing(self._root):
            if name.startswith(PREFIX) and (process_id := name.removeprefix(PREFIX)) not in self._processes:
                process = ProcessSpool(self._root / name, process_id, self._keys, self._skipped)
                is_left = self._is_left(process)
                if room > 0 or not is_left:
                    self._processes[process_id] = process
                    room -= is_left
            elif name.startswith(UNBORN):
                _clear_unborn(self._root / name)

    def _is_left(self, process: ProcessSpool) -> bool:
        if process.process_id not in self._left and process.is_left():
            self._left.add(process.process_id)
        return process.process_id in self._left

    def _frames(self, process: ProcessSpool) -> Iterator[Frame]:
        for segment in process.look():
            lost = 0
            with contextlib.suppress(OSError):  # unreadable now: tried again at the next poll
                for record in segment.scan.records(is_complete=segment.is_complete):
                    if not segment.is_begun:
                        lost = self._begin(process, segment)
                    frame = self._frame(process, segment, record, lost)
                    lost = 0
                    if frame is not None:
                        yield frame

    def _begin(self, process: ProcessSpool, segment: Segment) -> int:
        segment.is_begun = True
        segment.mark = max(segment.mark, self._mark(segment.segment_id or ""))
        return process.lost_before(segment)

    def _frame(self, process: ProcessSpool, segment: Segment, record: Record, lost: int) -> Frame | None:
        head = record.head
        kind = _KINDS.get(head.kind)
        if kind is None:
            self._skipped[CORRUPT] += 1
            return None
        is_stored = head.sequence <= segment.mark
        return Frame(
            segment=segment.segment_id or "",
            sequence=head.sequence,
            kind=kind,
            is_first=bool(head.flags & FIRST),
            is_done=is_stored and kind not in _ALWAYS_NEW,
            process_id=process.process_id,
            payload=record.payload,
            lost=0 if is_stored else record.lost + lost,
            is_stored=is_stored,
            before=self._before(process, segment, record, lost),
            through=head.accepted,
        )

    @staticmethod
    def _before(process: ProcessSpool, segment: Segment, record: Record, lost: int) -> int | None:
        begin = record.head.accepted - (record.head.flags & FIRST) - record.lost
        is_within = segment.scan.head is not None and begin > segment.scan.head.accepted_before
        return begin - lost if is_within or process.is_all_read_before(segment) else None

    def commit(self, marks: Mapping[str, int]) -> None:
        """Take note that frames up to these sequences are stored, by segment id."""
        for process in self._processes.values():
            for segment in process.segments.values():
                segment.committed = max(segment.committed, marks.get(segment.segment_id or "", 0))

    def rewind(self) -> None:
        """Deliver again all that is not committed (and what is, marked as done): for a worker whose batch came to
        nothing. Frames of turns still open come again too."""
        for process in self._processes.values():
            for segment in process.segments.values():
                segment.rewind()

    def release(self, pinned: Container[str]) -> None:
        """Unlink segments that are complete, stored to the last frame, and not pinned (by segment id)."""
        reach("spool.before_release")
        for process in self._processes.values():
            process.release(pinned.__contains__)

    def dead(self) -> list[str]:
        """Processes whose owner is gone and whose segments have all been delivered. Their locks are kept."""
        self._find()
        return [process.process_id for process in self._processes.values() if self._is_read_to_the_end(process)]

    def _is_read_to_the_end(self, process: ProcessSpool) -> bool:
        if not process.is_dead:
            process.adopt()  # what it wrote last is read by the next poll
            return False
        if process.is_buried or not process.is_read:
            return False
        process.settle()
        return True

    def forget(self, process_id: str) -> None:
        """Remove the directory of a dead process whose segments are released; what is not ours to remove stays."""
        process = self._processes.get(process_id)
        if process is not None and process.is_dead and process.bury():
            del self._processes[process_id]
            self._left.discard(process_id)

    def counts(self) -> list[ProcessCounts]:
        """The absolute counts of all processes."""
        now = self._wall()
        return [found for process in self._processes.values() if (found := process.counts(now)) is not None]

    def unread(self) -> int:
        """Turns that were accepted and whose first frame was not delivered yet."""
        self._find()
        return sum(process.unread() for process in self._processes.values())

    def close(self) -> None:
        """Close all files and free adopted locks; a later `poll` begins anew."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()
        self._left.clear()


def _listing(root: Path) -> list[str]:
    try:
        return os.listdir(root)
    except OSError:
        return []


def _clear_unborn(path: Path) -> None:
    """Remove what a process killed while it made its directory has left."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _UNBORN_SECONDS and not (path / LOCK).is_symlink():
            shutil.rmtree(path, ignore_errors=True)
