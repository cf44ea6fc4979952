"""Trace context and baggage for an outgoing call, or a message of the application's own, that is made inside a turn."""

from collections.abc import Callable, Collection, Mapping, MutableMapping
from itertools import count
from typing import Final

from opentelemetry import trace

from turntrace.tracing.baggage import (
    FIELDS,
    SESSION_ID,
    BaggageEntry,
    extract_baggage,
    format_baggage,
    inject_baggage,
    tags_to_text,
    text_to_tags,
    withdraw_baggage,
)
from turntrace.tracing.context import current_turn
from turntrace.tracing.ids import new_span_id
from turntrace.tracing.propagation import inject_context
from turntrace.tracing.trust import host_of
from turntrace.tracing.turn import Turn

_END: Final = 0xFFFF  # bits of a turn's span id in which the ids of its calls differ from it
_calls: Final = count(int(new_span_id(), 16))


def inject(
    headers: MutableMapping[str, str],
    *,
    url: str | None = None,
    allows: Callable[[str | None], bool],
    keys: Collection[str] = (SESSION_ID,),
) -> None:
    """Write `traceparent` and `tracestate` of the current turn into headers; outside any turn nothing is done.

    The parent id is that of the innermost observation. A call made in no observation gets an id of its own: the
    specification wants one for each outgoing request. It begins as the turn's does, so that who reads both turns knows
    which one called.

    Args:
        url: where the call goes. `baggage` is added only where `allows` says yes to its host; what stood there of the
            turn (from the request that was redirected here) is taken out where it says no.
        allows: usually `trust.HostRules(…).allows`.
        keys: the entries of `baggage.FIELDS` that go.
    """
    turn = current_turn()
    if turn is None:
        return
    inject_place(headers, turn)
    if url is None:
        return
    if allows(host_of(url)):
        _inject_baggage(headers, turn, keys)
    else:
        withdraw_baggage(headers, entries_of(turn))


def carrier() -> dict[str, str]:
    """What another process of the application needs to continue the current turn; empty outside any turn."""
    headers: dict[str, str] = {}
    turn = current_turn()
    if turn is not None:
        inject_place(headers, turn)
        _inject_baggage(headers, turn, FIELDS)
    return headers


def inject_place(headers: MutableMapping[str, str], turn: Turn) -> None:
    """Write the place of a call that is made here: below the current observation, else below the turn itself."""
    own = turn.span_context()
    current = trace.get_current_span().get_span_context()
    if current.trace_id != own.trace_id or current.span_id == own.span_id:
        inject_call(headers, turn)
    else:
        inject_context(headers, current)


def inject_call(headers: MutableMapping[str, str], turn: Turn) -> None:
    """Write the place of a call that hangs below the turn itself: it has no span of its own and gets an id."""
    own = turn.span_context()
    inject_context(headers, own, span_id=_call_id(own.span_id))


def _call_id(span_id: int) -> int:
    """An id that begins as the turn's does; a counter, so that no call of the last 65,535 had the same end."""
    found = (span_id & ~_END) | (next(_calls) & _END)
    return found if found != span_id else _call_id(span_id)


def _inject_baggage(headers: MutableMapping[str, str], turn: Turn, keys: Collection[str]) -> None:
    """The turn's own entries, then what its caller had sent besides, unchanged to the octet."""
    inject_baggage(headers, {key: value for key, value in entries_of(turn).items() if key in keys})
    known = {entry.key for entry in extract_baggage(headers)}
    passed_on = [entry for entry in foreign_of(turn) if entry.key not in known and entry.key not in FIELDS]
    if passed_on:
        headers["baggage"] = format_baggage([*extract_baggage(headers), *passed_on])


def foreign_of(turn: Turn) -> tuple[BaggageEntry, ...]:
    """What the caller sent besides, where it was believed."""
    return getattr(turn, "baggage", ())


def entries_of(turn: Turn) -> dict[str, str | None]:
    """Whose turn it is, by baggage key."""
    found = {key: getattr(turn, name) for key, name in FIELDS.items() if name != "tags"}
    return {**found, "tags": tags_to_text(turn.tags)}


def fields_of(values: Mapping[str, str]) -> dict[str, object]:
    """Arguments of a turn from decoded baggage: session, user, feature, experiment and tags."""
    found: dict[str, object] = {name: values[key] for key, name in FIELDS.items() if values.get(key)}
    if "tags" in found:
        found["tags"] = list(text_to_tags(values["tags"]))
    return found
