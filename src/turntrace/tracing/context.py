"""Which turn is current: one context variable, set once per turn; and recording switched off for a while.

A turn's pointer is never set again per chunk or thread, the turn itself is changed: a variable that is set inside a
thread pool or a generator is lost to everyone else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context as Bindings
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.trace import SpanContext

if TYPE_CHECKING:
    from turntrace.tracing.turn import Turn


class _Suspended:
    """Stands in the variable where nothing is to be recorded: a turn that takes nothing any more."""

    is_finished: Final = True

    @staticmethod
    def is_stale() -> bool:
        return True


_SUSPENDED: Final = _Suspended()
# OpenTelemetry's key of the current span, learnt from what its public function does.
SPAN_KEY: Final = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))
_NO_PROVIDER: Final = trace.ProxyTracerProvider()
# Without the variable that tells it cheaply, the public function is always asked.
_IS_PROVIDER_NAMED: Final = OTEL_PYTHON_TRACER_PROVIDER in os.environ or "_TRACER_PROVIDER" not in vars(trace)
_variable: Final[ContextVar["Turn | _Suspended | None"]] = ContextVar("turntrace.turn", default=None)


def _fast_access() -> tuple[Callable[[], Context], Callable[[Context], object]]:
    """How OpenTelemetry's current context is read and set: past its functions, straight at the variable behind them.

    The variable is the one in which `attach` leaves its argument. Where there is none, or one without a default, the
    functions themselves.
    """
    mark, bindings = Context({SPAN_KEY: None}), copy_context()
    bindings.run(otel.attach, mark)
    try:
        variable = next(variable for variable, value in bindings.items() if value is mark)
        Bindings().run(variable.get)
    except (StopIteration, LookupError):
        return otel.get_current, otel.attach
    return variable.get, variable.set


get_current, attach = _fast_access()


# What `deactivate` puts back: of the turn that was activated, the previous one and the previous context, and its own
# context, where it has one.
Activation = tuple["Turn", "Turn | _Suspended | None", Context, Context | None]

# The turn and OpenTelemetry's context.
Place = tuple["Turn | _Suspended | None", Context]


def current_turn() -> "Turn | None":
    """The turn that this code belongs to.

    Where only OpenTelemetry's context was carried into a thread, its current span leads to the turn.
    """
    turn = _variable.get()
    if turn is None:
        turn = getattr(current_span(), "turn", None)
        if turn is None:
            return None
    return None if turn.is_finished and turn.is_stale() else turn  # type: ignore[return-value]


def current_span(context: Context | None = None) -> trace.Span:
    """OpenTelemetry's current span; the same as `trace.get_current_span`, at a third of its price."""
    span = (get_current() if context is None else context).get(SPAN_KEY)
    return trace.INVALID_SPAN if span is None else span  # type: ignore[return-value]


def with_span(span: trace.Span, context: Context) -> Context:
    """`context` with `span` as the current one."""
    if len(context) == (SPAN_KEY in context):  # nothing else in it: half the price of a copy
        return Context(((SPAN_KEY, span),))
    return Context({**context, SPAN_KEY: span})


def is_suspended() -> bool:
    """Whether recording is off here."""
    return _variable.get() is _SUSPENDED


@contextmanager
def suspended() -> Iterator[None]:
    """Record nothing inside, neither into the current turn nor as turns of its own; tasks started inside inherit it."""
    previous = _variable.get()
    _variable.set(_SUSPENDED)
    try:
        yield
    finally:
        _variable.set(previous)


def activate(turn: "Turn") -> Activation:
    """Make `turn` current in this context, and its span OpenTelemetry's current one where that disturbs nobody.

    Spans of a host that has a tracer provider of its own keep the parents and the sampling they would have without
    us: there the turn is found through our own variable only.
    """
    previous, context = _variable.get(), get_current()
    _variable.set(turn)
    own: Context | None = None
    if may_lead(context):
        own = with_span(turn.root or turn.make_root(), context)
        attach(own)
    return turn, previous, context, own


def deactivate(activation: Activation, *, with_inner: bool = False) -> None:
    """Undo `activate`. In another context than it was called in (a generator closed elsewhere) it does nothing.

    Values are set back rather than tokens reset: a token is bound to one context and complains in any other.

    Args:
        with_inner: also where an observation of the turn is still entered, as in a generator that yields inside one.
    """
    turn, previous, previous_context, own = activation
    if _variable.get() is turn:
        _variable.set(previous)
    if own is None:
        return
    if get_current() is own or (with_inner and getattr(current_span(), "turn", None) is turn):
        attach(previous_context)


def place() -> Place:
    """What is current here, for `move` in another thread."""
    return _variable.get(), get_current()


def move(there: Place) -> Place:
    """Make current here what was current there; answers what has been current here, to be moved back."""
    former = place()
    _variable.set(there[0])
    attach(there[1])
    return former


def may_lead(context: Context) -> bool:
    """Whether a turn's root span may become OpenTelemetry's current span: ours is already, or nobody else traces."""
    span = context.get(SPAN_KEY)
    if span is not None and span is not trace.INVALID_SPAN:
        if hasattr(span, "turn"):
            return True
        if span.get_span_context().is_valid:  # type: ignore[attr-defined]
            return False
    provider = tracer_provider()
    is_nobodys = provider is _NO_PROVIDER or isinstance(provider, trace.ProxyTracerProvider)
    return is_nobodys or hasattr(provider, "turntrace_recorder")


def tracer_provider() -> trace.TracerProvider:
    """OpenTelemetry's global provider, asked for at every turn.

    While none is set, the public function looks into the environment each time, which takes longer than the rest of
    `activate`; the variable behind it tells whether it needs to be called.
    """
    found = vars(trace).get("_TRACER_PROVIDER")
    if found is not None:
        return found  # type: ignore[no-any-return]
    return trace.get_tracer_provider() if _IS_PROVIDER_NAMED else _NO_PROVIDER


def host_span() -> SpanContext | None:
    """The span of the host's own tracing that is current: what a new turn continues before the caller's headers."""
    span = current_span()
    if span is trace.INVALID_SPAN:
        return None
    context = span.get_span_context()
    return context if context.is_valid and not hasattr(span, "turn") else None
