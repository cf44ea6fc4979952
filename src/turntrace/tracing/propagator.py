"""A propagator for OpenTelemetry's own API: W3C Trace Context level 2 and Baggage, to the octet."""

from collections.abc import Iterator, Sequence
from typing import Final

from opentelemetry import baggage
from opentelemetry.context import Context, create_key, get_current, get_value, set_value
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import NonRecordingSpan

from turntrace.tracing.baggage import BAGGAGE, BaggageEntry, baggage_values, format_baggage, parse_baggage
from turntrace.tracing.context import current_span, current_turn, with_span
from turntrace.tracing.outgoing import inject_call
from turntrace.tracing.propagation import TRACEPARENT, TRACESTATE, inject_context, read_context

_RECEIVED: Final = create_key("turntrace.baggage")  # the entries as they stood in the header


class ExactPropagator(TextMapPropagator):
    """Instead of `tracecontext,baggage`: `OTEL_PROPAGATORS=turntrace`, or `propagate.set_global_textmap(…)`.

    What the two of OpenTelemetry change on its way stays as it came: properties of baggage entries, `+` and escapes in
    their values, several `baggage` headers, keys and flags of level 2. An entry that the application set anew is
    escaped by percent signs and has no properties. The header holds what is in OpenTelemetry's baggage and nothing of
    the turn: a propagator is not told where a call goes; `tt.inject` and the helpers are.
    """

    @property
    def fields(self) -> set[str]:
        """The headers that may be written."""
        return {TRACEPARENT, TRACESTATE, BAGGAGE}

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """`context` with the caller's place and baggage; a malformed header leaves it as it was."""
        found = get_current() if context is None else context
        remote = read_context(_texts(getter, carrier, TRACEPARENT), _texts(getter, carrier, TRACESTATE))
        if remote is not None:
            found = with_span(NonRecordingSpan(remote.span_context()), found)
        entries = parse_baggage(_texts(getter, carrier, BAGGAGE))
        if not entries:
            return found
        for key, value in baggage_values(entries).items():
            found = baggage.set_baggage(key, value, found)
        return set_value(_RECEIVED, entries, found)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the place of `context` and its baggage into the carrier.

        Args:
            context: a given one counts as it is, without a span it has no place; None: the current one, and where that
                has no span the current turn.
        """
        headers: dict[str, str] = {}
        _place(headers, context)
        text = format_baggage(_entries(context))
        if text:
            headers[BAGGAGE] = text
        for name, value in headers.items():
            setter.set(carrier, name, value)


def _texts(getter: Getter[CarrierT], carrier: CarrierT, name: str) -> Sequence[str]:
    return [value for value in getter.get(carrier, name) or () if isinstance(value, str)]


def _place(headers: dict[str, str], context: Context | None) -> None:
    span = current_span(context)
    place, turn = span.get_span_context(), getattr(span, "turn", None) or current_turn()
    is_turns = place.is_valid and turn is not None and place.span_id == turn.span_context().span_id
    if turn is not None and (is_turns or (context is None and not place.is_valid)):
        inject_call(headers, turn)
    else:
        inject_context(headers, place)


def _entries(context: Context | None) -> Iterator[BaggageEntry]:
    """Entries that are as they came in the form in which they came, then the others."""
    values = {key: str(value) for key, value in baggage.get_all(context).items()}
    received = get_value(_RECEIVED, context)
    entries = received if isinstance(received, tuple) else ()
    decoded = baggage_values(entries)
    for entry in entries:
        if values.get(entry.key) == decoded[entry.key]:
            yield entry
    for key, value in values.items():
        if decoded.get(key) != value and BaggageEntry.is_key(key):
            yield BaggageEntry.of(key, value)
