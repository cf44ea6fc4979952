"""One request and its answer while they are recorded: what the ASGI and the WSGI middleware do at the same moments.

No method raises: faults of ours are counted by the guard, and the answer goes its way untouched.
"""

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any, Final

from turntrace.capture.completion import Completion
from turntrace.capture.request import Incoming, identity
from turntrace.capture.rules import CaptureRules
from turntrace.tracing.baggage import text_to_tags
from turntrace.tracing.context import Activation, activate, deactivate, host_span, is_suspended
from turntrace.tracing.failure import DEPARTURES, describe
from turntrace.tracing.guard import Guard
from turntrace.tracing.propagation import SAMPLED, format_traceparent
from turntrace.tracing.recorder import Recorder
from turntrace.tracing.turn import Outcome, Turn

# By name, so that neither asyncio nor trio is imported for it.
_DEPARTURES: Final = DEPARTURES | {"CancelledError", "Cancelled", "GeneratorExit"}
_SAID: Final = {"user.id": "user_id", "feature": "feature", "experiment": "experiment"}


def new_turn(recorder: Recorder, incoming: Incoming, *, source: str, method: str | None, path: str) -> Turn:
    """The turn of a request. A span of the host's own tracing that is current goes before the caller's headers."""
    parent = host_span() or (incoming.parent.span_context() if incoming.parent else None)
    turn = Turn(
        recorder,
        source=source,
        parent=parent,
        method=method,
        path=path,
        session_id=incoming.session_id,
        request_id=incoming.request_id,
    )
    if incoming.said:
        _apply_baggage(turn, incoming.said)
    if incoming.foreign:
        turn.baggage = incoming.foreign
    return turn


def _apply_baggage(turn: Turn, said: Mapping[str, str]) -> None:
    for key, name in _SAID.items():
        if said.get(key):
            setattr(turn, name, said[key])
    turn.tags = text_to_tags(said.get("tags"))


