"""Sends stored turns on to one OTLP endpoint: a thread beside the worker's, never on the path of a request.

Of the workers of several hosts, the holder of the destination's lease sends. What waits, waits in the database.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from turntrace.errors import TurntraceError
from turntrace.failpoint import reach
from turntrace.pipeline import UNREDACTED
from turntrace.pipeline.gather import RELAYED
from turntrace.pipeline.outbound import encode
from turntrace.records.batch import Worked
from turntrace.records.destination import Answer, Destination, Verdict
from turntrace.records.fragment import FrameKind
from turntrace.records.trace import Trace
from turntrace.storage import leases, outbound
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import by_ids
from turntrace.tracing.context import suspended
from turntrace.version import __version__

log = logging.getLogger("turntrace.export")

LOOK_SECONDS: Final = 0.5
TURNS_AT_ONCE: Final = 64
LOADED_AT_ONCE: Final = 8
BYTES_AT_ONCE: Final = 1 << 20  # of a request before it is compressed; a single turn may have more
FIRST_RETRY_SECONDS: Final = 1.0
LAST_RETRY_SECONDS: Final = 300.0
TRIM_SECONDS: Final = 10.0
LEASE_US: Final = 60_000_000
_ENDED: Final = frozenset({FrameKind.END, FrameKind.OTLP, FrameKind.AMEND})


class Sender(Protocol):
    """The way to one destination."""

    def send(self, body: bytes) -> Answer:
        """Deliver an `ExportTraceServiceRequest`; never raises."""
        ...

    def close(self) -> None:
        """End what is under way, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Portion:
    """What one request is about: rows, the turns among them that are sent, those that cannot be, and the bytes."""

    ids: tuple[int, ...]
    turns: int
    broken: int
    body: bytes


def names_for(destinations: Sequence[Destination]) -> Callable[[Worked], Worked]:
    """Names the destinations that get a turn, as far as it shows before it is stored: its route may come later."""

    def named(worked: Worked) -> Worked:
        if worked.kind not in _ENDED or not worked.is_kept or RELAYED in worked.trace.flags:
            return worked
        trace_id = worked.trace.trace_id
        return replace(worked, exports=tuple(there.name for there in destinations if there.samples(trace_id)))

    return named if destinations else lambda worked: worked


