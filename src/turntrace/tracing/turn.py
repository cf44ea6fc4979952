"""One turn while it happens: what is known of it, its spans, and the frames it becomes.

A frame's payload is the JSON of `records/fragment.py`. START and END are cumulative; DELTA holds the header fields
that changed, the spans that began, changed or ended, and the text received since the last frame; AMEND, after END, the
late spans and late fields, with the dimensions (session, user, route, …) that their numbers are counted by.

A frame is written when a stream is due (`is_due`), before every tool runs, so that a tool which takes the process
down leaves its name and arguments behind, and at the end. Top-level spans name the turn's `span_id` as parent.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns, time_ns
from typing import Any, Final, Literal

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from turntrace.records.fragment import FrameKind
from turntrace.tracing import field
from turntrace.tracing.answer import Answer
from turntrace.tracing.baggage import BaggageEntry
from turntrace.tracing.body import BodyText
from turntrace.tracing.choice import is_chosen
from turntrace.tracing.context import activate, current_turn, deactivate, is_suspended, suspended
from turntrace.tracing.failure import describe
from turntrace.tracing.header import amended_header, bare_header, changes
from turntrace.tracing.ids import new_span_id, new_trace_id, new_turn_id
from turntrace.tracing.payload import payload
from turntrace.tracing.recorder import Recorder, run_exclusive
from turntrace.tracing.root import RootSpan
from turntrace.tracing.span import Recorded, Span
from turntrace.tracing.watched import Watched

Outcome = Literal["complete", "client_disconnected", "interrupted"]

DELTA_BYTES: Final = 4096  # a streamed answer that grew by this much is written before delta_ms have passed
LATE_SECONDS: Final = 300.0  # how long after its end a turn still takes new observations
_ROOT_FLAGS: Final = TraceFlags(0x03)  # sampled, and random as level 2 defines it
_NO_STATE: Final = TraceState()
_NOTHING: Final[dict[str, Any]] = {}


class Turn(Answer):
    """One turn, mutable until it ends and amendable after.

    The fields of the header are plain attributes that capture sets; the host goes through `update`. Spans register
    themselves. Any thread may call anything: collecting relies on atomic list and dict operations, frames are built
    and written under a short lock.

    Args:
        recorder: where frames go.
        parent: the caller's span (remote), or a span of the host's own tracing that is current; its trace is
            continued, its flags and state are handed on.
        path: what route patterns of the setting `record` are compared with, besides `route`.
        is_explicit: the host asked for this turn: it is kept even with no observation in it.
    """

    __slots__ = (
        "_end_is_written",
        "_framed_at_ns",
        "_framed_bytes",
        "_framed_spans",
        "_has_start",
        "_is_lost",
        "_joined",  # spans of the host's tracing that are open, by id
        "_late_fields",
        "_late_spans",
        "_lock",
        "_told",
        "baggage",  # entries of the caller that are passed on as they came; unset where there are none
        "done",
        "ended_ns",
        "is_ai",
        "is_finished",
        "open",
        "overhead_ns",
        "path",
        "resolve",  # finds `route` and `user_id` for `known`; None where whoever records the turn has no more to say
        "root",
        "span_count",
        "span_limit",
        "trace_flags",
        "trace_state",
        "watched",  # what ends while somebody is charged for it; None where nobody is
    )
    baggage: tuple[BaggageEntry, ...]
    resolve: Callable[[str], str | None] | None
    _joined: dict[int, Recorded]
    watched: Watched | None

    def __init__(
        self,
        recorder: Recorder,
        *,
        name: str = "",
        source: str = "http",
        parent: SpanContext | None = None,
        method: str | None = None,
        path: str | None = None,
        route: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        request_id: str | None = None,
        depth: int = 0,
        is_explicit: bool = False,
    ) -> None:
        now_ns = time_ns()
        self.started_ns = self._framed_at_ns = perf_counter_ns()
        self.id = new_turn_id(now_ns)
        if parent is None or not parent.is_valid:
            self.trace_id = new_trace_id()
            self.trace_flags, self.trace_state = _ROOT_FLAGS, _NO_STATE
        else:
            self.trace_id, self.parent_span_id = f"{parent.trace_id:032x}", f"{parent.span_id:016x}"
            self.trace_flags, self.trace_state = parent.trace_flags, parent.trace_state
        self.span_id = new_span_id()
        self.started_at_us = now_ns // 1000
        self.outcome = "in_progress"
        # Each by itself and only where it says something: most turns have few, and a frame encodes what was set.
        if name:
            self.name = name
        if source != "http":
            self.source = source
        if method is not None:
            self.method = method
        if route is not None:
            self.route = route
        if session_id is not None:
            self.session_id = session_id
        if user_id is not None:
            self.user_id = user_id
        if request_id is not None:
            self.request_id = request_id
        if depth:
            self.depth = depth
        resource, settings = recorder.resource, recorder.settings
        self.environment = resource.environment
        if resource.release is not None:
            self.release = resource.release
        if resource.service_name is not None:
            self.service_name = resource.service_name
        self.recorder, self.path, self.is_ai, self.span_limit = recorder, path, is_explicit, settings.max_spans
        self.field_limit, self._room = settings.max_field_bytes, settings.max_turn_bytes
        self.short_limit = self.field_limit // 3
        self.overhead_ns = self.ended_ns = self.span_count = self._framed_bytes = self._framed_spans = 0
        self.is_finished = self._end_is_written = self._has_start = self._is_lost = self._is_text = False
        self.root: RootSpan | None = None
        self._body: BodyText | None = None
        self.resolve = self._notes = self.watched = None
        self._joined = {}  # never replaced: other threads are in it while a turn ends
        self.open: dict[str, Span] = {}
        self.done: list[Recorded] = []
        self._told: Mapping[str, Any] = _NOTHING
        self._late_spans: list[Recorded] = []
        self._late_fields: dict[str, Any] = {}
        self._lock = threading.Lock()

    # What the host says

    def update(self, **fields: Any) -> None:
        """Set fields of the trace: name, input, output, session_id, user_id, feature, experiment, tags, metadata,
        feature_flags, request_id, content. None leaves a field as it is; tags are added, metadata and feature flags
        merged. `content="metadata"` keeps numbers and names of this turn and none of its texts.

        Raises:
            TypeError: an unknown field, or a value of the wrong type.
        """
        checked = field.check_turn(fields)
        try:
            self._apply(checked)
        except Exception as exc:
            self.recorder.guard.fault("turn.update", exc)

    def _apply(self, checked: Mapping[str, Any]) -> None:
        self.is_ai = True
        for name, value in checked.items():
            if name == "tags":
                value = self.tags = tuple(dict.fromkeys((*self.tags, *value)))[: field.MAX_TAGS]
            elif name in ("metadata", "feature_flags"):
                added = {key: self.keep(item) for key, item in value.items()}
                value = {**getattr(self, name), **added}
                setattr(self, name, value)
            else:
                value = self.keep(value, getattr(self, name))
                setattr(self, name, value)
            if self.is_finished:
                self._late_fields[name] = value
        if self.is_finished:
            run_exclusive(self._amend)

    def known(self, name: Literal["route", "user_id"]) -> str | None:
        """A field that capture fills in late: as it is, else as it can be told now. Nothing is set by asking."""
        value: str | None = getattr(self, name)
        resolve = self.resolve  # once: the end of the request takes it away
        return value if value is not None or resolve is None else resolve(name)

    def correct(self, **fields: Any) -> None:
        """Set header fields that capture learnt to be otherwise; after the end of a recorded turn by an AMEND.

        Args:
            fields: names and values of `TurnHeader`, in their form on the wire.
        """
        for name, value in fields.items():
            setattr(self, name, value)
            if self.is_finished:
                self._late_fields[name] = value
        if self.is_finished:
            run_exclusive(self._amend)

    # What capture asks

    def is_due(self, now_ns: int | None = None) -> bool:
        """Whether a frame should be written now: `delta_ms`, or 4 KB of answer, since the last one."""
        if (self.bytes_sent or 0) - self._framed_bytes >= DELTA_BYTES:
            return self.is_recorded()
        since = (perf_counter_ns() if now_ns is None else now_ns) - self._framed_at_ns
        return since >= self.recorder.settings.delta_ms * 1_000_000 and self.is_recorded()

    def is_recorded(self) -> bool:
        """Whether this turn becomes a trace, as far as is known (setting `record`)."""
        record = self.recorder.settings.record
        if self.is_ai and (record == "ai" or self.source != "http"):
            return True
        if record != "ai":
            return is_chosen(record, self.route, self.path)
        return (bool(self.open) and any(span.is_ai() for span in list(self.open.values()))) or (
            bool(self._joined) and bool(self._left_open())
        )

    def is_stale(self) -> bool:
        """Whether it ended so long ago that new observations are no part of it.

        A task or thread that a turn happens to start may live for ever and inherits the turn's context.
        """
        return self.is_finished and perf_counter_ns() - self.ended_ns > LATE_SECONDS * 1e9

    # Frames

    def checkpoint(self) -> None:
        """Write what is known so far: START the first time, then DELTA. Does nothing for a turn that has ended."""
        try:
            if not self.is_finished:
                run_exclusive(self._progress)
        except Exception as exc:
            self.recorder.guard.fault("turn.checkpoint", exc)

    def reemit(self) -> None:
        """Write a cumulative START again: the spool is about to forget the segment with the earlier frames."""
        try:
            run_exclusive(partial(self._progress, is_cumulative=True))
        except Exception as exc:
            self.recorder.guard.fault("turn.reemit", exc)

    def finish(self, outcome: Outcome = "complete", *, error: BaseException | None = None) -> None:
        """End the turn and write END, if it is recorded. The first call counts.

        Observations that are still open stand in END as open; when they end they follow in an AMEND.
        """
        try:
            if error is not None and not self.is_finished:
                self.error = describe(error)
            run_exclusive(self._finish, outcome)
        except Exception as exc:
            self.recorder.guard.fault("turn.finish", exc)
            self._give_up(outcome)

    def begin_tool(self) -> None:
        """A tool is about to run: its name and arguments go to the spool first."""
        self.checkpoint()

    def collect(self, span: Recorded, *, is_again: bool = False) -> None:
        """Take an ended span. After the end of the turn it goes out as an AMEND at once.

        Args:
            is_again: it was taken before, and has changed since.
        """
        if not self.is_ai and span.is_ai():
            self.is_ai = True
        # Order matters: END sets `is_finished` before it looks at `done`, so a span is seen by one of the two.
        self.done.append(span)
        watched = self.watched
        if watched is not None and not is_again:
            watched.add(span)
        if self.is_finished:
            self._late_spans.append(span)
            run_exclusive(self._amend)

    def join(self, span_id: int, span: Recorded) -> None:
        """Know of a span of the host's tracing that began here: END says what is known of it if it is still open."""
        if not self.is_finished:
            self._joined[span_id] = span

    def part(self, span_id: int) -> None:
        """It has ended: whoever joined it hands over what it became."""
        self._joined.pop(span_id, None)

    def _left_open(self) -> list[Recorded]:
        """Of the host's open spans those of an LLM: the others are its own business."""
        try:
            return [span for span in list(self._joined.values()) if span.is_ai()]
        except Exception as exc:
            self.recorder.guard.fault("turn.left_open", exc)
            return []

    def start_frame(self) -> bytes:
        """Payload of START: everything so far, open spans included."""
        header = self._header()
        self._told = header.copy()
        return payload(header, [*self.done, *list(self.open.values())])

    def delta_frame(self) -> bytes:
        """Payload of DELTA: what changed since the last frame was built."""
        told = self._told
        header = self._header(is_growth=True)
        self._told = header.copy()
        spans = self.done[self._framed_spans :]
        return payload(changes(header, told), [*spans, *(span for span in list(self.open.values()) if span.is_dirty)])

    def end_frame(self) -> bytes:
        """Payload of END: the whole turn."""
        self.overhead_us = self.overhead_ns // 1000
        spans: list[Recorded] = [*self.done, *list(self.open.values())]
        if not self._joined:
            return payload(self._header(), spans)
        room = self._room
        left = self._left_open()
        frame = payload(self._header(), [*spans, *left])
        self._room = room  # what the frame says of them is said anew, and counted then, when they end
        return frame

    def amend_frame(self, spans: Sequence[Recorded] = (), fields: Mapping[str, Any] | None = None) -> bytes:
        """Payload of AMEND: late spans and late fields."""
        return payload(amended_header(self, fields or {}), spans)

    def _header(self, *, is_growth: bool = False) -> dict[str, Any]:
        """The header as it is now. It is our own dictionary: to be encoded at once, or copied."""
        if self._notes is not None:
            notes = list(self._notes.items())
            self.flags = tuple(flag if count == 1 else f"{flag}:{count}" for flag, count in notes)
        body = self._body
        if body is None or not self.is_streamed:
            return self.__dict__
        text = body.growth() if is_growth else body.all(is_whole=self.is_finished)
        return {**self.__dict__, "received": text} if text else self.__dict__

    def _progress(self, *, is_cumulative: bool = False) -> None:
        with self._lock:
            if self.is_finished or self._is_lost or not self.is_recorded():
                return
            spans = len(self.done)
            if self._has_start and not is_cumulative:
                self._write(FrameKind.DELTA, self.delta_frame())
            else:
                self._write(FrameKind.START, self.start_frame())
                self._has_start = True
                self.recorder.open_turns[self.id] = self
            self._framed_spans = spans
            self._framed_bytes = self.bytes_sent or 0
            self._framed_at_ns = perf_counter_ns()

    def _finish(self, outcome: str) -> None:
        with self._lock:
            if self.is_finished:
                return
            self.ended_ns = perf_counter_ns()
            self.duration_us = (self.ended_ns - self.started_ns) // 1000
            if outcome == "complete":
                del self.outcome  # what it is where nothing else is said
            else:
                self.outcome = outcome
            self.is_finished = True
            # Before END: a rotation in between must not write a START behind it.
            self.recorder.open_turns.pop(self.id, None)
            if self.is_recorded():
                self._write_end()
            self._release()

    def _write_end(self) -> None:
        frame = self.end_frame()
        self._end_is_written = True
        self._write(FrameKind.END, frame)

    def _give_up(self, outcome: str) -> None:
        """A fault of ours ate END: write a bare one, so that the turn is stored with what the spool has of it, and
        nothing waits or is written again for it."""
        try:
            self.is_finished, self.outcome = True, outcome
            self.recorder.open_turns.pop(self.id, None)
            if not self._end_is_written and (self._has_start or self.is_recorded()):
                self._end_is_written = True
                run_exclusive(self._write, FrameKind.END, payload(bare_header(self), ()))
        except Exception as exc:
            self.recorder.guard.fault("turn.give_up", exc)

    def _release(self) -> None:
        """Let go of content: contexts of tasks and threads may hold on to the turn long after its end."""
        self.recorder.open_turns.pop(self.id, None)
        self.done = []
        self.root = None  # a cycle less for the garbage collector
        self._joined.clear()
        self._told = _NOTHING
        if self._end_is_written:
            self.input = self.output = None
            self.metadata = self.feature_flags = {}
            self._body, self._is_text = None, False

    def _amend(self) -> None:
        with self._lock:
            spans, self._late_spans = self._late_spans, []
            fields, self._late_fields = self._late_fields, {}
            self.done = []
            if not spans and not fields:
                return
            if not self._end_is_written:
                self._end_late(spans)
            else:
                self._write(FrameKind.AMEND, self.amend_frame(spans, fields))

    def _end_late(self, spans: list[Recorded]) -> None:
        """A background task made the first observation: only now is this a turn that is kept."""
        if self.is_recorded():
            self.done = spans
            self._write_end()
            self._release()

    def _write(self, kind: FrameKind, payload: bytes) -> None:
        """A turn whose first frame was dropped is accounted for as dropped: nothing may follow it."""
        if self._is_lost:
            return
        is_first = not (self._has_start or (kind is FrameKind.AMEND))
        is_written = self.recorder.write(kind, payload, is_first=is_first)
        self._is_lost = is_first and not is_written

    # OpenTelemetry

    def span_context(self) -> SpanContext:
        """The turn's own (root) span for the OpenTelemetry API."""
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), False, self.trace_flags, self.trace_state)

    def make_root(self) -> RootSpan:
        """The turn's own span as an object of the OpenTelemetry API; attributes set on it become the turn's."""
        self.root = RootSpan(self)
        return self.root

    def __repr__(self) -> str:
        return f"<Turn {self.id} {self.source}>"


__all__ = ["Outcome", "Turn", "activate", "current_turn", "deactivate", "is_suspended", "suspended"]
