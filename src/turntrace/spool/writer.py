"""The writing end: one record, one `write()`, before the client has its answer. Never raises, never waits.

The rule of the balance: a turn is *accepted* once, by its first frame (`is_first`), and from then on it is on disk, in
memory, or dropped with a reason. `append` answering False to a first frame means "accepted and dropped": no further
frame of that turn may be appended. A later frame that is lost is never a dropped turn: its turn is on disk since its
beginning and will be stored, as interrupted if need be; such frames are counted apart, as `lost_frames:<reason>`.
"""

import errno
import os
import threading
import time
import weakref
from _thread import get_ident  # the real one, also where a framework replaces that of `threading` later
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from turntrace.keyring import KeyRing
from turntrace.records.fragment import FrameKind
from turntrace.spool.allowance import SPOOL_FULL, Allowance
from turntrace.spool.counters import DROPPED, EVICTED, FAULT, LOST_FRAMES, QUEUED, UNQUEUED, WRITTEN, Counters
from turntrace.spool.frame import FIRST, LONGEST_BODY, RECORD_BYTES, REEMITTED, TAG_BYTES
from turntrace.spool.home import ProcessHome
from turntrace.spool.ring import Held, Ring
from turntrace.spool.segment import OpenSegment, segment_path

SEGMENT_BYTES: Final = 16 << 20
SEGMENT_SECONDS: Final = 30.0
MEMORY_BYTES: Final = 32 << 20
LOOK_SECONDS: Final = 0.25  # how soon a directory deleted under us is noticed
PROBE_SECONDS: Final = 2.0
_DRAIN_FRAMES: Final = 16  # frames per append that move from memory to disk: no request pays for a whole backlog
_OVERHEAD: Final = RECORD_BYTES + TAG_BYTES
_REASONS: Final = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EFBIG: "file_limit",
    errno.ENOENT: "no_directory",
    errno.ENOTDIR: "no_directory",
    errno.EACCES: "no_directory",
    errno.EPERM: "no_directory",
}


def no_open_turns() -> Iterable[bytes]:
    """For a writer whose turns are all one frame."""
    return ()


