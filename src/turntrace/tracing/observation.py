"""What the class `Turntrace` hands on to: observations and explicit turns as context managers, and facts of a trace.

Without a current turn an observation makes one of its own (`source` manual), which ends with it.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from types import TracebackType
from typing import Any

from opentelemetry.trace import SpanContext

from turntrace.tracing import field
from turntrace.tracing.context import Activation, activate, current_turn, deactivate, host_span, is_suspended
from turntrace.tracing.failure import DEPARTURES
from turntrace.tracing.field import SMALL, TYPES
from turntrace.tracing.place import begin
from turntrace.tracing.recorder import Recorder, default, fault
from turntrace.tracing.silent import SILENT
from turntrace.tracing.span import Span
from turntrace.tracing.turn import Turn


def observation(
    recorder: Recorder | None,
    name: str,
    *,
    type: str = "span",
    input: Any = None,
    metadata: Mapping[str, Any] | None = None,
    level: str | None = None,
    **fields: Any,
) -> Span:
    """An observation that has begun; leave its `with` block, or call `end()`, to end it.

    Args:
        recorder: used where no turn is current; None: the process's default.
        type: one of `records.observation.OBSERVATION_TYPES`. A tool's input is in the spool before the body runs.
        fields: anything that `update` takes.

    Raises:
        TypeError, ValueError: an unknown field, or a value that is not allowed.
    """
    own: dict[str, Any] = {"type": type if type in TYPES else field.check_type(type)}
    if input is not None:
        own["input"] = input
    if fields or metadata is not None or level is not None:
        own.update(field.check_observation({"metadata": metadata, "level": level, **fields}))
    return open_observation(recorder, name, own)


def generation(
    recorder: Recorder | None,
    name: str,
    *,
    model: str | None = None,
    provider: str | None = None,
    input: Any = None,
    parameters: Mapping[str, Any] | None = None,
    prompt: Any = None,
    metadata: Mapping[str, Any] | None = None,
    level: str | None = None,
    **fields: Any,
) -> Span:
    """An observation of a model call; see `observation`."""
    own = {"type": "generation", "model": model, "provider": provider, "input": input}
    if parameters is not None or prompt is not None or metadata is not None or level is not None:
        own.update(parameters=parameters, prompt=prompt, metadata=metadata, level=level)
    return open_observation(recorder, name, field.check_observation({**own, **fields} if fields else own))


def open_observation(recorder: Recorder | None, name: str, own: dict[str, Any]) -> Span:
    """Begin an observation; `SILENT` where nothing is recorded. Never raises.

    Args:
        own: checked fields. The dict becomes the observation's.
    """
    entered, owner = perf_counter_ns(), recorder
    try:
        turn = current_turn()
        if turn is not None:
            owner = turn.recorder
        elif owner is None:
            owner = default()
            if owner is None:
                return SILENT
        guard = owner.guard
        if entered >= guard.quiet_until_ns and not guard.is_recording():
            return SILENT
        span = _begin_turn(owner, name, own) if turn is None else _begin(turn, name, own)
        if span is None:
            return SILENT
        turn = span.turn
        turn.overhead_ns += perf_counter_ns() - entered
        return span
    except Exception as exc:
        fault(owner, "observation", exc)
        return SILENT


def _begin_turn(recorder: Recorder, name: str, own: dict[str, Any]) -> Span | None:
    if is_suspended():
        return None
    turn = Turn(recorder, name=name, source="manual", parent=host_span(), is_explicit=True)
    span = _begin(turn, name, own)
    if span is not None:
        span.owns_turn = True
    return span


def _begin(turn: Turn, name: str, own: dict[str, Any]) -> Span | None:
    for key, value in own.items():
        if key in SMALL:
            continue
        if key != "metadata":
            own[key] = turn.keep(value)
        else:
            own[key] = {inner: turn.keep(item) for inner, item in value.items()}
    span = begin(turn, own.pop("name") if "name" in own else name, own)
    if span is None:
        return None
    turn.is_ai = True
    if "level" in own and own["level"] == "error":
        span.facts["status"] = "error"
    if "type" in own and own["type"] == "tool":
        own.setdefault("tool_name", name)
        turn.begin_tool()
    return span


def update_trace(**fields: Any) -> None:
    """Set fields of the current trace (see `Turn.update`); does nothing outside a turn.

    Raises:
        TypeError: an unknown field, or a value of the wrong type.
    """
    turn = current()
    if turn is None:
        field.check_turn(fields)
    else:
        turn.update(**fields)


def current() -> Turn | None:
    """The current turn, or None; never raises."""
    try:
        return current_turn()
    except Exception as exc:
        fault(None, "current_turn", exc)
        return None


def current_trace_id() -> str | None:
    """W3C trace id of the current turn, 32 hex digits, or None."""
    turn = current()
    return None if turn is None else turn.trace_id


class TurnScope:
    """`with turn(…) as t:` or `async with turn(…) as t:`: an explicit turn, for websockets, scripts and queues.

    `t` is the `Turn`, or None where nothing is recorded. An exception of the body is recorded and goes on.
    """

    __slots__ = ("_activation", "_arguments", "_fields", "_recorder")

    def __init__(self, recorder: Recorder, fields: dict[str, Any], arguments: dict[str, Any]) -> None:
        self._recorder = recorder
        self._fields = fields
        self._arguments = arguments
        self._activation: Activation | None = None

    def __enter__(self) -> Turn | None:
        guard = self._recorder.guard
        try:
            if is_suspended() or not guard.is_recording():
                return None
            place = {**self._arguments, "parent": self._arguments["parent"] or host_span()}
            turn = Turn(self._recorder, is_explicit=True, **_inherited(place))
            turn.update(**self._fields)
            self._activation = activate(turn)
            return turn
        except Exception as exc:
            guard.fault("turn", exc)
            return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        activation = self._activation
        if activation is None:
            return
        turn = activation[0]
        try:
            deactivate(activation, with_inner=True)
        except Exception as exc:
            self._recorder.guard.fault("turn.exit", exc)
        if error is None:
            turn.finish()
        elif type(error).__name__ in DEPARTURES:
            turn.leave()
            turn.finish("client_disconnected")
        elif isinstance(error, Exception):
            turn.finish(error=error)
        else:  # cancelled, closed or interrupted
            turn.finish("interrupted")

    async def __aenter__(self) -> Turn | None:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def _inherited(arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a WebSocket's connection its turns take trace, session, user and route, where nothing else was said."""
    connection = current_turn()
    if connection is None or connection.source != "websocket" or arguments["parent"] is not None:
        return arguments
    known = {name: getattr(connection, name) for name in ("session_id", "user_id", "request_id", "path")}
    route = arguments["route"] or connection.route
    return {**arguments, **known, "parent": connection.span_context(), "route": route}


def turn(
    recorder: Recorder,
    *,
    name: str = "",
    source: str = "manual",
    parent: SpanContext | None = None,
    route: str | None = None,
    input: Any = None,
    output: Any = None,
    session_id: str | None = None,
    user_id: str | None = None,
    feature: str | None = None,
    experiment: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    feature_flags: Mapping[str, Any] | None = None,
    request_id: str | None = None,
    depth: int = 0,
) -> TurnScope:
    """An explicit turn: kept whatever the setting `record` says. Inside another turn it is a turn of its own.

    Args:
        source: `manual` or `websocket`.
        parent: the caller's place in a W3C trace; none: a span of the host's tracing, if one is current.

    Raises:
        TypeError: a field has a value of the wrong type.
    """
    fields = {
        **{"name": name or None, "input": input, "output": output, "session_id": session_id, "user_id": user_id},
        **{"feature": feature, "experiment": experiment, "tags": tags, "metadata": metadata},
        **{"feature_flags": feature_flags, "request_id": request_id},
    }
    checked = field.check_turn(fields)
    place = {"source": source, "parent": parent, "route": route, "depth": depth}
    return TurnScope(recorder, checked, place)
