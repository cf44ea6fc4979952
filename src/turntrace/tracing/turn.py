"""One turn while it happens: what is known of it, its spans, and the frames it becomes.

A frame's payload is the JSON of `records/fragment.py`. START and END are cumulative; DELTA holds the header fields
that changed, the spans that began, changed or ended, and the text received since the last frame; AMEND, after END, the
late spans and late fields, with the dimensions (session, user, route, …) that their numbers are counted by.

A frame is written when a stream is due (`is_due`), before every tool runs, so that a tool which takes the process
down leaves its name and arguments behind, and at the end. Top-level spans name the turn's `span_id` as parent.
"""

import threading
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from time import perf_counter_ns, time_ns
from typing import Any, Final, Literal

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from turntrace.records.fragment import FrameKind
from turntrace.tracing import encode, field
from turntrace.tracing.body import BodyText, is_textual
from turntrace.tracing.context import activate, current_turn, deactivate, is_suspended, suspended
from turntrace.tracing.encode import Fragment, capture
from turntrace.tracing.failure import describe
from turntrace.tracing.ids import new_span_id, new_trace_id, new_turn_id
from turntrace.tracing.payload import amended_header, bare_header, changes, header_of, payload
from turntrace.tracing.recorder import Recorder, run_exclusive
from turntrace.tracing.span import Recorded, RootSpan, Span

Outcome = Literal["complete", "client_disconnected", "interrupted"]

DELTA_BYTES: Final = 4096  # a streamed answer that grew by this much is written before delta_ms have passed
LATE_SECONDS: Final = 300.0  # how long after its end a turn still takes new observations
_ROOT_FLAGS: Final = TraceFlags(0x03)  # sampled, and random as level 2 defines it
_NO_STATE: Final = TraceState()


