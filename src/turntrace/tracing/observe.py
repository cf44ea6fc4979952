"""`@observe`: a function's calls become observations. Sync, async, generators, async generators and methods."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final, ParamSpec, TypeVar, overload

from turntrace.tracing import field
from turntrace.tracing.observation import (
    current_trace_id,
    generation,
    observation,
    open_observation,
    turn,
    update_trace,
)
from turntrace.tracing.recorder import Recorder, fault
from turntrace.tracing.silent import SILENT
from turntrace.tracing.span import Span
from turntrace.tracing.stepping import ObservedAsyncGenerator, ObservedGenerator

P = ParamSpec("P")
R = TypeVar("R")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Observed:
    """What the decorator knows about one function: how to open, fill and close its observations."""

    __slots__ = ("capture_input", "capture_output", "fields", "names", "recorder", "rest", "skip", "title")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        type: str,
        name: str | None,
        capture_input: bool,
        capture_output: bool,
        recorder: Recorder | None,
        is_bound: bool,
    ) -> None:
        self.fields = field.check_observation({"type": type})
        self.title = name or getattr(function, "__name__", None) or "observation"
        self.capture_input = capture_input
        self.capture_output = capture_output
        self.recorder = recorder
        parameters = list(_parameters(function))
        self.names = tuple(item.name for item in parameters if item.kind in _POSITIONAL)
        self.rest = next((item.name for item in parameters if item.kind is item.VAR_POSITIONAL), "args")
        # `self` and `cls` are no input. Nothing but its name tells a method inside its class's body.
        self.skip = 1 if is_bound or (self.names and self.names[0] in ("self", "cls")) else 0

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span:
        """Begin the observation of one call."""
        fields = self.fields.copy()
        if self.capture_input:
            try:
                given = self._input(args, kwargs)
                if given:
                    fields["input"] = given
            except Exception as exc:
                fault(self.recorder, "observe.input", exc)
        return open_observation(self.recorder, self.title, fields)

    def _input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        skip = self.skip
        given = dict(zip(self.names[skip:], args[skip:], strict=False) if skip else zip(self.names, args, strict=False))
        if len(args) > len(self.names):
            given[self.rest] = args[len(self.names) :]
        return {**given, **kwargs} if kwargs else given

    def answer(self, span: Span, result: Any) -> None:
        """Note what the function returned, unless it set an output itself."""
        own = span.own
        if not self.capture_output or result is None or own is None or "output" in own:
            return
        try:
            own["output"] = span.turn.keep(result)
        except Exception as exc:
            span.turn.recorder.guard.fault("observe.output", exc)


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some callables written in C
        return ()


@overload
def observe(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def observe(
    function: None = None,
    /,
    *,
    type: str = "span",
    name: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    recorder: Recorder | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def observe(
    function: Callable[..., Any] | None = None,
    /,
    *,
    type: str = "span",
    name: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    recorder: Recorder | None = None,
) -> Any:
    """Make every call of a function an observation of the current turn (or of a turn of its own).

    Works bare and with arguments, above or below `@staticmethod` and `@classmethod`.

    Args:
        type: one of `records.observation.OBSERVATION_TYPES`.
        name: none: the function's.
        capture_input: record the arguments, by name; `self` and `cls` are left out.
        capture_output: record the result, or what a generator yielded.
        recorder: used outside any turn; none: the process's default.

    Raises:
        TypeError: what is decorated is no function.
        ValueError: an unknown type.
    """
    field.check_observation({"type": type})

    def decorate(target: Any) -> Any:
        is_bound = isinstance(target, classmethod)
        if isinstance(target, (classmethod, staticmethod)):
            inner = target.__func__
            return target.__class__(_wrap(inner, _observed(inner, is_bound=is_bound)))
        if not callable(target):
            raise TypeError(f"observe: expected a function, got {target!r}")
        return _wrap(target, _observed(target, is_bound=False))

    def _observed(target: Callable[..., Any], *, is_bound: bool) -> Observed:
        return Observed(
            target,
            type=type,
            name=name,
            capture_input=capture_input,
            capture_output=capture_output,
            recorder=recorder,
            is_bound=is_bound,
        )

    return decorate if function is None else decorate(function)


def _wrap(function: Callable[..., Any], observed: Observed) -> Callable[..., Any]:
    # Of an object that can be called, its method tells of which kind a call is.
    is_function = inspect.isroutine(function) or isinstance(function, (type, partial))
    called = function if is_function else type(function).__call__
    if inspect.isasyncgenfunction(called):
        return _wrap_async_generator(function, observed)
    if inspect.isgeneratorfunction(called):
        return _wrap_generator(function, observed)
    if inspect.iscoroutinefunction(called):
        return _wrap_coroutine(function, observed)
    return _wrap_function(function, observed)


def _wrap_function(function: Callable[..., Any], observed: Observed) -> Callable[..., Any]:
    @wraps(function)
    def observed_call(*args: Any, **kwargs: Any) -> Any:
        span = observed.open(args, kwargs)
        if span is SILENT:
            return function(*args, **kwargs)
        with span:
            result = function(*args, **kwargs)
            observed.answer(span, result)
            return result

    return observed_call


def _wrap_coroutine(function: Callable[..., Any], observed: Observed) -> Callable[..., Any]:
    @wraps(function)
    async def observed_call(*args: Any, **kwargs: Any) -> Any:
        span = observed.open(args, kwargs)
        if span is SILENT:
            return await function(*args, **kwargs)
        with span:
            result = await function(*args, **kwargs)
            observed.answer(span, result)
            return result

    return observed_call


def _wrap_generator(function: Callable[..., Any], observed: Observed) -> Callable[..., Any]:
    @wraps(function)
    def observed_call(*args: Any, **kwargs: Any) -> Any:
        steps = function(*args, **kwargs)  # first: wrong arguments are no call
        span = observed.open(args, kwargs)
        return steps if span is SILENT else _stepped(ObservedGenerator, steps, span, observed)

    return observed_call


def _wrap_async_generator(function: Callable[..., Any], observed: Observed) -> Callable[..., Any]:
    @wraps(function)
    def observed_call(*args: Any, **kwargs: Any) -> Any:
        steps = function(*args, **kwargs)  # first: wrong arguments are no call
        span = observed.open(args, kwargs)
        return steps if span is SILENT else _stepped(ObservedAsyncGenerator, steps, span, observed)

    return observed_call


def _stepped(kind: Callable[..., Any], steps: Any, span: Span, observed: Observed) -> Any:
    """The generator as an observed one; the bare one where that fails."""
    try:
        return kind(steps, span, observed.capture_output)
    except Exception as exc:
        span.turn.recorder.guard.fault("observe.steps", exc)
        span.end()
        return steps


__all__ = ["current_trace_id", "generation", "observation", "observe", "turn", "update_trace"]
