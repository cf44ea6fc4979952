"""`tt.instrument()`: switches on what is installed, once for each library, and says what it found.

Instrumentations that are switched on here report to a private provider that is always on; the host's own tracing sees
nothing of them. For SDKs that trace themselves the global provider is set, where the host has none.
"""

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from turntrace.integrations import catalog
from turntrace.integrations.catalog import Instrumentation, key_of
from turntrace.integrations.globalprovider import set_global_provider
from turntrace.integrations.openai import switch
from turntrace.integrations.openai.others import is_wrapped_by_another
from turntrace.tracing.logs import TurntraceLoggerProvider
from turntrace.tracing.provider import TurntraceTracerProvider
from turntrace.tracing.recorder import Recorder

log = logging.getLogger("turntrace")

State = Literal["on", "already on", "left alone", "failed"]
_OPENAI_METHODS: Final = (
    ("openai", ("OpenAI", "AsyncOpenAI"), ("request",)),
    ("openai.resources.chat.completions", ("Completions", "AsyncCompletions"), ("create",)),
)
_CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class Found:
    """What `tt.instrument()` found of one library.

    Args:
        library: its name, as the instrumentation spells it.
        by: the package that traces it: an instrumentation, `turntrace` (the drop-in), or the library itself.
        state: `on` (now), `already on`, `left alone` (another one does it), or `failed`.
        note: why, or what is missing; empty where there is nothing to say.
    """

    library: str
    by: str
    state: State
    note: str = ""

    def __str__(self) -> str:
        return f"{self.library}: {self.state} by {self.by}" + (f" ({self.note})" if self.note else "")


def instrument(recorder: Recorder, libraries: tuple[str, ...] = ()) -> tuple[Found, ...]:
    """Switch on everything installed, or only what is named in `libraries`; never raises for what fails.

    Returns:
        One entry for each library and for each instrumentation that was passed over.
    """
    wanted = frozenset(map(key_of, libraries))
    provider = TurntraceTracerProvider(recorder)
    # The provider goes first: an SDK that has asked for a tracer before it is there may keep the empty one.
    is_global = _set_global(recorder)
    found = [
        item for item in _all(recorder, provider, wanted, is_global) if not wanted or key_of(item.library) in wanted
    ]
    for item in found:
        log.log(logging.WARNING if item.state == "failed" else logging.INFO, "turntrace: instrument: %s", item)
    return tuple(found)


def _set_global(recorder: Recorder) -> str:
    if recorder.settings.tracer_provider == "never":
        return "never"
    try:
        return set_global_provider(recorder)
    except Exception as error:
        recorder.guard.fault("instrument.provider", error)
        return "failed"


def _all(recorder: Recorder, provider: TurntraceTracerProvider, wanted: frozenset[str], state: str) -> Iterator[Found]:
    is_openai_done = False
    for library, group in groupby(catalog.find(), key=lambda item: key_of(item.library)):
        if wanted and library not in wanted:
            continue
        for found in _one_of(recorder, provider, list(group)):
            is_openai_done = is_openai_done or (library == "openai" and found.state in _DONE)
            yield found
    if not is_openai_done and (not wanted or "openai" in wanted) and _is_installed("openai"):
        yield _guarded("openai", "turntrace", _drop_in)
    for package in catalog.TRACING_THEMSELVES:
        if catalog.traces_itself(package) and (not wanted or key_of(package) in wanted):
            yield _itself(recorder, provider, package, state)


_DONE: Final = frozenset({"on", "already on"})


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _guarded(library: str, by: str, switch_on: Callable[[], Found]) -> Found:
    try:
        return switch_on()
    except Exception as error:
        return Found(library, by, "failed", f"{type(error).__name__}: {error}")


def _one_of(
    recorder: Recorder, provider: TurntraceTracerProvider, candidates: list[Instrumentation]
) -> Iterator[Found]:
    """The best instrumentation of one library that can be switched on; the others are left alone."""
    library = candidates[0].library
    taken = _taken(library)
    if taken is None:
        running = next((item for item in candidates if _is_on(item)), None)
        taken = None if running is None else Found(library, running.package, "already on")
    for item in candidates:
        if taken is not None:
            if item.package != taken.by:
                yield Found(library, item.package, "left alone", f"{taken.by} traces it")
            continue
        found = _guarded(library, item.package, lambda item=item: _switch_on(recorder, provider, item))  # type: ignore[misc]
        taken = found if found.state in _DONE else None
        yield found
    if taken is not None and taken.state == "already on":
        yield taken


def _taken(library: str) -> Found | None:
    """Who traces a library whatever is installed: itself, or the drop-in that the host has imported."""
    if catalog.is_enough(library):
        return Found(library, "itself", "left alone")
    if key_of(library) == "openai" and switch.is_on():
        return Found("openai", "turntrace", "already on")
    return None


def _instance(item: Instrumentation) -> Any:
    return item.entry_point.load()()


def _is_on(item: Instrumentation) -> bool:
    try:
        return bool(_instance(item).is_instrumented_by_opentelemetry)
    except Exception:  # said when it is its turn to be switched on
        return False


def _switch_on(recorder: Recorder, provider: TurntraceTracerProvider, item: Instrumentation) -> Found:
    instrumentor = _instance(item)
    conflict = instrumentor._check_dependency_conflicts()
    if conflict is not None:
        return Found(item.library, item.package, "left alone", str(conflict))
    # Only the official ones say texts in log records, where they are told to.
    logs = {"logger_provider": TurntraceLoggerProvider(recorder)} if item.rank == 0 else {}
    instrumentor.instrument(tracer_provider=provider, **logs)
    wants_texts = item.rank == 0 and recorder.settings.content != "metadata" and not os.environ.get(_CONTENT_VARIABLE)
    note = f"without texts: set {_CONTENT_VARIABLE}=span_only" if wants_texts else ""
    return Found(item.library, item.package, "on", note)


def _drop_in() -> Found:
    if switch.is_on():
        return Found("openai", "turntrace", "already on")
    for module, classes, methods in _OPENAI_METHODS:
        loaded = importlib.import_module(module)
        if any(is_wrapped_by_another(getattr(loaded, name), *methods) for name in classes):
            return Found("openai", "another instrumentation", "already on")
    switch.switch_on()
    return Found("openai", "turntrace", "on")


def _itself(recorder: Recorder, provider: TurntraceTracerProvider, package: str, state: str) -> Found:
    if package == "pydantic-ai":
        return _guarded("pydantic-ai", "itself", lambda: _pydantic_ai(recorder, provider))
    if state in ("never", "failed"):
        return Found(package, "itself", "left alone", "tracer_provider=never: its spans go where the host sends them")
    note = "by the tracer provider of the host" if state == "host" else ""
    if package == "anthropic" and not os.environ.get("ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE"):
        note = "without texts: set ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content"
    return Found(package, "itself", "on", note)


def _pydantic_ai(recorder: Recorder, provider: TurntraceTracerProvider) -> Found:
    """Its agents trace themselves once they are told to; what the host has told them stays."""
    agents: Any = importlib.import_module("pydantic_ai")
    current = getattr(agents.Agent, "_instrument_default", False)
    if current:
        is_ours = isinstance(getattr(getattr(current, "tracer", None), "_recorder", None), type(recorder))
        return Found("pydantic-ai", "itself", "already on", "" if is_ours else "as the host has set it")
    with_texts = recorder.settings.content != "metadata"
    chosen = agents.InstrumentationSettings(
        tracer_provider=provider, include_content=with_texts, include_binary_content=False
    )
    agents.Agent.instrument_all(chosen)
    return Found("pydantic-ai", "itself", "on")
