"""Turns to one request: a span for the turn itself, one for each of its observations."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from turntrace import semconv
from turntrace.pipeline.outbound.observation import span_of
from turntrace.pipeline.outbound.turn import turn_span
from turntrace.pipeline.outbound.wire import ResourceSpans, Span, request
from turntrace.pipeline.record import without_content
from turntrace.pipeline.redact import number_tags
from turntrace.records.trace import Trace

SCOPE: Final = "turntrace"


def encode(traces: Iterable[Trace], *, version: str, with_content: bool) -> bytes:
    """An `ExportTraceServiceRequest` (protocol buffers) of these turns.

    Args:
        traces: with observations and content as they are stored, hence redacted.
        version: of this package.
        with_content: whether texts go; else names, ids and numbers only.
    """
    wanted = (trace if with_content else without_content(trace) for trace in traces)
    return request(_group(trace, version) for trace in wanted)


def _group(trace: Trace, version: str) -> ResourceSpans:
    spans = [turn_span(trace), *(span_of(observation, trace) for observation in trace.observations)]
    numbering: dict[str, str] = {}
    return ResourceSpans(
        resource=_resource(trace, version),
        scope=SCOPE,
        scope_version=version,
        spans=[_numbered(span, numbering) for span in spans],
    )


def _numbered(span: Span, numbering: dict[str, str]) -> Span:
    """Placeholders as they are shown, `<EMAIL_1>`: the keyed ones would tie the turns of a person together."""
    events = [replace(event, attributes=number_tags(dict(event.attributes), numbering)) for event in span.events]
    return replace(
        span,
        name=number_tags(span.name, numbering),
        status_message=number_tags(span.status_message, numbering),
        attributes=number_tags(dict(span.attributes), numbering),
        events=events,
    )


def _resource(trace: Trace, version: str) -> dict[str, Any]:
    return {
        semconv.SERVICE_NAME: trace.service_name or "unknown_service",
        semconv.SERVICE_VERSION: trace.release,
        semconv.ENVIRONMENT: trace.environment,
        semconv.DISTRO_NAME: SCOPE,
        semconv.DISTRO_VERSION: version,
    }
