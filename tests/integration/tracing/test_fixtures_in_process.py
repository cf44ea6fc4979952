"""Recorded spans of real libraries, made again by OpenTelemetry's SDK inside a turn: the same answers as over OTLP."""

import json
from typing import Any

import orjson
import pytest
from opentelemetry._logs import Logger, LogRecord
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_tracer_provider,
    set_span_in_context,
    use_span,
)

from tests.integration.capture.recording import Recording
from tests.unit.pipeline.otlp_fixture import FOLDER, NAMES, compare
from turntrace.pipeline import Pipeline, Pricer
from turntrace.pipeline.convert.otlp import LogRecord as JoinedRecord
from turntrace.pipeline.convert.otlp import read_logs, read_spans
from turntrace.pipeline.decode import decode
from turntrace.pipeline.merge import merge
from turntrace.records.fragment import RawSpan
from turntrace.records.observation import Observation
from turntrace.semconv import LOG_BODY
from turntrace.settings import Settings
from turntrace.tracing.joining import HostProvider
from turntrace.tracing.logs import TurnLogProcessor, TurntraceLoggerProvider
from turntrace.tracing.provider import TurnSpanProcessor, TurntraceTracerProvider
from turntrace.tracing.silent import SILENT
from turntrace.tracing.turn import Turn, activate, deactivate

SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Ids(IdGenerator):
    """Gives the ids of the span that is made next."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Replay:
    """Makes recorded spans again, as an instrumentation in the application would."""

    def __init__(self, recording: Recording) -> None:
        self.ids = Ids()
        limits = SpanLimits(max_span_attributes=10_000, max_events=10_000)
        self.provider = TracerProvider(id_generator=self.ids, span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(TurnSpanProcessor(recording))  # type: ignore[arg-type]
        self.logs = LoggerProvider(shutdown_on_exit=False)
        self.logs.add_log_record_processor(TurnLogProcessor(recording))  # type: ignore[arg-type]

    def run(self, spans: list[RawSpan], records: list[JoinedRecord]) -> None:
        made = [(span, self._start(span)) for span in sorted(spans, key=lambda span: span.started_at_us)]
        for record in records:
            self._log(record)
        for span, live in reversed(made):
            for event in span.events:
                live.add_event(event.name, event.attributes, event.at_us * 1000)
            if span.status != "unset":
                live.set_status(Status(StatusCode[span.status.upper()], span.status_message))
            live.end((span.started_at_us + (span.duration_us or 0)) * 1000)

    def _start(self, span: RawSpan) -> Any:
        self.ids.trace_id, self.ids.span_id = int(span.trace_id or "", 16), int(span.span_id, 16)
        context = Context()
        if span.parent_span_id:
            above = SpanContext(self.ids.trace_id, int(span.parent_span_id, 16), False, SAMPLED)
            context = set_span_in_context(NonRecordingSpan(above), context)
        tracer = self.provider.get_tracer(span.scope, span.scope_version)
        kind = SpanKind[span.kind.upper()]
        return tracer.start_span(span.name, context, kind, span.attributes, start_time=span.started_at_us * 1000)

    def _log(self, record: JoinedRecord) -> None:
        told = dict(record.event.attributes)
        body = told.pop(LOG_BODY, None)
        place = {"trace_id": int(record.trace_id, 16), "span_id": int(record.span_id, 16), "trace_flags": SAMPLED}
        at = record.event.at_us * 1000
        made = LogRecord(timestamp=at, event_name=record.event.name, body=body, attributes=told, **place)
        self.logs.get_logger("replay").emit(made)


@pytest.fixture
def recording() -> Recording:
    return Recording(content="full", redaction="off", max_spans=20_000)


def observe(recording: Recording, spans: list[RawSpan], records: list[JoinedRecord]) -> list[Observation]:
    """What a turn in which the spans are made holds."""
    turn = Turn(recording, name="POST /ask", is_explicit=True)
    activation = activate(turn)
    try:
        Replay(recording).run(spans, records)
    finally:
        deactivate(activation)
        turn.finish()
    fragments = [decode(kind, orjson.dumps(document)) for kind, document in recording.frames]
    (worked,) = Pipeline(Settings(redaction="off", content="full"), pricer=Pricer()).work([merge(fragments)])
    return list(worked.trace.observations)


def load(name: str) -> tuple[list[RawSpan], list[JoinedRecord], dict[str, Any]]:
    expected = json.loads((FOLDER / f"{name}.expected.json").read_text())
    spans, _ = read_spans(json.loads((FOLDER / expected["fixture"]).read_text()))
    records = read_logs(json.loads((FOLDER / expected["logs"]).read_text()))[0] if expected["logs"] else []
    return list(spans), list(records), expected


@pytest.mark.parametrize("name", NAMES)
def test_a_fixture_made_in_the_process_gives_its_answers(name: str, recording: Recording) -> None:
    spans, records, expected = load(name)
    assert compare(observe(recording, spans, records), expected) == []


def test_nothing_global_was_set() -> None:
    assert not isinstance(get_tracer_provider(), TracerProvider)


def details(text: str) -> dict[str, Any]:
    said = [{"role": "assistant", "parts": [{"type": "text", "content": text}]}]
    return {"gen_ai.output.messages": json.dumps(said)}


def test_records_reach_the_spans_of_our_own_provider_too(recording: Recording) -> None:
    turn = Turn(recording, name="POST /ask", is_explicit=True)
    activation = activate(turn)
    try:
        tracer = TurntraceTracerProvider(recording).get_tracer("genai")
        logger = TurntraceLoggerProvider(recording).get_logger("genai")
        named = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
        with tracer.start_as_current_span("chat gpt-4o-mini", attributes=named):
            logger.emit(event_name="gen_ai.client.inference.operation.details", attributes=details("Hello"))
            logger.emit(event_name="app.secret", attributes=details("of the application"))
            logger.emit(LogRecord(attributes=details("no name")))
    finally:
        deactivate(activation)
        turn.finish()
    (document,) = [document for _, document in recording.frames]
    (span,) = document["spans"]
    assert [event["name"] for event in span["events"]] == ["gen_ai.client.inference.operation.details"]
    (worked,) = Pipeline(Settings(redaction="off", content="full")).work([merge([decode(*_end(recording))])])
    assert worked.trace.observations[0].output == [{"role": "assistant", "content": "Hello"}]


def _end(recording: Recording) -> tuple[Any, bytes]:
    kind, document = recording.frames[-1]
    return kind, orjson.dumps(document)


def test_a_logger_provider_of_the_host_is_joined_once(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    import opentelemetry._logs._internal as logs

    provider = LoggerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(logs, "_LOGGER_PROVIDER", provider)
    host = HostProvider(recording)
    for _ in range(3):
        host.join()
    kinds = [type(item).__name__ for item in provider._multi_log_record_processor._log_record_processors]
    assert kinds == ["TurnLogProcessor"]


@pytest.mark.parametrize("is_hosts", [False, True])
def test_a_record_is_stored_once_however_many_turntraces_there_are(recording: Recording, is_hosts: bool) -> None:
    other = Recording(content="full", redaction="off")
    spans, logs = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    for each in (recording, other):
        spans.add_span_processor(TurnSpanProcessor(each))  # type: ignore[arg-type]
        logs.add_log_record_processor(TurnLogProcessor(each))  # type: ignore[arg-type]
    tracer = (spans if is_hosts else TurntraceTracerProvider(recording)).get_tracer("genai")
    assert _events_in_a_turn(recording, tracer, logs.get_logger("genai")) == ["gen_ai.choice"]
    assert other.frames == []


@pytest.mark.parametrize("is_hosts", [False, True])
def test_what_one_turntrace_switched_on_logs_into_turns_of_another(recording: Recording, is_hosts: bool) -> None:
    """A library is instrumented once for the process, and its spans join whatever turn is current."""
    other = Recording(content="full", redaction="off")
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(TurnSpanProcessor(recording))  # type: ignore[arg-type]
    tracer = (spans if is_hosts else TurntraceTracerProvider(other)).get_tracer("genai")
    logger = TurntraceLoggerProvider(other).get_logger("genai")
    assert _events_in_a_turn(recording, tracer, logger) == ["gen_ai.choice"]


def _events_in_a_turn(recording: Recording, tracer: Tracer, logger: Logger) -> list[str]:
    turn = Turn(recording, name="POST /ask", is_explicit=True)
    activation = activate(turn)
    try:
        with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}):
            logger.emit(LogRecord(event_name="gen_ai.choice", attributes=details("Hello")))
    finally:
        deactivate(activation)
        turn.finish()
    (span,) = recording.frames[-1][1]["spans"]
    return [event["name"] for event in span["events"]]


def test_a_record_in_a_step_that_is_not_recorded_is_no_fault(recording: Recording) -> None:
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(TurnLogProcessor(recording))  # type: ignore[arg-type]
    with use_span(SILENT):
        for logger in (logs.get_logger("genai"), TurntraceLoggerProvider(recording).get_logger("genai")):
            logger.emit(LogRecord(event_name="gen_ai.choice", attributes=details("Hello")))
    assert recording.frames == []