class Turn:
    """One turn, mutable until it ends and amendable after.

    The fields of `TurnHeader` are plain attributes that capture sets; the host goes through `update`. Spans register
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
        "__weakref__",
        "_body",
        "_end_is_written",
        "_framed_at_ns",
        "_framed_bytes",
        "_framed_spans",
        "_has_start",
        "_is_lost",
        "_late_fields",
        "_late_spans",
        "_lock",
        "_notes",
        "_room",
        "_sizes",
        "_told",
        "bytes_sent",
        "chunk_count",
        "client_left_us",
        "content",
        "depth",
        "done",
        "duration_us",
        "ended_ns",
        "environment",
        "error",
        "experiment",
        "feature",
        "feature_flags",
        "field_limit",
        "http_status",
        "id",
        "input",
        "is_ai",
        "is_finished",
        "is_streamed",
        "last_byte_us",
        "metadata",
        "method",
        "name",
        "open",
        "outcome",
        "output",
        "overhead_ns",
        "parent_span_id",
        "path",
        "recorder",
        "release",
        "request_id",
        "root",
        "route",
        "service_name",
        "session_id",
        "source",
        "span_count",
        "span_id",
        "span_limit",
        "started_at_us",
        "started_ns",
        "tags",
        "trace_flags",
        "trace_id",
        "trace_state",
        "ttft_us",
        "user_id",
    )

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
        self.started_ns = perf_counter_ns()
        self.started_at_us = now_ns // 1000
        self.recorder = recorder
        self.id = new_turn_id(now_ns)
        self.span_id = new_span_id()
        self._join(parent)
        self.name, self.source, self.method, self.path, self.route = name, source, method, path, route
        self.session_id, self.user_id, self.request_id, self.depth = session_id, user_id, request_id, depth
        self.is_ai = is_explicit
        self._reset(recorder)

    def _join(self, parent: SpanContext | None) -> None:
        """Take a place in the W3C trace: below `parent`, or as the root of a new one."""
        if parent is None or not parent.is_valid:
            self.trace_id = new_trace_id()
            self.parent_span_id: str | None = None
            self.trace_flags, self.trace_state = _ROOT_FLAGS, _NO_STATE
        else:
            self.trace_id = f"{parent.trace_id:032x}"
            self.parent_span_id = f"{parent.span_id:016x}"
            self.trace_flags, self.trace_state = parent.trace_flags, parent.trace_state

    def _reset(self, recorder: Recorder) -> None:
        settings, resource = recorder.settings, recorder.resource
        self.environment: str | None = resource.environment
        self.release, self.service_name = resource.release, resource.service_name
        self.http_status: int | None = None
        self.duration_us: int | None = None
        self.ttft_us: int | None = None
        self.last_byte_us: int | None = None
        self.client_left_us: int | None = None
        self.bytes_sent: int | None = None
        self.chunk_count: int | None = None
        self.is_streamed = False
        self.outcome = "in_progress"
        self.error: dict[str, Any] | None = None
        self.feature: str | None = None
        self.experiment: str | None = None
        self.content: str | None = None
        self.tags: tuple[str, ...] = ()
        self.metadata: dict[str, Any] = {}
        self.feature_flags: dict[str, Any] = {}
        self.input: Any = None
        self.output: Any = None
        self.overhead_ns = 0
        self.ended_ns = 0
        self.span_count = 0
        self.field_limit, self.span_limit = settings.max_field_bytes, settings.max_spans
        self.root: RootSpan | None = None
        self.open: dict[str, Span] = {}
        self.done: list[Recorded] = []
        self._room = settings.max_turn_bytes
        self._sizes: dict[int, int] = {}
        self._notes: dict[str, int] = {}
        self._lock = threading.Lock()
        self.is_finished = self._end_is_written = self._has_start = self._is_lost = False
        self._framed_at_ns = self.started_ns
        self._framed_bytes = self._framed_spans = 0
        self._told: dict[str, Any] = {}
        self._late_spans: list[Recorded] = []
        self._late_fields: dict[str, Any] = {}
        self._body: BodyText | None = None

    # What the host says

    def update(self, **fields: Any) -> None:
        """Set fields of the trace: name, input, output, session_id, user_id, feature, experiment, tags, metadata,
        feature_flags, request_id. None leaves a field as it is; tags are added, metadata and feature flags merged.

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

    def keep(self, value: Any, replaced: Any = None) -> Any:
        """The recorded form of a content value, within the bounds of field and turn; `replaced` gives back its room."""
        if type(value) is str and replaced is None:
            size = len(value)
            if size * 3 <= self.field_limit and size <= self._room:  # short enough in any encoding
                self._room -= size
                return value
        wire, size = capture(value, self.field_limit)
        if replaced is not None:
            self._room += len(replaced) if type(replaced) is str else self._sizes.pop(id(replaced), 0)
        if size > self._room:
            self.note("fields_cut")
            return encode.withheld(size)
        self._room -= size
        if type(wire) is Fragment:
            self._sizes[id(wire)] = size
        return wire

    def note(self, flag: str, count: int = 1) -> None:
        """Count a fact about the recording itself; the header's flags have `flag`, or `flag:count` from two on."""
        self._notes[flag] = self._notes.get(flag, 0) + count

    def note_once(self, flag: str) -> None:
        """State a fact about the recording itself."""
        self._notes[flag] = 1

    def fail(self, error: BaseException) -> None:
        """Record the exception that ended the turn: type, message, stack without locals."""
        self.error = describe(error)

    # What capture sees

    def begin_response(self, status: int, content_type: str | None = None) -> None:
        """The answer begins. Its text is kept (bounded by `max_received_bytes`) where `content_type` is text-like."""
        self.http_status = status
        room = self.recorder.settings.max_received_bytes
        self._body = BodyText(room) if room and is_textual(content_type) else None

    def sent(self, chunk: bytes, *, more: bool = True) -> None:
        """A piece of the body is about to be given to the client; `more`: it is not known to be the last.

        Call `checkpoint()` after it when `is_due()`, and `finish()` before handing on the last piece.
        """
        if not chunk:
            return
        length_us = (perf_counter_ns() - self.started_ns) // 1000
        if self.ttft_us is None:
            self.ttft_us = length_us
            self.is_streamed = more
        else:
            self.is_streamed = True
        self.last_byte_us = length_us
        self.bytes_sent = (self.bytes_sent or 0) + len(chunk)
        self.chunk_count = (self.chunk_count or 0) + 1
        if self._body is not None and self.is_streamed:  # what comes in one piece is nobody's stream
            self._body.add(chunk)

    def leave(self) -> None:
        """The client is found gone; the first call counts."""
        if self.client_left_us is None:
            self.client_left_us = (perf_counter_ns() - self.started_ns) // 1000

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
        patterns = _patterns(record)
        if patterns is not None:
            return any(
                fnmatchcase(place, pattern) for place in (self.route, self.path) if place for pattern in patterns
            )
        return self.is_ai or any(span.is_ai() for span in list(self.open.values()))

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
                self.fail(error)
            run_exclusive(partial(self._finish, outcome))
        except Exception as exc:
            self.recorder.guard.fault("turn.finish", exc)
            self._give_up(outcome)

    def begin_tool(self) -> None:
        """A tool is about to run: its name and arguments go to the spool first."""
        self.checkpoint()

    def collect(self, span: Recorded) -> None:
        """Take an ended span. After the end of the turn it goes out as an AMEND at once."""
        if not self.is_ai and span.is_ai():
            self.is_ai = True
        # Order matters: END sets `is_finished` before it looks at `done`, so a span is seen by one of the two.
        self.done.append(span)
        if self.is_finished:
            self._late_spans.append(span)
            run_exclusive(self._amend)

    def start_frame(self) -> bytes:
        """Payload of START: everything so far, open spans included."""
        self._told = header = self._header()
        return payload(header, [*self.done, *list(self.open.values())])

    def delta_frame(self) -> bytes:
        """Payload of DELTA: what changed since the last frame was built."""
        told = self._told
        self._told = header = self._header(is_growth=True)
        spans = self.done[self._framed_spans :]
        return payload(changes(header, told), [*spans, *(span for span in list(self.open.values()) if span.is_dirty)])

    def end_frame(self) -> bytes:
        """Payload of END: the whole turn."""
        header = self._header()
        header["overhead_us"] = self.overhead_ns // 1000
        return payload(header, [*self.done, *list(self.open.values())])

    def amend_frame(self, spans: Sequence[Recorded] = (), fields: Mapping[str, Any] | None = None) -> bytes:
        """Payload of AMEND: late spans and late fields."""
        return payload(amended_header(self, fields or {}), spans)

    def _header(self, *, is_growth: bool = False) -> dict[str, Any]:
        header = header_of(self, self._notes)
        body = self._body
        if self.is_streamed and body is not None:
            text = body.growth() if is_growth else body.all(is_whole=self.is_finished)
            if text:
                header["received"] = text
        return header

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
                run_exclusive(partial(self._write, FrameKind.END, payload(bare_header(self), ())))
        except Exception as exc:
            self.recorder.guard.fault("turn.give_up", exc)

    def _release(self) -> None:
        """Let go of content: contexts of tasks and threads may hold on to the turn long after its end."""
        self.recorder.open_turns.pop(self.id, None)
        self.done = []
        self.root = None  # a cycle less for the garbage collector
        self._sizes.clear()
        self._told = {}
        if self._end_is_written:
            self.input = self.output = None
            self.metadata, self.feature_flags = {}, {}
            self._body = None

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


@lru_cache(maxsize=64)
def _patterns(record: str) -> tuple[str, ...] | None:
    """Patterns of routes, or None for `ai`."""
    if record == "ai":
        return None
    if record == "all":
        return ("*",)
    return tuple(part.strip() for part in record.split(",") if part.strip())


__all__ = ["Outcome", "Turn", "activate", "current_turn", "deactivate", "is_suspended", "suspended"]
