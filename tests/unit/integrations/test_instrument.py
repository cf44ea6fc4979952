"""Which instrumentation is switched on for which library, and what is said of the others."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from tests.unit.tracing.conftest import ListRecorder
from turntrace.integrations import catalog, globalprovider
from turntrace.integrations import instrument as instrumenting
from turntrace.integrations.instrument import instrument
from turntrace.integrations.openai import switch
from turntrace.tracing.context import activate, deactivate
from turntrace.tracing.turn import Turn


class Instrumentor:
    """As instrumentations have it: one object, on or off."""

    conflict: str | None = None
    fails = False

    def __init__(self) -> None:
        self.is_instrumented_by_opentelemetry = False
        self.provider: Any = None

    def _check_dependency_conflicts(self) -> str | None:
        return self.conflict

    def instrument(self, *, tracer_provider: Any, logger_provider: Any = None) -> None:
        if self.fails:
            raise RuntimeError("does not fit")
        self.provider, self.is_instrumented_by_opentelemetry = tracer_provider, True


class Installed:
    """Packages that announce an instrumentation."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home = home
        self._points: list[EntryPoint] = []
        self.made: dict[str, Instrumentor] = {}
        monkeypatch.setattr(catalog, "entry_points", lambda group: self._points)
        monkeypatch.setattr(instrumenting, "_instance", lambda item: self.made[item.package])

    def add(self, library: str, package: str) -> Instrumentor:
        folder = self._home / f"{package}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        point = EntryPoint(library, "some.module:Instrumentor", catalog.GROUP)
        vars(point).update(dist=PathDistribution(folder))
        self._points.append(point)
        self.made[package] = Instrumentor()
        return self.made[package]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    monkeypatch.setattr(catalog, "TRACING_THEMSELVES", ())
    was_on = switch.is_on()
    switch.switch_off()
    yield Installed(tmp_path, monkeypatch)
    switch.switch_off()
    if was_on:
        switch.switch_on()


@pytest.fixture
def recorder() -> ListRecorder:
    return ListRecorder(tracer_provider="never")


def said(recorder: ListRecorder, *libraries: str) -> list[str]:
    return list(map(str, instrument(recorder, libraries)))


def test_the_official_one_goes_before_the_others(installed: Installed, recorder: ListRecorder) -> None:
    third = installed.add("openai", "opentelemetry-instrumentation-openai")
    second = installed.add("openai", "openinference-instrumentation-openai")
    first = installed.add("openai", "opentelemetry-instrumentation-openai-v2")
    best = "opentelemetry-instrumentation-openai-v2"
    note = "without texts: set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only"
    assert said(recorder) == [
        f"openai: on by {best} ({note})",
        f"openai: left alone by openinference-instrumentation-openai ({best} traces it)",
        f"openai: left alone by opentelemetry-instrumentation-openai ({best} traces it)",
    ]
    assert [item.is_instrumented_by_opentelemetry for item in (first, second, third)] == [True, False, False]
    assert first.provider.turntrace_recorder is recorder
    assert not switch.is_on()


def test_spellings_of_one_library_are_one(installed: Installed, recorder: ListRecorder) -> None:
    installed.add("llama_index", "openinference-instrumentation-llama-index")
    installed.add("llamaindex", "opentelemetry-instrumentation-llamaindex")
    states = [(item.by, item.state) for item in instrument(recorder, ("llama-index",))]
    assert states == [
        ("openinference-instrumentation-llama-index", "on"),
        ("opentelemetry-instrumentation-llamaindex", "left alone"),
    ]


def test_what_does_not_fit_or_fails_makes_room_for_the_next(installed: Installed, recorder: ListRecorder) -> None:
    installed.add("openai", "opentelemetry-instrumentation-genai-openai").conflict = "openai>=9 is wanted"
    installed.add("openai", "openinference-instrumentation-openai").fails = True
    assert said(recorder) == [
        "openai: left alone by opentelemetry-instrumentation-genai-openai (openai>=9 is wanted)",
        "openai: failed by openinference-instrumentation-openai (RuntimeError: does not fit)",
        "openai: on by turntrace",
    ]
    assert switch.is_on()


def test_what_the_host_has_switched_on_stays_alone(installed: Installed, recorder: ListRecorder) -> None:
    installed.add("openai", "opentelemetry-instrumentation-openai-v2")
    installed.add("openai", "openinference-instrumentation-openai").is_instrumented_by_opentelemetry = True
    assert [(item.by, item.state) for item in instrument(recorder)] == [
        ("opentelemetry-instrumentation-openai-v2", "left alone"),
        ("openinference-instrumentation-openai", "already on"),
    ]


def test_the_imported_drop_in_keeps_instrumentations_away(installed: Installed, recorder: ListRecorder) -> None:
    switch.switch_on()
    instrumentor = installed.add("openai", "opentelemetry-instrumentation-openai-v2")
    assert [(item.by, item.state) for item in instrument(recorder)] == [
        ("opentelemetry-instrumentation-openai-v2", "left alone"),
        ("turntrace", "already on"),
    ]
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_a_client_that_somebody_has_wrapped_is_left_alone(
    installed: Installed, recorder: ListRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = type("FunctionWrapper", (), {"__module__": "wrapt.wrappers", "__call__": lambda self: None})
    monkeypatch.setattr(openai.resources.chat.completions.Completions, "create", wrapper())
    assert said(recorder) == ["openai: already on by another instrumentation"]
    assert not switch.is_on()


def test_instrumentations_of_databases_and_frameworks_are_not_touched(
    installed: Installed, recorder: ListRecorder
) -> None:
    installed.add("sqlalchemy", "opentelemetry-instrumentation-sqlalchemy")
    installed.add("httpx", "opentelemetry-instrumentation-httpx")
    assert said(recorder) == ["openai: on by turntrace"]
    assert said(recorder) == ["openai: already on by turntrace"]


def test_libraries_can_be_named(installed: Installed, recorder: ListRecorder) -> None:
    installed.add("langchain", "openinference-instrumentation-langchain")
    assert said(recorder, "langchain") == ["langchain: on by openinference-instrumentation-langchain"]
    assert said(recorder, "nothing") == []


# --- the global provider --------------------------------------------------------------------------------------------


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which nobody has set one."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", type(trace._TRACER_PROVIDER_SET_ONCE)())


def test_it_is_set_where_the_host_has_none(no_provider: None) -> None:
    recorder = ListRecorder()
    assert globalprovider.set_global_provider(recorder) == "set"
    assert globalprovider.set_global_provider(recorder) == "ours"
    turn = Turn(recorder, name="POST /chat", path="/chat")
    activation = activate(turn)
    with trace.get_tracer("some.sdk").start_as_current_span(
        "chat", attributes={"gen_ai.operation.name": "chat"}
    ) as span:
        assert f"{span.get_span_context().trace_id:032x}" == turn.trace_id
        with trace.get_tracer("fastapi").start_as_current_span("fastapi.endpoint"):
            assert trace.get_current_span() is span
    deactivate(activation)
    turn.finish()
    assert list(recorder.spans()) == ["chat"]


def test_the_hosts_own_stays(no_provider: None) -> None:
    host = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(host)
    assert globalprovider.set_global_provider(ListRecorder()) == "host"
    assert trace.get_tracer_provider() is host


def test_the_setting_forbids_it(no_provider: None, installed: Installed) -> None:
    instrument(ListRecorder(tracer_provider="never"))
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