class SpoolWriter:
    """Appends frames to the segments of this process. Thread-safe; after a fork the child begins anew by itself.

    Args:
        root: the application's directory, `<base>/<fingerprint>`; nothing is touched before the first `append`.
        max_bytes: bound of everything below `root`, all processes together.
        open_turns: cumulative START payloads of the turns that are open (their START was appended, their END was not);
            asked for when a new segment begins. It is called under the writer's lock: it must neither wait for a lock
            that is held around an `append` nor be slow, and a turn must have left it before its END is appended.
        clock: seconds that never go back; wall: Unix time in microseconds.
    """

    def __init__(
        self,
        root: Path,
        keys: KeyRing,
        *,
        max_bytes: int = 1 << 30,
        open_turns: Callable[[], Iterable[bytes]] = no_open_turns,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        probe_seconds: float = PROBE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.counters = Counters()
        self._root, self._keys, self._max_bytes = root, keys, max_bytes
        self._open_turns = open_turns
        self._segment_bytes = min(segment_bytes, max(max_bytes // 16, 64 << 10))
        self._segment_seconds, self._probe_seconds = segment_seconds, probe_seconds
        self._memory_bytes = memory_bytes
        self._clock, self._wall = clock, wall
        self._home = ProcessHome(root, self.counters)
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        """The state of a process that has written nothing."""
        self._lock = threading.Lock()
        self._owner = 0
        self._late: deque[tuple[int, bytes, bool]] = deque()
        self._pid = os.getpid()
        self._segment: OpenSegment | None = None
        self._number = 0
        self._written = 0
        self._ring = Ring(self._memory_bytes)
        self._reason = ""
        self._probe_at = self._look_at = float("-inf")
        self._allowance = Allowance(self._root, self._max_bytes)
        self._is_closed = False
        self._is_calm = True  # nothing waits in memory
        self._easy_bytes = 0

    @property
    def process_id(self) -> str:
        """Name of this process's directory and of its counts: 16 hex digits, new after a fork."""
        return self._home.process_id

    @property
    def segment_id(self) -> str | None:
        """The segment being written, 32 hex digits."""
        return self._segment.head.segment_id if self._segment else None

    @property
    def held_bytes(self) -> int:
        """Bytes that wait in memory for a disk."""
        return self._ring.size

    def refusal(self, size: int) -> str | None:
        """Why `size` more bytes of what its sender can send again should not be taken now, or None.

        A turn of our own is held in memory while there is no room on the disk; what can come again need not be.
        """
        with self._lock:
            self._owner = get_ident()
            try:
                if self._pid == os.getpid() and len(self._ring):
                    return self._reason or "disk_full"
                return self._allowance.refusal(size, is_first=True)
            finally:
                self._owner = 0

    def append(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
        """Take one frame: on disk when this returns True, or in memory while no disk can be written to.

        Returns:
            False when it was dropped and counted.
        """
        caller = get_ident()
        if self._owner == caller:
            # A finaliser, or `open_turns`, called us from inside ourselves: taken up when the record in hand is out.
            self._late.append((kind, payload, is_first))
            return True
        is_taken = self._locked_take(caller, kind, payload, is_first)
        if self._late:
            self._take_late(caller)
        return is_taken

    def _take_late(self, caller: int) -> None:
        while self._late:
            try:
                late = self._late.popleft()
            except IndexError:  # another thread was faster
                break
            self._locked_take(caller, *late)

    def _locked_take(self, caller: int, kind: int, payload: bytes, is_first: bool) -> bool:
        with self._lock:
            self._owner = caller
            try:
                return self._take(kind, payload, is_first)
            except Exception:
                self.counters.add(f"{FAULT}spool.append")
                return self._refuse("internal", is_first)
            finally:
                self._owner = 0

    def _take(self, kind: int, payload: bytes, is_first: bool) -> bool:
        now, segment = self._clock(), self._segment
        # So it is for nearly every frame: a segment with room, and nothing else to be done.
        if now >= self._look_at or len(payload) > self._easy_bytes or segment is None or self._pid != os.getpid():
            return self._take_with_care(kind, payload, is_first, now)
        try:
            self._put(segment, kind, payload, is_first, now)
        except OSError as error:
            self._fail(error, now)
            return self._hold(kind, payload, is_first, now)
        return True

    def _take_with_care(self, kind: int, payload: bytes, is_first: bool, now: float) -> bool:
        answer = self._prepare(kind, payload, is_first, now)
        if answer is not None:
            return answer
        try:
            segment = self._chosen(len(payload) + _OVERHEAD)
            self._put(segment if segment is not None else self._open(now), kind, payload, is_first, now)
        except OSError as error:
            self._fail(error, now)
            return self._hold(kind, payload, is_first, now)
        self._ease()
        return True

    def _ease(self) -> None:
        """Note how long a frame may be that needs no look at anything: it fits into the segment and the allowance.
        Every frame takes from it, and whatever changes one of these sets it to zero."""
        segment = self._segment
        if segment is None or not self._is_calm:
            self._easy_bytes = 0
        else:
            room = min(self._segment_bytes - segment.size, self._allowance.room())
            self._easy_bytes = min(room - _OVERHEAD, LONGEST_BODY)

    def _prepare(self, kind: int, payload: bytes, is_first: bool, now: float) -> bool | None:
        """What may have to be done before a frame is written; an answer where it is not to be written now."""
        if self._pid != os.getpid() or self._is_closed:
            self._begin_again()
        if now >= self._look_at:
            self._look(now)
        if len(payload) > LONGEST_BODY:
            return self._refuse("too_large", is_first)
        if not self._ring.is_idle:
            if not is_first and self._ring.is_abandoned(payload, now):
                return self._refuse(self._reason, is_first)
            self._drain(now, _DRAIN_FRAMES)
            if len(self._ring):
                return self._hold(kind, payload, is_first, now)
        self._is_calm = self._ring.is_idle
        refusal = self._allowance.refusal(len(payload) + _OVERHEAD, is_first=is_first)
        return None if refusal is None else self._withhold(refusal, kind, payload, is_first, now)

    def _chosen(self, size: int) -> OpenSegment | None:
        """The present segment, if it has room for `size` bytes; it is sealed otherwise."""
        segment = self._segment
        if segment is not None and segment.size + size > self._segment_bytes and segment.records:
            self._seal()
        return self._segment

    def _put(self, segment: OpenSegment, kind: int, payload: bytes, is_first: bool, now: float) -> None:
        """Write one frame; into a new segment where this one cannot be written to."""
        try:
            self._write(segment, kind, payload, is_first)
        except OSError:
            is_new = not segment.records
            self._seal()
            if is_new:
                raise
            self._write(self._open(now), kind, payload, is_first)  # a limit of the file, not of the disk, ends here

    def _write(self, segment: OpenSegment, kind: int, payload: bytes, is_first: bool) -> None:
        # Counted before the write and taken back if it fails: what interrupts us in between must not lose a turn.
        self._written += is_first
        try:
            size = segment.append(kind, FIRST if is_first else 0, self._written, payload)
        except Exception:
            self._written -= is_first
            raise
        self._easy_bytes -= size
        self._allowance.spend(size)
        self.counters.put_and_add(WRITTEN, self._written, "bytes_written", size)

    def _open(self, now: float) -> OpenSegment:
        self._home.ensure()
        self._allowance.survey(now, is_rotation=True)
        is_successor = self._number > 0
        self._number += 1
        path = segment_path(self._home.path, self._number)
        self._segment = OpenSegment(path, self._keys, accepted_before=self._written, wall_us=self._wall(), now=now)
        self._allowance.spend(self._segment.size)
        if is_successor:
            self._reemit(self._segment)
        return self._segment

    def _reemit(self, segment: OpenSegment) -> None:
        """Write open turns again, so that no long stream keeps old segments. One that fails keeps its old segment."""
        try:
            for payload in self._open_turns():
                if self._allowance.refusal(len(payload) + _OVERHEAD, is_first=False) is None:
                    self._allowance.spend(segment.append(FrameKind.START, REEMITTED, self._written, payload))
        except Exception:
            self.counters.add(f"{FAULT}spool.open_turns")

    def _seal(self) -> None:
        segment, self._segment, self._easy_bytes = self._segment, None, 0
        if segment is None:
            return
        if segment.records:
            segment.seal()
        else:
            segment.discard()

    def _look(self, now: float) -> None:
        """What is looked at a few times a second: was our file deleted, is the segment old, how full is the disk."""
        self._look_at, self._easy_bytes = now + LOOK_SECONDS, 0
        segment = self._segment
        if segment is not None and segment.is_deleted():
            segment.close()
            self._segment = None
        elif segment is not None and segment.records and now - segment.opened_at >= self._segment_seconds:
            self._seal()
        self._allowance.survey(now)

    def _withhold(self, reason: str, kind: int, payload: bytes, is_first: bool, now: float) -> bool:
        """There is no room: new turns are dropped, turns on disk may end in memory. The segment is sealed, or it
        could never be removed and would itself keep the spool full."""
        self._reason = reason
        if self._segment is not None and self._segment.records:
            self._seal()
        self._probe_at = now + self._probe_seconds
        return self._refuse(reason, is_first) if is_first else self._hold(kind, payload, is_first, now)

    def _fail(self, error: OSError, now: float) -> None:
        self._reason = _REASONS.get(error.errno or 0, "io_error")
        self._probe_at = now + self._probe_seconds
        self._seal()

    def _hold(self, kind: int, payload: bytes, is_first: bool, now: float) -> bool:
        """Keep a frame in memory, at the cost of the oldest turns there."""
        if is_first and self._reason == SPOOL_FULL:
            return self._refuse(self._reason, is_first)
        self._is_calm = False
        self._easy_bytes = 0
        if is_first:
            self.counters.add(QUEUED)
        evicted = self._ring.put(Held(kind, payload, is_first), now)
        if evicted.turns:
            self.counters.add(f"{EVICTED}{self._reason}", evicted.turns)
        if evicted.frames:
            self.counters.add(f"{LOST_FRAMES}{self._reason}", evicted.frames)
        return True

    def _drain(self, now: float, limit: int) -> None:
        """Move frames from memory to disk, if there is reason to believe that it can be written to."""
        if now < self._probe_at:
            return
        for _ in range(limit):
            frame = self._ring.peek()
            if frame is None:
                return
            if self._allowance.refusal(len(frame.payload) + _OVERHEAD, is_first=frame.is_first) is not None:
                self._probe_at = now + self._probe_seconds
                return
            try:
                segment = self._chosen(len(frame.payload) + _OVERHEAD)
                self._put(segment or self._open(now), frame.kind, frame.payload, frame.is_first, now)
            except OSError as error:
                self._fail(error, now)
                return
            self._ring.pop()
            if frame.is_first:
                self.counters.add(UNQUEUED)

    def _refuse(self, reason: str, is_first: bool) -> bool:
        self.counters.add(f"{DROPPED if is_first else LOST_FRAMES}{reason}")
        return False

    def _begin_again(self) -> None:
        """In a process, or after a `close`, that has no directory yet. The lock is held by us and stays."""
        lock, owner, late = self._lock, self._owner, self._late
        if self._segment is not None:
            self._segment.close()
        self._home.leave_to_parent()
        self._begin()
        self._lock, self._owner, self._late = lock, owner, late

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's files and frames (they are the parent's to write), with new locks."""
        if self._segment is not None:
            self._segment.close()
        self._home.leave_to_parent()
        self._begin()

    def close(self) -> None:
        """Write what waits in memory, if it can be, and leave the directory to the reader. A later `append` begins a
        new directory."""
        with self._lock:
            if self._is_closed or self._pid != os.getpid():
                return
            self._owner = get_ident()
            try:
                self._probe_at = float("-inf")
                while (waiting := self._ring.size) and self._home.is_open:
                    self._drain(self._clock(), 1)
                    if self._ring.size >= waiting:
                        break
                self._seal()
                self._home.leave()
                self._is_closed = True
            except Exception:
                self.counters.add(f"{FAULT}spool.close")
            finally:
                self._owner = 0


_writers: "weakref.WeakSet[SpoolWriter]" = weakref.WeakSet()


def _after_fork() -> None:
    for writer in list(_writers):
        writer.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)
