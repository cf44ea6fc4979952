"""The bridge to OpenTelemetry: our provider, and the processor on a host's."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode

from turntrace.tracing.observation import observation
from turntrace.tracing.observation import turn as explicit_turn
from turntrace.tracing.provider import TurnSpanProcessor, TurntraceTracerProvider
from turntrace.tracing.silent import SILENT
from turntrace.tracing.turn import Turn, suspended

from .conftest import ListRecorder


@pytest.fixture
def tracer(recorder: ListRecorder) -> trace.Tracer:
    return TurntraceTracerProvider(recorder).get_tracer("opentelemetry.instrumentation.llm", "1.2")


@pytest.fixture
def host(recorder: ListRecorder) -> Iterator[trace.Tracer]:
    provider = TracerProvider(sampler=ALWAYS_ON)
    provider.add_span_processor(TurnSpanProcessor(recorder))  # type: ignore[arg-type]
    yield provider.get_tracer("host.scope", "2")
    provider.shutdown()


def test_an_instrumentations_span_joins_the_turn(recorder: ListRecorder, turn: Turn, tracer: trace.Tracer) -> None:
    with (
        observation(recorder, "outer"),
        tracer.start_as_current_span("chat m", kind=SpanKind.CLIENT, attributes={"gen_ai.system": "x"}) as span,
    ):
        span.set_attributes({"gen_ai.usage.input_tokens": 3, "list": ["a", "b"], "n": 1.5})
        span.add_event("e", {"k": True}, timestamp=5_000)
        with observation(recorder, "inner"):
            pass
    turn.finish()
    spans = recorder.spans()
    chat = spans["chat m"]
    assert (chat["scope"], chat["scope_version"], chat["kind"]) == (
        "opentelemetry.instrumentation.llm",
        "1.2",
        "client",
    )
    assert chat["attributes"] == {"gen_ai.system": "x", "gen_ai.usage.input_tokens": 3, "list": ["a", "b"], "n": 1.5}
    assert chat["events"] == [{"name": "e", "at_us": 5, "attributes": {"k": True}}]
    assert "own" not in chat
    assert chat["parent_span_id"] == spans["outer"]["span_id"]
    assert spans["inner"]["parent_span_id"] == chat["span_id"]


def test_an_llm_span_alone_makes_a_turn_recorded_and_an_http_span_does_not(
    recorder: ListRecorder, turn: Turn, tracer: trace.Tracer
) -> None:
    tracer.start_span("GET", attributes={"http.method": "GET"}).end()
    assert not turn.is_recorded()
    span = tracer.start_span("chat")
    span.set_attribute("llm.model_name", "m")
    assert turn.is_recorded()
    span.end()
    turn.finish()
    assert set(recorder.spans()) == {"GET", "chat"}


def test_outside_a_turn_only_llm_spans_leave_something(recorder: ListRecorder, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("GET"):
        pass
    with tracer.start_as_current_span("agent"), tracer.start_as_current_span("chat", attributes={"gen_ai.system": "x"}):
        pass
    assert recorder.kinds() == ["END"]
    assert set(recorder.spans()) == {"agent", "chat"}


def test_exceptions_and_status_are_recorded_as_the_conventions_say(
    recorder: ListRecorder, turn: Turn, tracer: trace.Tracer
) -> None:
    boom = ValueError("boom")
    with (
        pytest.raises(ValueError, match="boom") as caught,
        tracer.start_as_current_span("chat", attributes={"gen_ai.system": "x"}),
    ):
        raise boom
    assert caught.value is boom
    ok = tracer.start_span("ok")
    ok.set_status(StatusCode.OK)
    ok.set_status(Status(StatusCode.ERROR, "no"))
    ok.end()
    turn.finish()
    chat = recorder.spans()["chat"]
    assert chat["status"] == "error"
    assert chat["status_message"] == "ValueError: boom"
    assert chat["events"][0]["attributes"]["exception.type"] == "ValueError"
    assert recorder.spans()["ok"]["status"] == "ok"


async def test_a_tracer_decorates_async_functions(recorder: ListRecorder, turn: Turn, tracer: trace.Tracer) -> None:
    @tracer.start_as_current_span("decorated", attributes={"gen_ai.system": "x"})
    async def work() -> trace.Span:
        await asyncio.sleep(0)
        return trace.get_current_span()

    span = await work()
    turn.finish()
    assert recorder.spans()["decorated"]["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_stated_times_are_kept(recorder: ListRecorder, turn: Turn, tracer: trace.Tracer) -> None:
    tracer.start_span("chat", attributes={"gen_ai.system": "x"}, start_time=1_000_000).end(3_000_000)
    turn.finish()
    span = recorder.spans()["chat"]
    assert (span["started_at_us"], span["duration_us"]) == (1_000, 2_000)


def test_a_span_over_the_limit_stands_for_the_one_around_it() -> None:
    """An instrumentation makes it the current one, and a propagator asks what is current."""
    recorder = ListRecorder(max_spans=1)
    tracer = TurntraceTracerProvider(recorder).get_tracer("opentelemetry.instrumentation.llm")
    with (
        explicit_turn(recorder, name="ask"),
        tracer.start_as_current_span("chat a") as kept,
        tracer.start_as_current_span("chat b") as left_out,
    ):
        assert not left_out.is_recording()
        assert trace.get_current_span().get_span_context() == kept.get_span_context()
    assert "chat b" not in recorder.spans()


def test_a_silent_step_that_somebody_makes_current_has_no_context() -> None:
    with trace.use_span(SILENT):
        assert not trace.get_current_span().get_span_context().is_valid


def test_nothing_of_an_instrumentation_is_recorded_while_suspended(
    recorder: ListRecorder, tracer: trace.Tracer, host: trace.Tracer
) -> None:
    with suspended():
        for each in (tracer, host):
            with each.start_as_current_span("chat", attributes={"gen_ai.system": "x"}):
                pass
    assert recorder.frames == []


def test_a_hosts_span_joins_the_turn_it_began_in(recorder: ListRecorder, turn: Turn, host: trace.Tracer) -> None:
    with (
        observation(recorder, "outer"),
        host.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes={"gen_ai.system": "x"}) as span,
    ):
        span.set_attribute("gen_ai.tags", ["a", "b"])
        span.add_event("e", {"k": 1})
        span.set_status(StatusCode.ERROR, "no")
        with observation(recorder, "inner"):
            pass
    turn.finish()
    spans = recorder.spans()
    chat = spans["chat"]
    assert (chat["scope"], chat["scope_version"], chat["kind"]) == ("host.scope", "2", "client")
    assert chat["attributes"] == {"gen_ai.system": "x", "gen_ai.tags": ["a", "b"]}
    assert (chat["status"], chat["status_message"]) == ("error", "no")
    assert chat["events"][0]["name"] == "e"
    assert chat["parent_span_id"] == spans["outer"]["span_id"]
    assert spans["inner"]["parent_span_id"] == chat["span_id"]
    assert "trace_id" not in chat


def test_a_hosts_span_that_ends_after_the_turn_follows_as_an_amend(
    recorder: ListRecorder, turn: Turn, host: trace.Tracer
) -> None:
    span = host.start_span("chat", attributes={"gen_ai.system": "x"})
    turn.finish()
    with explicit_turn(recorder, name="other"):
        span.end()
    assert recorder.kinds() == ["END", "AMEND", "END"]
    assert recorder.frames[1][2]["turn"]["id"] == turn.id


def test_a_hosts_unsampled_span_is_reported_on_the_turn(recorder: ListRecorder, turn: Turn) -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("host")
    with tracer.start_as_current_span("unseen"), observation(recorder, "x"):
        pass
    turn.finish()
    assert recorder.last("END")["turn"]["flags"] == ["unsampled_host_span"]


def test_a_turn_below_a_span_of_the_host_continues_its_trace(recorder: ListRecorder, host: trace.Tracer) -> None:
    with (
        host.start_as_current_span("server") as server,
        explicit_turn(recorder, name="t") as turn,
        observation(recorder, "step"),
        host.start_as_current_span("deep"),
    ):
        pass
    assert turn is not None
    assert turn.trace_id == f"{server.get_span_context().trace_id:032x}"
    assert turn.parent_span_id == f"{server.get_span_context().span_id:016x}"
    spans = recorder.spans()
    assert spans["step"]["parent_span_id"] == turn.span_id
    assert spans["deep"]["parent_span_id"] == spans["step"]["span_id"]


def test_the_processor_holds_no_span_and_is_bounded(recorder: ListRecorder, turn: Turn) -> None:
    processor = TurnSpanProcessor(recorder)
    provider = TracerProvider()
    provider.add_span_processor(processor)  # type: ignore[arg-type]
    tracer = provider.get_tracer("host")
    for _ in range(3_000):
        tracer.start_span("never ended")
    assert len(processor._open) == recorder.settings.max_spans
    turn.finish()
    provider.shutdown()


def test_a_model_call_of_the_host_that_outlives_its_turn_is_in_it_and_ended_later(
    recorder: ListRecorder, turn: Turn, host: trace.Tracer
) -> None:
    with observation(recorder, "step"):
        call = host.start_span("chat m", attributes={"gen_ai.request.model": "m"})
        other = host.start_span("SELECT")
    call.set_attribute("gen_ai.usage.input_tokens", 7)
    turn.finish()
    left = recorder.spans()["chat m"]
    assert left["attributes"] == {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7}
    assert left["parent_span_id"] == recorder.spans()["step"]["span_id"]
    assert ("duration_us" in left, left["seen_us"] > 0) == (False, True)
    assert "SELECT" not in recorder.spans()
    assert not turn._joined
    call.end()
    other.end()
    ended = next(span for span in recorder.frames[1][2]["spans"] if span["name"] == "chat m")
    assert ended["span_id"] == left["span_id"]
    assert ("seen_us" in ended, ended["duration_us"] >= left["seen_us"]) == (False, True)


def test_a_model_call_that_is_known_as_one_only_while_it_runs_makes_its_turn_recorded(
    recorder: ListRecorder, turn: Turn, host: trace.Tracer
) -> None:
    call = host.start_span("chat m")
    call.set_attribute("gen_ai.request.model", "m")
    turn.finish()
    assert [span["name"] for span in recorder.last("END")["spans"]] == ["chat m"]
    call.end()


async def test_no_context_is_lost_in_tasks(
    recorder: ListRecorder, turn: Turn, tracer: trace.Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    async def step(name: str) -> None:
        with observation(recorder, name), tracer.start_as_current_span(f"{name}-llm"):
            await asyncio.sleep(0)

    with caplog.at_level(logging.DEBUG):
        await asyncio.gather(*(asyncio.create_task(step(f"s{index}")) for index in range(5)))
    turn.finish()
    spans = recorder.spans()
    for index in range(5):
        assert spans[f"s{index}-llm"]["parent_span_id"] == spans[f"s{index}"]["span_id"]
    assert "different Context" not in caplog.text


def test_importing_all_of_it_loads_no_sdk_and_nothing_heavy() -> None:
    code = (
        "import sys, turntrace.tracing.observe, turntrace.tracing.provider, turntrace.tracing.threads\n"
        "heavy = ('opentelemetry.sdk', 'sqlalchemy', 'pydantic', 'starlette', 'asyncio')\n"
        "print([name for name in sys.modules if name in heavy])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
