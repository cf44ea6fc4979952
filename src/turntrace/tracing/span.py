"""Our spans: slotted objects that any OpenTelemetry instrumentation may nest in, with typed fields of our own.

`opentelemetry-api` only. `Span` is both what the host holds (`update`) and what instrumentations get from
`provider.py` (`set_attribute`, …); `own` is None for the latter.
"""

from collections.abc import Mapping
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes

from turntrace import semconv
from turntrace.tracing import field
from turntrace.tracing.context import (
    SPAN_KEY,
    Activation,
    activate,
    attach,
    deactivate,
    get_current,
    with_span,
)
from turntrace.tracing.failure import DEPARTURES, describe
from turntrace.tracing.ids import bits as _bits

if TYPE_CHECKING:
    from turntrace.tracing.turn import Turn

MAX_ATTRIBUTES: Final = 4096  # of one span; instrumentations spell out messages as indexed keys
MAX_EVENTS: Final = 1000
_SHORT: Final = 1024  # characters of an attribute that are not counted against the turn's bytes
_CANCELLED: Final = frozenset({"CancelledError", "Cancelled"})  # asyncio and trio, without importing either
_SMALL: Final = field.SMALL
check_observation: Final = field.check_observation


class Recorded(Protocol):
    """What a turn collects: a span of ours, or one taken over from the host's own tracing.

    Where `is_settled`, `facts` is what `wire()` would answer.
    """

    facts: dict[str, Any]
    is_settled: bool

    def wire(self) -> dict[str, Any]:
        """The keys of `RawSpan` that do not hold their default."""
        ...

    def is_ai(self) -> bool:
        """Whether it makes its turn one that is kept under `record=ai`."""
        ...


class Partial(Protocol):
    """Output that is still growing."""

    def value(self) -> Any: ...