class Exporter:
    """Moves what waits for one destination. Not thread-safe: one loop drives it.

    Args:
        most_waiting: turns that may wait; the oldest beyond are left out and counted.
        known: names of all destinations; what waits for others for a day is forgotten.
        wall: Unix time in microseconds.
    """

    def __init__(
        self,
        database: Database,
        destination: Destination,
        sender: Sender,
        *,
        most_waiting: int = 100_000,
        known: Sequence[str] = (),
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._destination, self._sender = database, destination, sender
        self._most_waiting, self._wall, self._clock = most_waiting, wall, clock
        self._known = tuple(known) or (destination.name,)
        self._owner = leases.new_owner()
        self._lease: leases.Lease | None = None
        self._failures = 0
        self._trim_at = 0.0
        self._singly = 0  # rows still to be sent one by one, because their request was refused as a whole

    @property
    def name(self) -> str:
        """Of its destination."""
        return self._destination.name

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set."""
        with suspended():  # what we send is nobody's turn
            pause = 0.0
            while not stop.wait(pause):
                pause = self._guarded_step()
            self._leave()

    def close(self) -> None:
        """End a request that is under way, from another thread."""
        self._sender.close()

    def _guarded_step(self) -> float:
        """One step that survives any exception; answers how long to wait for the next (s)."""
        try:
            return self.step()
        except TurntraceError as error:
            log.info("turns for %s wait: %s", self.name, type(error).__name__)
        except Exception as error:
            self._note_fault(error)
        return self._backed_off()

    def _note_fault(self, error: Exception) -> None:
        """A fault of ours is told like one of the destination's, where the database takes it."""
        try:
            self._note(type(error).__name__, is_final=False)
        except Exception:  # what the database refused of the step, it may refuse of the note too
            log.error("the export to %s failed: %s", self.name, type(error).__name__)

    def step(self) -> float:
        """Send one request's worth; answers how long to wait for the next (s)."""
        limit = 1 if self._singly else TURNS_AT_ONCE
        with self._database.read() as connection:
            rows = outbound.waiting(connection, self.name, limit=limit)
        if not rows:
            self._leave()
            return LOOK_SECONDS
        if not self._may_send():
            return LOOK_SECONDS
        if self._trimmed():
            return 0.0
        portion = self._portion(rows)
        answer = self._sender.send(portion.body) if portion.turns else Answer(verdict=Verdict.TAKEN)
        reach("export.after_send")
        return self._take(portion, answer)

    def _may_send(self) -> bool:
        self._lease = self._database.transact(leases.acquire, self._lease_name, self._owner, ttl_us=LEASE_US)
        return self._lease is not None

    @property
    def _lease_name(self) -> str:
        return f"export:{self.name}"

    def _leave(self) -> None:
        """Give the lease back, so that another host need not wait for its end."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            self._database.transact(leases.release, lease)
        except TurntraceError:
            log.info("the lease of the export to %s runs out by itself", self.name)

    def _trimmed(self) -> bool:
        now = self._clock()
        if now < self._trim_at:
            return False
        self._trim_at = now + TRIM_SECONDS
        count = self._database.transact(outbound.trim, self.name, most=self._most_waiting)
        self._database.transact(outbound.forget_others, self._known, now_us=self._wall())
        if count:
            log.error("%d turns are not sent to %s: more than %d waited", count, self.name, self._most_waiting)
        return count > 0

    def _portion(self, rows: Sequence[outbound.Waiting]) -> Portion:
        """As many of the rows as make one request, and what to send of them."""
        done: set[str] = set()
        ids: list[int] = []
        parts: list[bytes] = []
        size = broken = 0
        for group in _groups(rows, LOADED_AT_ONCE):
            with self._database.read() as connection:
                found = by_ids(connection, list({turn_id for _, turn_id in group}), is_strict=True)
            for row_id, turn_id in group:
                ids.append(row_id)
                trace = found.get(turn_id)
                if trace is not None and turn_id not in done and self._is_wanted(trace):
                    body = self._encoded(trace)
                    if body is None:
                        broken += 1
                    else:
                        parts.append(body)  # requests one after the other are one request: their fields repeat
                        size += len(body)
                done.add(turn_id)
            if size >= BYTES_AT_ONCE:
                break
        return Portion(tuple(ids), len(parts), broken, b"".join(parts))

    def _encoded(self, trace: Trace) -> bytes | None:
        """The turn as a request; None where it has no form there: it must not hold up the others."""
        # Texts of a window of full capture are stored as they were: those stay here.
        has_texts = self._destination.content and UNREDACTED not in trace.flags
        try:
            return encode([trace], version=__version__, with_content=has_texts)
        except Exception as error:
            log.error("a turn cannot be sent to %s: %s", self.name, type(error).__name__)
            return None

    def _is_wanted(self, trace: Trace) -> bool:
        if RELAYED in trace.flags:
            return False
        return self._destination.wants(environment=trace.environment, route=trace.route or trace.name)

    def _take(self, portion: Portion, answer: Answer) -> float:
        if answer.verdict is Verdict.LATER:
            self._note(answer.reason, is_final=False)
            return self._backed_off(answer.retry_seconds)
        self._failures = 0
        if answer.verdict is Verdict.REFUSED and portion.turns > 1:
            self._singly = len(portion.ids)  # one of them is to blame
            return 0.0
        self._singly = max(0, self._singly - len(portion.ids))
        counts = Counter(left_out=len(portion.ids) - portion.turns - portion.broken, refused=portion.broken)
        counts["sent" if answer.verdict is Verdict.TAKEN else "refused"] += portion.turns
        self._database.transact(outbound.settle, self.name, portion.ids, counts, self._wall())
        if answer.reason:
            self._note(answer.reason, is_final=True)
        return 0.0

    def _note(self, reason: str, *, is_final: bool) -> None:
        log.warning("the export to %s failed: %s", self.name, reason)
        self._database.transact(outbound.note_failure, self.name, reason, self._wall(), is_final=is_final)

    def _backed_off(self, asked_seconds: float | None = None) -> float:
        """Longer at every failure, and by chance, so that the senders of several hosts spread."""
        longest = min(FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 20), LAST_RETRY_SECONDS)
        self._failures += 1
        return max(min(asked_seconds or 0.0, LAST_RETRY_SECONDS), longest * random.uniform(0.5, 1.0))


def _groups(rows: Sequence[outbound.Waiting], size: int) -> Iterator[Sequence[outbound.Waiting]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


class Exporters:
    """The exporters of a worker, a thread each: a slow destination holds up no other."""

    def __init__(self, exporters: Sequence[Exporter]) -> None:
        self._exporters = exporters
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for exporter in self._exporters:
            name = f"turntrace-export-{exporter.name}"
            thread = threading.Thread(target=exporter.run, args=[self._stop], name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float) -> None:
        """End: what waits stays in the database."""
        self._stop.set()
        for exporter in self._exporters:
            exporter.close()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
