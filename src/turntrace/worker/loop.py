"""The loop of the worker: frames in, batches out, progress committed with the rows."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import orjson

from turntrace.failpoint import reach
from turntrace.pipeline import Pipeline, Redactor, decode, merge_late
from turntrace.records.batch import Batch, ProcessCounts, Reading, Worked
from turntrace.records.fragment import Fragment, FrameKind
from turntrace.records.score import Score
from turntrace.spool.reader import Frame
from turntrace.storage.database import Database
from turntrace.storage.received import ReceivedMeanwhile
from turntrace.version import __version__
from turntrace.worker.comment import redacted_scores, redacted_text
from turntrace.worker.courtesy import Courtesy
from turntrace.worker.delivery import Delivery, as_lost, pause
from turntrace.worker.open_turns import OpenTurns
from turntrace.worker.peek import ended_in, id_of
from turntrace.worker.primer import prime
from turntrace.worker.reception import Arrival, Desk, Gathered
from turntrace.worker.status import Status

log = logging.getLogger("turntrace.worker")
_UNFINISHED: Final = (FrameKind.START, FrameKind.DELTA)
FRAMES_PER_POLL = 2048
BYTES_PER_POLL = 16 << 20
COUNTS_EVERY_SECONDS = 1.0
TRIES = 5  # when other workers store parts of the same turns
LOST = "dropped:corrupt"  # turns that damage in the spool made unreadable
SEEN_EVERY_SECONDS = 30.0  # how often an idle process is written down as seen


class Source(Protocol):
    """What the worker reads: a spool on disk, or one in memory."""

    def poll(self, max_frames: int, max_bytes: int) -> list[Frame]: ...
    def commit(self, marks: dict[str, int]) -> None: ...
    def release(self, pinned: frozenset[str]) -> None: ...
    def dead(self) -> list[str]: ...
    def forget(self, process_id: str) -> None: ...
    def counts(self) -> list[ProcessCounts]: ...
    def rewind(self) -> None: ...
    def unread(self) -> int: ...
    @property
    def skipped(self) -> Mapping[str, int]: ...


@dataclass(slots=True)
class Chunk:
    """Frames that will share one transaction, sorted by what is to be done with them."""

    fragments: list[Fragment] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)  # over OTLP: parts of turns, put together when committed
    scores: list[Score] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)  # may be negative: what was counted as lost was found
    turns: int = 0  # delivered whole, accounted for once this is committed
    ended: list[str] = field(default_factory=list)  # ids of turns that are open until then

    def is_empty(self) -> bool:
        """Whether committing it would change nothing."""
        return not (self.fragments or self.arrivals or self.scores or self.marks or self.lost)

    def __len__(self) -> int:
        return len(self.fragments) + len(self.arrivals)


class Worker:
    """Moves turns from a spool into a database. Not thread-safe: one loop drives it.

    Args:
        desk: puts what comes over OTLP together with what came of the same turns before.
        exports: names the destinations that a turn is sent on to, once it is stored.
        clock: seconds that never go back, for intervals; `wall` gives Unix time in microseconds.
    """

    def __init__(
        self,
        source: Source,
        database: Database,
        pipeline: Pipeline,
        *,
        batch_turns: int = 256,
        poll_seconds: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
        before_step: Callable[[], None] = lambda: None,
        tell: Callable[[Status], None] = lambda status: None,
        redactor: Redactor | None = None,
        desk: Desk | None = None,
        exports: Callable[[Worked], Worked] = lambda worked: worked,
    ) -> None:
        self._source, self._pipeline = source, pipeline
        self._delivery = Delivery(database, wall=wall, tell=self._say_trouble)
        self._batch_turns, self._poll_seconds = batch_turns, poll_seconds
        self._clock, self._wall = clock, wall
        self._before_step, self._tell = before_step, tell
        self._redactor, self._desk, self._exports = redactor, desk, exports
        self._batches = self._turns = 0
        self._read: dict[str, int] = {}  # bytes by process, all of them stored
        self._in_hand = 0  # turns delivered, neither accounted for nor among the open ones
        self._failures = 0
        self._last_error: tuple[str, int] | None = None
        self._open = OpenTurns()
        self._counted_at = self._told_at = -COUNTS_EVERY_SECONDS
        self._last_counts: dict[str, ProcessCounts] = {}
        self._has_buried = False
        self._courtesy = Courtesy(clock=clock)
        self._is_behind = False

    @property
    def pipeline(self) -> Pipeline:
        """What turns go through; it has the price list of the moment."""
        return self._pipeline

    def run(
        self, stop: threading.Event, *, drain_seconds: float = 3.0, after_step: Callable[[], None] = lambda: None
    ) -> None:
        """Work until `stop` is set, then drain what is already spooled, for `drain_seconds` at the most.

        Args:
            after_step: called while nothing is in hand, and not only in pauses: a busy worker makes none.
        """
        self.warm_up()
        while not stop.is_set():
            began = self._clock()
            had_work = self._guarded_step(stop)
            after_step()
            if had_work:
                stop.wait(self._courtesy.rest_seconds(self._clock() - began, is_behind=self._is_behind))
            else:
                stop.wait(self._poll_seconds)
        deadline = self._clock() + drain_seconds
        while self._clock() < deadline and self._guarded_step(stop, retry=False):
            pass

    def warm_up(self) -> None:
        """Load what the first turn would have to wait for: price table, redaction."""
        try:
            prime(self._pipeline)
            if self._redactor is not None:
                redacted_text(self._redactor, "write to somebody@example.com", scope="")
        except Exception as error:
            log.warning("the pipeline could not be prepared: %s", type(error).__name__)

    def _guarded_step(self, stop: threading.Event, *, retry: bool = True) -> bool:
        """One step that survives any exception; says whether there was work."""
        try:
            had_work = self.step(stop=stop if retry else None)
            self._failures = 0
            return had_work
        except Exception as error:
            # The text of a database or decoding error may hold what users wrote: the type has to do.
            log.error("a step of the worker failed: %s", type(error).__name__)
            self._note(error)
            self._begin_again()
            self._report(always=False)
            if retry:
                stop.wait(pause(self._failures))
                self._failures += 1
            return False

    def _begin_again(self) -> None:
        """What was read and not committed is read again."""
        self._source.rewind()
        self._open.show_again()
        self._in_hand = 0

    def _note(self, error: Exception) -> None:
        self._last_error = type(error).__name__, self._wall()

    def _say_trouble(self, error: Exception) -> None:
        self._note(error)
        self._report(always=False)

    def step(self, *, stop: threading.Event | None = None) -> bool:
        """Read once and commit all that was read; says whether anything was read."""
        self._before_step()
        # Before the look into the spool: what is written meanwhile is not said to be read.
        written = {counts.process_id: counts.bytes_written for counts in self._source.counts()}
        frames = self._source.poll(FRAMES_PER_POLL, BYTES_PER_POLL)
        self._in_hand = sum(_is_new_turn(frame) for frame in frames)
        self._is_behind = len(frames) > self._batch_turns
        for chunk in self._chunks(frames):
            self._commit(chunk, stop)
        self._bury_dead(stop)
        self._show_open(stop)
        self._count(stop, always=bool(frames))
        self._source.release(self._open.pinned())
        is_news, self._read = not frames and written != self._read, self._read if frames else written
        self._report(always=bool(frames) or self._has_buried or is_news)
        self._has_buried = False
        return bool(frames)

    def _report(self, *, always: bool) -> None:
        """Tell the other processes how it stands: after work, and once a second as a sign of life."""
        now = self._clock()
        if always or now - self._told_at >= COUNTS_EVERY_SECONDS:
            self._told_at = now
            self._tell(self._status())

    def _status(self) -> Status:
        counts = self._source.counts()
        error, at_us = self._last_error or (None, None)
        return Status(
            at_us=self._wall(),
            pid=os.getpid(),
            version=__version__,
            in_spool=self._source.unread() + self._in_hand + self._open.unstored(),
            accepted={c.process_id: c.accepted - sum(c.dropped.values()) for c in counts},
            read=self._read,
            open_turns=len(self._open),
            skipped=dict(self._source.skipped),
            last_error=error,
            last_error_at_us=at_us,
            batches=self._batches,
            turns=self._turns,
        )

    def _chunks(self, frames: Sequence[Frame]) -> Iterator[Chunk]:
        chunk, ended = Chunk(), ended_in(frames)
        for frame in frames:
            self._sort(frame, chunk, ended)
            if len(chunk) >= self._batch_turns:
                yield chunk
                chunk = Chunk()
        if not chunk.is_empty():
            yield chunk

    def _sort(self, frame: Frame, chunk: Chunk, ended: Collection[str]) -> None:
        """Put one frame where it belongs; a frame that cannot be read is counted and passed over. What was written of
        the turns `ended` before their END, which comes soon, is only kept at hand."""
        chunk.marks[frame.segment] = frame.sequence
        _note_reading(frame, chunk)
        if frame.lost:
            chunk.lost[LOST] += frame.lost
        try:
            if frame.kind is FrameKind.SCORE:
                self._take_score(frame, chunk)
            elif frame.kind in _UNFINISHED and (found := id_of(frame.payload)) in ended:
                self._open.add_unread(frame, str(found))
                self._in_hand -= _is_new_turn(frame)
            else:
                self._take_fragment(frame, decode(frame.kind, frame.payload), chunk)
        except Exception as error:
            log.warning("a frame could not be read: %s", type(error).__name__)
            if _is_new_turn(frame):
                chunk.turns += 1
                chunk.lost["dropped:unreadable"] += not frame.is_stored

    def _take_score(self, frame: Frame, chunk: Chunk) -> None:
        if not frame.is_done:
            chunk.scores.append(Score(**orjson.loads(frame.payload)["score"]))

    def _take_fragment(self, frame: Frame, fragment: Fragment, chunk: Chunk) -> None:
        if fragment.kind in _UNFINISHED:
            self._open.add(frame, fragment)
            self._in_hand -= _is_new_turn(frame)
            return
        if fragment.kind is FrameKind.END:
            self._take_end(frame, fragment, chunk)
            fragment = self._open.completed(fragment)
        elif not frame.is_done:
            chunk.turns += frame.is_first
        if frame.is_done:
            return
        if self._desk is not None and fragment.kind in (FrameKind.OTLP, FrameKind.LOGS):
            chunk.arrivals.append(Arrival(fragment, frame.payload))
        else:
            chunk.fragments.append(fragment)

    def _take_end(self, frame: Frame, fragment: Fragment, chunk: Chunk) -> None:
        if frame.is_done:
            self._open.close(fragment.turn.id)
            return
        chunk.turns += frame.is_first
        if not (frame.is_first or self._open.has_start(fragment.turn.id)):
            # Its first frame fell to damage and was counted as a lost turn; here the turn is, whole.
            chunk.lost[LOST] -= 1
        chunk.ended.append(fragment.turn.id)

    def _bury_dead(self, stop: threading.Event | None) -> None:
        """Turns of dead processes end as interrupted; then their directories go."""
        for process_id in self._source.dead():
            fragments = self._open.of_process(process_id)
            if fragments:
                self._commit(Chunk(fragments=fragments, ended=[item.turn.id for item in fragments]), stop)
            self._count(stop, always=True)
            self._source.release(self._open.pinned())
            reach("worker.before_forget")
            self._source.forget(process_id)
            self._last_counts.pop(process_id, None)
            self._has_buried = True

    def _show_open(self, stop: threading.Event | None) -> None:
        fragments = list(self._open.to_show(self._clock()))
        if fragments:
            self._commit(Chunk(fragments=fragments), stop)

    def _count(self, stop: threading.Event | None, *, always: bool) -> None:
        """Store the counters of capturing processes, where they changed."""
        now = self._clock()
        if not always and now - self._counted_at < COUNTS_EVERY_SECONDS:
            return
        self._counted_at = now
        changed = tuple(c for c in self._source.counts() if self._is_news(c))
        if changed:
            self._delivery.deliver(Batch(processes=changed), stop)
            self._last_counts.update({c.process_id: c for c in changed})

    def _is_news(self, counts: ProcessCounts) -> bool:
        """Whether anything but the time has changed; an idle application must not write every second."""
        known = self._last_counts.get(counts.process_id)
        if known is None or counts.seen_at_us - known.seen_at_us >= SEEN_EVERY_SECONDS * 1e6:
            return True
        return replace(known, seen_at_us=counts.seen_at_us) != counts

    def _commit(self, chunk: Chunk, stop: threading.Event | None) -> None:
        portions = list(self._desk.portions(chunk.arrivals)) if self._desk is not None and chunk.arrivals else [[]]
        for portion in portions[:-1]:
            self._store(Chunk(arrivals=portion), stop)
        self._store(replace(chunk, arrivals=portions[-1]), stop)
        self._in_hand -= chunk.turns
        for turn_id in chunk.ended:
            self._open.close(turn_id)
        reach("worker.after_write")
        self._source.commit(chunk.marks)

    def _store(self, chunk: Chunk, stop: threading.Event | None) -> None:
        """Work on a chunk and write it; anew where another worker stored parts of the same turns meanwhile."""
        for tries_left in reversed(range(TRIES)):
            batch = self._batch(chunk)
            reach("worker.before_write")
            try:
                self._delivery.deliver(batch, stop)
            except ReceivedMeanwhile:
                if not tries_left:
                    raise
                continue
            self._batches, self._turns = self._batches + 1, self._turns + len(batch.worked)
            self._open.note_stored(item.trace.id for item in batch.worked if item.kind is FrameKind.START)
            return

    def _batch(self, chunk: Chunk) -> Batch:
        gathered = self._desk.gather(chunk.arrivals) if self._desk is not None and chunk.arrivals else Gathered()
        worked, lost = self._work(merge_late([*chunk.fragments, *gathered.fragments]))
        lost.update(chunk.lost)
        lost.update(as_lost(FrameKind.OTLP, "pipeline") * gathered.faults)
        return Batch(
            worked=tuple(self._exports(self._with_reception(item, gathered)) for item in worked),
            marks=chunk.marks,
            readings=chunk.readings,
            loss=lost,
            scores=redacted_scores(self._redactor, chunk.scores),
            waiting=tuple(gathered.waiting),
        )

    def _with_reception(self, worked: Worked, gathered: Gathered) -> Worked:
        reception = gathered.receptions.get(worked.trace.id)
        if reception is None:
            return worked
        before = gathered.before.get(worked.trace.id)
        counted = self._pipeline.work([before])[0].facts if before is not None else ()
        return replace(worked, reception=reception, counted=counted)

    def _work(self, fragments: Sequence[Fragment]) -> tuple[list[Worked], Counter[str]]:
        """Run the pipeline; when it fails on the whole, one by one, so that one bad turn costs only itself."""
        try:
            return self._pipeline.work(fragments), Counter()
        except Exception as error:
            log.warning("the pipeline failed on a batch: %s", type(error).__name__)
        worked: list[Worked] = []
        lost: Counter[str] = Counter()
        for fragment in fragments:
            try:
                worked += self._pipeline.work([fragment])
            except Exception as error:
                log.error("a turn was set aside: %s", type(error).__name__)
                lost.update(as_lost(fragment.kind, "pipeline"))
        return worked, lost


def _note_reading(frame: Frame, chunk: Chunk) -> None:
    """Add one frame to what the chunk holds of its segment."""
    if frame.is_stored or not frame.through:
        return
    reading = chunk.readings.get(frame.segment)
    if reading is not None:
        reading.through = frame.through
        return
    chunk.readings[frame.segment] = Reading(
        process_id=frame.process_id, first_sequence=frame.sequence, before=frame.before, through=frame.through
    )


def _is_new_turn(frame: Frame) -> bool:
    """Whether a turn is delivered with this frame that was not accounted for before."""
    return frame.is_first and not frame.is_done