class Span(trace.Span):
    """One observation, or one instrumentation's span, inside a turn.

    It is started and known to the turn from its creation on; used as a context manager, an observation is also
    OpenTelemetry's current span inside the `with`. It ends once: the turn's table of open spans is the arbiter.

    Args:
        own: typed fields (keys of `RawSpan.own`), already checked and encoded; None for an instrumentation's span.
        started_at_us: Unix time, where an instrumentation states it.
    """

    __slots__ = (
        "_context",
        "_previous",
        "_started_ns",
        "duration_us",
        "facts",
        "is_dirty",
        "is_settled",
        "own",
        "span_id",
        "trace_id",
        "turn",
    )

    # What most spans never have stands here once: setting twenty attributes takes longer than everything else.
    partial: Partial | None = None
    owns_turn: bool = False
    _has_ai_name: bool = False
    rested_ns: int = 0  # since when it stands still between two steps, none of its code running; 0 while it runs
    is_one_step: bool = True  # no generator's, whose end and output show only in `wire`
    is_whole: bool = False  # it came to its end; of a generator that rests nobody knows whether it would have
    _activation: Activation | None = None
    _context: Context | None
    _span_context: SpanContext | None = None

    def __init__(
        self,
        turn: "Turn",
        name: str,
        parent_span_id: str,
        trace_id: str,
        own: dict[str, Any] | None,
        started_at_us: int | None = None,
    ) -> None:
        self.turn = turn
        self.own = own
        self.trace_id = trace_id
        self.span_id = span_id = (_bits(64) or 1).to_bytes(8, "big").hex()
        self.duration_us: int | None = None
        self._previous: Context | None = None
        self.is_dirty = True
        self.is_settled = False  # ended, and `facts` as they are is what a frame says of it
        self._started_ns = now = perf_counter_ns()
        if started_at_us is None:
            started_at_us = turn.started_at_us + (now - turn.started_ns) // 1000
        # The keys of `RawSpan` that do not hold their default: what a frame encodes, with no copy made of it.
        facts: dict[str, Any] = {
            "span_id": span_id,
            "parent_span_id": parent_span_id,
            "name": name,
            "started_at_us": started_at_us,
        }
        if own is not None:
            facts["own"] = own
        if trace_id is not turn.trace_id and trace_id != turn.trace_id:
            facts["trace_id"] = trace_id
        self.facts = facts

    @property
    def name(self) -> str:
        """As given, or by `update_name`."""
        name: str = self.facts["name"]
        return name

    @property
    def scope(self) -> str | None:
        """Name of the instrumentation that it comes from; None: the host's own."""
        return self.facts.get("scope")

    @scope.setter
    def scope(self, name: str) -> None:
        self.facts["scope"] = name

    @property
    def kind(self) -> str:
        """OpenTelemetry's: internal, server, client, producer or consumer."""
        kind: str = self.facts.get("kind", "internal")
        return kind

    @kind.setter
    def kind(self, kind: str) -> None:
        self.facts["kind"] = kind

    # Typed fields

    def update(self, **fields: Any) -> None:
        """Set fields of the observation: input, output, usage, model, metadata, … None leaves a field as it is.

        `metadata` is merged by key, everything else replaced. Works until the turn's end and after.

        Raises:
            TypeError: an unknown field, or a value of the wrong type.
            ValueError: a value that is not among the allowed ones.
        """
        checked = check_observation(fields)
        try:
            self._apply(checked)
        except Exception as exc:
            self.turn.recorder.guard.fault("span.update", exc)

    def _apply(self, checked: dict[str, Any]) -> None:
        own, turn = self.own, self.turn
        if own is None:
            own = self.facts["own"] = self.own = {}
        for name, value in checked.items():
            if name in _SMALL:
                own[name] = value
            elif name != "metadata":
                own[name] = turn.keep(value, own.get(name))
            else:
                own[name] = {**own.get(name, {}), **{key: turn.keep(item) for key, item in value.items()}}
        if "name" in checked:
            self.facts["name"] = own.pop("name")
        if "level" in checked and checked["level"] == "error":
            self.facts["status"] = "error"
        self.is_dirty = True
        if self.duration_us is not None and turn.is_finished:
            turn.collect(self, is_again=True)  # it went out with END: an AMEND states it anew

    def first_token(self) -> None:
        """The model's first token is here: sets the time to first token, once."""
        if self.own is not None and "completion_started_us" not in self.own:
            self.own["completion_started_us"] = (perf_counter_ns() - self._started_ns) // 1000
            self.is_dirty = True

    def fail(self, error: BaseException) -> None:
        """Record why the observation ended early. A closed generator is no failure; a cancelled task, and a client that
        is gone, are a warning."""
        try:
            if isinstance(error, GeneratorExit):
                self._leave()
            else:
                self._fail(error)
        except Exception as exc:
            self.turn.recorder.guard.fault("span.fail", exc)

    def _fail(self, error: BaseException) -> None:
        self.is_dirty = True
        name = type(error).__name__
        if name in _CANCELLED or name in DEPARTURES:
            self.facts["status_message"] = "cancelled" if name in _CANCELLED else "the client left"
            if self.own is not None:
                self.own["level"] = "warning"
        else:
            self.facts["status"] = "error"
            self.facts["error"] = describe(error)

    def _leave(self) -> None:
        """Nobody reads what the generator around it yields. Where that is found out after the turn's end, it has stood
        still since the last piece of the answer."""
        turn = self.turn
        if self.rested_ns or not turn.is_finished or self._started_ns >= turn.ended_ns:
            return
        last_ns = turn.started_ns + 1000 * (turn.last_byte_us or 0)
        self.rested_ns = last_ns if self._started_ns < last_ns < turn.ended_ns else turn.ended_ns

    def __enter__(self) -> "Span":
        if self.own is None:
            return self
        try:
            if self.owns_turn:
                self._activation = activate(self.turn)
            previous = get_current()
            # Nothing but a span in it: made anew at half the price of a copy.
            is_plain = len(previous) == (SPAN_KEY in previous)
            self._context = context = Context(((SPAN_KEY, self),)) if is_plain else with_span(self, previous)
            attach(context)
            self._previous = previous
        except Exception as exc:
            self.turn.recorder.guard.fault("span.enter", exc)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            previous = self._previous
            if previous is not None:
                # In another context than it was entered in (a generator closed elsewhere): nothing to put back.
                if get_current() is self._context:
                    attach(previous)
                self._context = self._previous = None  # it holds this span: a cycle
            if self._activation is not None:
                deactivate(self._activation, with_inner=True)
        except Exception as exc:
            self.turn.recorder.guard.fault("span.exit", exc)
        if error is not None:
            self.fail(error)
        self.end()

    # opentelemetry.trace.Span

    def end(self, end_time: int | None = None) -> None:
        """End it; further calls do nothing. `end_time` is Unix time in nanoseconds."""
        turn = self.turn
        if turn.open.pop(self.span_id, None) is None:
            return
        now, facts = perf_counter_ns(), self.facts
        if end_time is None:
            rested_ns = self.rested_ns
            self.duration_us = facts["duration_us"] = ((rested_ns or now) - self._started_ns) // 1000
            if self.is_one_step and not rested_ns:
                if "seen_us" in facts:
                    del facts["seen_us"]
                self.is_settled = True
        else:
            started_at_us: int = facts["started_at_us"]
            self.duration_us = facts["duration_us"] = max(end_time // 1000 - started_at_us, 0)
        try:
            try:
                turn.collect(self)
                turn.overhead_ns += perf_counter_ns() - now
            finally:  # a turn without its span is better than one without an end
                if self.owns_turn:
                    turn.finish()
        except Exception as exc:
            turn.recorder.guard.fault("span.end", exc)

    def get_span_context(self) -> SpanContext:
        """Trace and span id, with the flags and state of the turn's caller."""
        context = self._span_context
        if context is None:
            turn = self.turn
            ids = int(self.trace_id, 16), int(self.span_id, 16)
            context = self._span_context = SpanContext(*ids, False, turn.trace_flags, turn.trace_state)
        return context

    def is_recording(self) -> bool:
        """Whether it is still open and kept."""
        return self.span_id in self.turn.open

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute; values of any type are taken."""
        try:
            if self.duration_us is not None or value is None:
                return
            attributes = self.facts.get("attributes")
            if attributes is None:
                attributes = self.facts["attributes"] = {}
            elif len(attributes) >= MAX_ATTRIBUTES and key not in attributes:
                self.turn.note("attributes_dropped")
                return
            attributes[key] = self._attribute(value)
            self.is_dirty = True
        except Exception as exc:
            self.turn.recorder.guard.fault("span.set_attribute", exc)

    def _attribute(self, value: Any) -> Any:
        kind = type(value)
        if kind is bool or kind is int or kind is float or (kind is str and len(value) <= _SHORT):
            return value
        return self.turn.keep(value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add a timed event; `timestamp` is Unix time in nanoseconds."""
        try:
            if self.duration_us is None:
                self._add_event(name, attributes, timestamp)
        except Exception as exc:
            self.turn.recorder.guard.fault("span.add_event", exc)

    def _add_event(self, name: str, attributes: Attributes, timestamp: int | None) -> None:
        events = self.facts.setdefault("events", [])
        if len(events) >= MAX_EVENTS:
            self.turn.note("events_dropped")
            return
        event: dict[str, Any] = {"name": name, "at_us": (timestamp or time_ns()) // 1000}
        if attributes:
            event["attributes"] = {key: self._attribute(value) for key, value in attributes.items()}
        events.append(event)
        self.is_dirty = True

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Links are not kept."""

    def update_name(self, name: str) -> None:
        """Rename it."""
        self.facts["name"] = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; as the specification says, OK is final and UNSET changes nothing."""
        code = status.status_code if isinstance(status, Status) else status
        facts = self.facts
        if self.duration_us is not None or facts.get("status") == "ok" or code is StatusCode.UNSET:
            return
        facts["status"] = "ok" if code is StatusCode.OK else "error"
        message = status.description if isinstance(status, Status) else description
        if message is not None:
            facts["status_message"] = message

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Record an exception as the event that the conventions name; the status stays as it is."""
        try:
            told = describe(exception)
            described: dict[str, Any] = {
                semconv.EXCEPTION_TYPE: told["type"],
                semconv.EXCEPTION_MESSAGE: told["message"],
                semconv.EXCEPTION_STACKTRACE: told["stack"],
            }
            self._add_event(semconv.EXCEPTION_EVENT, {**described, **(attributes or {})}, timestamp)
        except Exception as exc:
            self.turn.recorder.guard.fault("span.record_exception", exc)

    # What the turn asks

    def is_ai(self) -> bool:
        """Whether it is an observation of ours, or carries an LLM instrumentation's attributes."""
        if self.own is not None or self._has_ai_name:
            return True
        attributes = self.facts.get("attributes")
        if attributes and any(key.startswith(semconv.AI_PREFIXES) for key in list(attributes)):
            self._has_ai_name = True
        return self._has_ai_name

    def wire(self) -> dict[str, Any]:
        """The keys of `RawSpan` that do not hold their default.

        What is in it is still ours and may change: to be encoded at once.
        """
        self.is_dirty = False
        facts = self.facts
        if self.duration_us is None:
            facts["seen_us"] = ((self.rested_ns or perf_counter_ns()) - self._started_ns) // 1000
            if self.is_settled:  # another thread ended it just now
                facts.pop("seen_us", None)
        elif self.rested_ns and not self.is_whole:
            facts["seen_us"] = self.duration_us
        elif "seen_us" in facts:
            del facts["seen_us"]
        partial = self.partial
        if partial is None or self.own is None or "output" in self.own:
            return facts
        return {**facts, "own": {**self.own, "output": partial.value()}}

    def __repr__(self) -> str:
        return f"<Span {self.name!r} {self.span_id}>"