class Exchange:
    """The recording of one request.

    Args:
        carrier: ASGI scope or WSGI environ; what the host's `session_id` and `user_id` callables are given.
        route_of: finds the route template in the carrier, once the framework has put it there.
        root: what of the path stood in the carrier's root path when the request came in; told to `route_of`.
    """

    __slots__ = (
        "_activation",
        "_carrier",
        "_completion",
        "_has_late_bytes",
        "_is_disowned",
        "_is_identified",
        "_length",
        "_root",
        "_route_of",
        "_rules",
        "_was_asked",
        "guard",
        "has_begun",
        "is_gone",
        "turn",
    )

    def __init__(
        self, turn: Turn, rules: CaptureRules, carrier: Any, route_of: Callable[[Any, str], str | None], root: str
    ) -> None:
        self.turn = turn
        turn.resolve = self.resolve
        self.guard: Guard = turn.recorder.guard
        self._rules = rules
        self._carrier = carrier
        self._route_of = route_of
        self._root = root
        self._length: str | None = None
        self._completion: Completion | None = None
        self._activation: Activation | None = None
        # Nobody has anything to ask: identified from the start.
        self._is_identified = self._was_asked = not rules.has_questions
        self.has_begun = self.is_gone = self._has_late_bytes = self._is_disowned = False

    def enter(self) -> None:
        """Make the turn current in this context, unless it is."""
        try:
            if self._activation is None:
                self._activation = activate(self.turn)
        except Exception as exc:
            self.guard.fault("capture.context", exc)

    def leave(self) -> None:
        """Undo `enter`."""
        try:
            activation, self._activation = self._activation, None
            if activation is not None:
                deactivate(activation, with_inner=True)
        except Exception as exc:
            self.guard.fault("capture.context", exc)

    def resolve(self, name: str) -> str | None:
        """`route` or `user_id` of the turn as far as it can be told now; None where unknown."""
        try:
            if self._is_disowned:
                return None
            if name == "route":
                return self._route_of(self._carrier, self._root) or self.turn.path
            find = self._rules.find_user
            return self._ask(name, find) if find is not None else None
        except Exception as exc:
            self.guard.fault("capture.resolve", exc)
            return None

    def trace_headers(self) -> tuple[tuple[str, str], ...]:
        """`X-Trace-Id` and `traceresponse`, names in lower case; nothing where the settings want none."""
        turn = self.turn
        if self._is_disowned or not self._rules.has_response_headers:
            return ()
        response = format_traceparent(turn.trace_id, turn.span_id, turn.trace_flags | SAMPLED)
        return ("x-trace-id", turn.trace_id), ("traceresponse", response)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The answer's head is about to go out; again for a head that replaces one not yet sent.

        Args:
            headers: names in lower case.
        """
        self.has_begun = True
        if is_suspended():
            self._disown()
            return
        turn = self.turn
        is_encoded = "content-encoding" in headers and headers["content-encoding"].lower() != "identity"
        turn.begin_response(status, None if is_encoded else headers.get("content-type"))
        turn.route = self._route_of(self._carrier, self._root) or turn.path
        self._length, self._completion = headers.get("content-length"), None

    def _disown(self) -> None:
        """The answer comes from where nothing is recorded (our panel, say): whatever `record` says, no trace of it."""
        self._is_disowned = True
        self.turn.path = self.turn.route = None
        self.turn.is_ai = False

    def piece(self, chunk: bytes, *, more: bool) -> None:
        """A piece of the body is about to go out. Writes END before one that completes the answer."""
        started_ns, turn = perf_counter_ns(), self.turn
        try:
            if more and chunk:
                more = not self._followed().is_last(chunk)
            if not self.is_gone:
                turn.sent(chunk, more=more)
            if turn.is_finished:
                if chunk:
                    self._has_late_bytes = True
            elif not more or (chunk and self._followed().ends_stream(chunk)):
                self._finish("client_disconnected" if self.is_gone else "complete")
            else:
                self.progress()
        except Exception as exc:
            self.guard.fault("capture.body", exc)
        turn.overhead_ns += perf_counter_ns() - started_ns

    def _followed(self) -> Completion:
        """What knows when the answer is complete; an answer of one piece needs none."""
        completion = self._completion
        if completion is None:
            completion = self._completion = Completion()
            if self._length is not None:
                completion.expect(self._length, self.turn.http_status or 0)
        return completion

    def depart(self) -> None:
        """The client is gone, or its connection broke under a piece that was being sent."""
        try:
            if not self.is_gone and not self.turn.is_finished:
                self.is_gone = True
                self.turn.leave()
                self.progress(is_due=True)
        except Exception as exc:
            self.guard.fault("capture.disconnect", exc)

    def lose_piece(self, *, was_finished: bool) -> None:
        """A piece could not be sent: the client is gone.

        Args:
            was_finished: the answer was complete before this piece; else END, if it is written, said too much.
        """
        self.depart()
        try:
            self.is_gone = True
            if self.turn.is_finished and not was_finished:
                self.turn.leave()
                self.turn.correct(outcome="client_disconnected", client_left_us=self.turn.client_left_us)
        except Exception as exc:
            self.guard.fault("capture.disconnect", exc)

    def progress(self, *, is_due: bool = False) -> None:
        """Write what is known so far, if it is time for that or `is_due` says so."""
        try:
            turn = self.turn
            if (is_due and turn.is_recorded()) or turn.is_due():
                self._settle()
                turn.checkpoint()
        except Exception as exc:
            self.guard.fault("capture.progress", exc)

    def fail(self, error: BaseException) -> None:
        """The application raised."""
        try:
            self._fail(error)
        except Exception as exc:
            self.guard.fault("capture.error", exc)

    def _fail(self, error: BaseException) -> None:
        left = self._is_departure(error)
        if self.turn.is_finished:
            if not left:
                self.turn.correct(error=describe(error))
        elif left:
            self.turn.leave()
            self._finish("client_disconnected")
        else:
            if not self.has_begun:
                self.turn.http_status = 500  # what every server answers now
            outcome: Outcome = "interrupted" if self.has_begun else "complete"
            self._finish("client_disconnected" if self.is_gone else outcome, error)

    def _is_departure(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return all(self._is_departure(one) for one in error.exceptions)
        return type(error).__name__ in _DEPARTURES or (self.is_gone and isinstance(error, OSError))

    def close(self, *, is_whole: bool = False) -> None:
        """The application is done with this request, background tasks included.

        Args:
            is_whole: nothing more was to come, although no piece completed the answer (a HEAD request, say).
        """
        try:
            turn = self.turn
            self._close(is_whole)
            if turn.is_recorded():
                turn.recorder.note_turn(turn.overhead_ns)
        except Exception as exc:
            self.guard.fault("capture.close", exc)
            self._end_anyhow()
        self.turn.resolve = None  # no cycle is left for the collector
        self.leave()

    def _end_anyhow(self) -> None:
        """Else the turn would stay open for ever."""
        try:
            self.turn.finish("interrupted")
        except Exception as exc:
            self.guard.fault("capture.end", exc)

    def _close(self, is_whole: bool) -> None:
        turn = self.turn
        if not turn.is_finished:
            self._finish("client_disconnected" if self.is_gone else "complete" if is_whole else "interrupted")
            return
        if not self._is_identified and turn.is_recorded():  # a background task made it a turn
            self._identify(is_late=True)
        if self._has_late_bytes and turn.is_recorded():
            turn.correct(bytes_sent=turn.bytes_sent, chunk_count=turn.chunk_count, last_byte_us=turn.last_byte_us)

    def finish(self) -> None:
        """Nothing of the answer is left to be seen: END."""
        try:
            if not self.turn.is_finished:  # a piece that completed the answer was seen
                self._finish("complete")
        except Exception as exc:
            self.guard.fault("capture.finish", exc)

    def _finish(self, outcome: Outcome, error: BaseException | None = None) -> None:
        try:
            self._settle(is_last=True)
        finally:  # a turn with a wrong name is better than none
            self.turn.finish(outcome, error=error)

    def _settle(self, *, is_last: bool = False) -> None:
        """Fill in what is known late: route, name, session and user."""
        turn = self.turn
        if self._is_disowned:
            return
        if turn.route is None or not self.has_begun:
            turn.route = self._route_of(self._carrier, self._root) or turn.path
        if not turn.name:
            turn.name = f"{turn.method} {turn.route}" if turn.method else f"{turn.source} {turn.route}"
        # Asked twice at the most: for START, when the application may not have got that far, and for END.
        if (is_last or not self._was_asked) and not self._is_identified and turn.is_recorded():
            self._identify()
            self._is_identified = is_last

    def _identify(self, *, is_late: bool = False) -> None:
        """Ask the host's callables for what nobody has stated. They see what the application put into the carrier."""
        turn, rules = self.turn, self._rules
        self._was_asked = True
        found: dict[str, str | None] = {}
        if rules.find_session is not None and turn.session_id is None:
            found["session_id"] = self._ask("session_id", rules.find_session)
        if rules.find_user is not None and turn.user_id is None:
            found["user_id"] = self._ask("user_id", rules.find_user)
        found = {name: value for name, value in found.items() if value is not None}
        if is_late and found:
            turn.update(**found)
        else:
            for name, value in found.items():
                setattr(turn, name, value)

    def _ask(self, name: str, find: Callable[..., Any]) -> str | None:
        try:
            return identity(find(self._carrier))
        except Exception as exc:
            self._count_host_fault(name, exc)
            return None

    def _count_host_fault(self, name: str, error: Exception) -> None:
        """A fault of the host's callable: shown on the turn and counted, but no reason to stop recording."""
        counts, key = self.guard.counts, (f"setting.{name}", type(error).__name__)
        counts[key] = counts.get(key, 0) + 1
        self.turn.note(f"{name}_failed")
        if self.guard.on_fault is not None:
            self.guard.on_fault(key[0])
