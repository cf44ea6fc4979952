"""Trace context and baggage for an outgoing call that is made inside a turn."""

from collections.abc import Callable, MutableMapping

from opentelemetry import trace

from turntrace.tracing.baggage import SESSION_ID, inject_baggage
from turntrace.tracing.context import current_turn
from turntrace.tracing.ids import new_span_id
from turntrace.tracing.propagation import inject_context
from turntrace.tracing.trust import host_of


def inject(headers: MutableMapping[str, str], *, url: str | None = None, allows: Callable[[str | None], bool]) -> None:
    """Write `traceparent` and `tracestate` of the current turn into headers; outside any turn nothing is done.

    The parent id is that of the innermost observation. A call made in no observation gets an id of its own: the
    specification wants one for each outgoing request, and a turn's own span is no observation that it could hide.

    Args:
        url: where the call goes. `baggage` with the session is added only where `allows` says yes to its host.
        allows: usually `trust.HostRules(…).allows`.
    """
    turn = current_turn()
    if turn is None:
        return
    own = turn.span_context()
    current = trace.get_current_span().get_span_context()
    if current.trace_id != own.trace_id or current.span_id == own.span_id:
        inject_context(headers, own, span_id=int(new_span_id(), 16))
    else:
        inject_context(headers, current)
    if turn.session_id and url is not None and allows(host_of(url)):
        inject_baggage(headers, {SESSION_ID: turn.session_id})
