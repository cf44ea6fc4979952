"""The class `Turntrace`: the composition root. It wires the parts of the capturing process and holds no logic.

What needs SQL, Presidio or a web framework is put together in `assembly.py`, which is imported only where it is used
first: a web process that records and nothing else stays small.
"""

import importlib
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from turntrace.borders import Borders
from turntrace.capture.host import set_default_factory
from turntrace.errors import InvalidInput, SettingsError
from turntrace.keyring import KeyRing
from turntrace.records.fragment import FrameKind
from turntrace.records.score import DATA_TYPES
from turntrace.settings import Settings
from turntrace.spool.counters import CPU, PAUSED_UNTIL, SURROUNDED
from turntrace.spool.directory import Location, WorkerLock, has_database_in_memory, locate
from turntrace.spool.memory import MemorySpool
from turntrace.spool.writer import SpoolWriter
from turntrace.surroundings import SURROUNDINGS, risky_surroundings
from turntrace.tracing import observation as observing
from turntrace.tracing import outgoing, threads
from turntrace.tracing.baggage import baggage_values, extract_baggage
from turntrace.tracing.context import suspended
from turntrace.tracing.guard import Guard
from turntrace.tracing.joining import HostProvider
from turntrace.tracing.observe import observe
from turntrace.tracing.propagation import extract_context
from turntrace.tracing.recorder import Resource, emit, set_default
from turntrace.tracing.trust import HostRules
from turntrace.tracing.turn import Turn
from turntrace.worker.status import in_spool, is_read
from turntrace.worker.supervisor import ProcessWorker, Supervisor, ThreadWorker
from turntrace.worker.switch import is_switched_off

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import Engine

    from turntrace.guards.budget import Budgets, Hold
    from turntrace.integrations.instrument import Found
    from turntrace.privacy import Privacy
    from turntrace.web import Web

log = logging.getLogger("turntrace")

_RELEASE_VARIABLES = ("GIT_COMMIT", "GITHUB_SHA", "CI_COMMIT_SHA", "HEROKU_SLUG_COMMIT", "RENDER_GIT_COMMIT")
MEASURE_EVERY = 32
_MAX_COMMENT = 5_000
_MAX_NAME = 200


class Turntrace:
    """One application's Turntrace. Making it does no I/O; it starts on first use in a process and stops in bounds.

    Args:
        database_url: SQLAlchemy URL; an async one is mapped to the matching sync driver.
        engine: a SQLAlchemy engine of the host's instead.
        settings: a whole `Settings`; else `TURNTRACE_*` variables, with `overrides` on top.

    Raises:
        SettingsError: a setting is unknown or unusable.
        TypeError: `settings` and `overrides` are given together.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        engine: "Engine | None" = None,
        settings: Settings | None = None,
        **overrides: Any,
    ) -> None:
        if settings is not None and (overrides or database_url):
            raise TypeError("give settings, or single settings by name, not both")
        if database_url is not None:
            overrides["database_url"] = database_url
        if engine is not None:
            overrides.setdefault("database_url", engine.url.render_as_string(hide_password=False))
        self.settings = settings if settings is not None else Settings.from_environment(**overrides)
        self.recorder = SpoolRecorder(self.settings, engine)
        self._panel = LazyPanel(self)
        self._web: Web | None = None
        self._web_lock = threading.Lock()
        self._privacy: Privacy | None = None
        self._budgets: Budgets | None = None
        self._budgets_lock = threading.Lock()
        self._propagates_to = HostRules(self.settings.propagate_hosts).allows
        set_default(self.recorder)

    # --- the process ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start in this process, once: choose the spool and see to it that a worker runs. Called by the middleware."""
        self.recorder.start()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until everything recorded so far is in the database, `timeout_seconds` at the most.

        Returns:
            Whether it is.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self.recorder.is_drained():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def shutdown(self) -> bool:
        """Stop the worker that this process started, within `shutdown_seconds`; what is spooled stays spooled."""
        if self._budgets is not None:
            self._budgets.close()
        if self._privacy is not None:
            self._privacy.close()
        if self._web is not None:
            self._web.close()
        return self.recorder.stop(self.settings.shutdown_seconds)

    # --- recording --------------------------------------------------------------------------------------------------

    def observation(
        self, name: str, *, type: str = "span", input: Any = None, metadata: Any = None, level: str | None = None
    ) -> Any:
        """A typed step of the current turn, as a context manager whose object has `update(...)`.

        Raises:
            ValueError: unknown type or level; the message names the allowed ones.
        """
        return observing.observation(self.recorder, name, type=type, input=input, metadata=metadata, level=level)

    def generation(
        self,
        name: str,
        *,
        model: str | None = None,
        provider: str | None = None,
        input: Any = None,
        parameters: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """A model call of the current turn, as a context manager; further fields are those of `update`."""
        return observing.generation(
            self.recorder, name, model=model, provider=provider, input=input, parameters=parameters, **fields
        )

    def observe(self, function: Any = None, **options: Any) -> Any:
        """The decorator `observe`, bound to this Turntrace also outside any turn."""
        options["recorder"] = self.recorder
        return observe(**options) if function is None else observe(**options)(function)

    def turn(self, name: str | None = None, **fields: Any) -> Any:
        """An explicit turn, for websockets, scripts and queues: a context manager, sync and async."""
        return observing.turn(self.recorder, name=name or "", **fields)

    def update_trace(self, **fields: Any) -> None:
        """Set fields of the current turn; outside any turn it does nothing.

        Raises:
            TypeError: an unknown field.
        """
        observing.update_trace(**fields)

    def current_trace_id(self) -> str | None:
        """The W3C trace id (32 hex digits) of the current turn, or None."""
        return observing.current_trace_id()

    def instrument(self, *libraries: str) -> "tuple[Found, ...]":
        """Trace the libraries of model calls that are installed, or only those named, each of them once.

        Instrumentations of OpenTelemetry are switched on where they are installed (the official ones, else
        OpenInference's, else OpenLLMetry's), else our own for the OpenAI client. SDKs that trace themselves are left to
        it; for them the global tracer provider is set where the host has set none (setting `tracer_provider`).

        Returns:
            What was found, one entry each, for printing; it is also logged.
        """
        # Loads the OpenTelemetry SDK: only where it is asked for.
        found: tuple[Found, ...] = importlib.import_module("turntrace.integrations.instrument").instrument(
            self.recorder, libraries
        )
        return found

    def suspended(self) -> AbstractContextManager[None]:
        """Nothing is recorded inside."""
        return suspended()

    def inject(self, headers: MutableMapping[str, str], *, url: str | None = None) -> MutableMapping[str, str]:
        """Add the current trace context to the headers of an outgoing call, and answer the same mapping.

        `traceparent` and `tracestate` always; `baggage` (the setting `propagate_keys`) only where `url` is of a host
        named in `propagate_hosts`.
        """
        try:
            keys = self.settings.propagate_keys
            outgoing.inject(headers, url=url, allows=self._propagates_to, keys=keys)
        except Exception as error:
            self.recorder.guard.fault("inject", error)
        return headers

    def carrier(self) -> dict[str, str]:
        """The current turn for a message of the application's own (a queue, a file): what `continue_trace` takes.

        Session, user, feature, experiment and tags are in it; outside any turn it is empty.
        """
        try:
            return outgoing.carrier()
        except Exception as error:
            self.recorder.guard.fault("carrier", error)
            return {}

    @cached_property
    def borders(self) -> Borders:
        """Helpers that carry turns through libraries: HTTP clients, queues, MCP, messages, pools."""
        return Borders(self)

    def continue_trace(self, carrier: Mapping[str, str], *, name: str = "continued", **fields: Any) -> Any:
        """A turn that continues the trace context in a carrier (headers of a message), as a context manager.

        Session, user, feature, experiment and tags of the carrier's baggage are taken, too, where `fields` does not say
        otherwise: the carrier is one of the application's own.
        """
        parent = None
        try:
            context = extract_context(carrier)
            parent = context.span_context() if context is not None else None
            fields = {**outgoing.fields_of(baggage_values(extract_baggage(carrier))), **fields}
        except Exception as error:
            self.recorder.guard.fault("continue_trace", error)
        return observing.turn(self.recorder, name=name, parent=parent, **fields)

    def score(
        self,
        name: str,
        value: float | bool | str,
        *,
        comment: str | None = None,
        data_type: str | None = None,
        trace_id: str | None = None,
        observation_id: str | None = None,
        session_id: str | None = None,
        id: str | None = None,
        source: str = "user",
    ) -> str | None:
        """Judge the current trace, or the one, observation or session named. It goes through the spool.

        Returns:
            The score's id, or None where there is nothing to judge.

        Raises:
            ValueError: value, name, comment or data type are not allowed.
        """
        kind = _checked_data_type(value, data_type)
        _checked_texts(name, comment)
        turn = observing.current()
        if not (trace_id or observation_id or session_id) and turn is None:
            return None
        fields = _score_target(turn, trace_id, observation_id, session_id)
        made = id or uuid.uuid4().hex
        now_us = time.time_ns() // 1000
        fields |= {"id": made, "name": name, "value": value, "data_type": kind, "source": source, "comment": comment}
        fields |= {"created_at_us": now_us, "updated_at_us": now_us, "environment": self.settings.environment}
        try:
            emit(self.recorder, FrameKind.SCORE, orjson.dumps({"score": fields}), is_first=False)
        except Exception as error:
            self.recorder.guard.fault("score", error)
        return made

    # --- budgets ----------------------------------------------------------------------------------------------------

    @property
    def budgets(self) -> "Budgets":
        """The budgets of this application, looked after by one thread from the first use on."""
        with self._budgets_lock:
            if self._budgets is None:
                self.recorder.start()
                # Loads SQL: only in a process whose calls are checked.
                budgets = importlib.import_module("turntrace.budgets")
                recorder = self.recorder
                self._budgets = budgets.build(self.settings, recorder.keys, recorder.engine, recorder.guard.fault)
            return self._budgets

    def budget(
        self,
        *,
        user_id: str | None = None,
        tenant: str | None = None,
        feature: str | None = None,
        route: str | None = None,
        key: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        estimate_usd: "Decimal | str | float | None" = None,
    ) -> "Hold":
        """Check budgets before model calls and charge them after: `with` or `async with` round the calls.

        Names that are not given are those of the current turn (tenant and key: its tags `tenant:…`, `key:…`; `key` is
        the name of a key, never a secret). The object has `model` (the one to call) and `settle(cost_usd)`.

        Args:
            estimate_usd: reserved for the calls; else it is priced from `model`, `input_tokens` and
                `max_output_tokens`, else what calls of the model cost lately.

        Raises:
            BudgetExceeded: on entering, where a budget refuses; with `retry_after_seconds`.
            BudgetUnavailable: on entering, with `budget_failure=closed`, while the database does not answer.
        """
        return self.budgets.hold(
            user_id=user_id,
            tenant=tenant,
            feature=feature,
            route=route,
            key=key,
            model=model,
            provider=provider,
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            estimate_usd=estimate_usd,
        )

    # --- people -----------------------------------------------------------------------------------------------------

    @property
    def privacy(self) -> "Privacy":
        """Erasure and access: `erase_subject`, `erase_session`, `erase_trace`, `export_subject`, `receipt`."""
        with self._web_lock:
            if self._privacy is None:
                self.recorder.start()
                # Loads SQL: only in a process that erases or exports.
                privacy = importlib.import_module("turntrace.privacy")
                self._privacy = privacy.build(self.settings, self.recorder.keys, self.recorder.engine)
            return self._privacy

    # --- the web side -----------------------------------------------------------------------------------------------

    def panel(self) -> "LazyPanel":
        """The panel, REST API and receiver as one ASGI application, put together at its first request."""
        return self._panel

    @property
    def web(self) -> "Web":
        """What panel and API work on: the database and what they are told of this process."""
        with self._web_lock:
            if self._web is None:
                # Loads SQL and web framework: only in a process that serves the panel or erases.
                web = importlib.import_module("turntrace.web")
                self._web = web.Web(self.settings, self.recorder, self.recorder.engine)
            return self._web

    def __repr__(self) -> str:
        return f"Turntrace(environment={self.settings.environment!r}, worker={self.settings.worker!r})"


class LazyPanel:
    """An ASGI application that becomes the panel at its first request, put together off the event loop."""

    def __init__(self, tt: Turntrace) -> None:
        self._tt = tt
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        if self._app is None:
            to_thread = importlib.import_module("anyio.to_thread")  # only hosts with a panel pay for it
            try:
                await to_thread.run_sync(self._build)
            except Exception as error:
                # Its text may quote settings. The next request tries again.
                log.error("the panel could not be put together: %s; see `turntrace doctor`", type(error).__name__)
                await _unavailable(scope, send)
                return
        await self._app(scope, receive, send)

    def _build(self) -> None:
        with self._lock:
            if self._app is None:
                self._app = self._tt.web.build_panel()


async def _unavailable(scope: Any, send: Any) -> None:
    """Say so, with no framework at hand: what could not be loaded may be just that."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1011})
        return
    body = b"The panel is not available: see `turntrace doctor`."
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class SpoolRecorder:
    """Writes turns to the spool of this process and keeps a worker running. See `tracing.recorder.Recorder`."""

    def __init__(self, settings: Settings, engine: "Engine | None" = None) -> None:
        self.settings = settings
        self.resource = Resource(
            service_name=settings.service_name or os.environ.get("OTEL_SERVICE_NAME"),
            environment=settings.environment,
            release=settings.release or _release(),
        )
        self.open_turns: MutableMapping[str, Turn] = {}
        self.guard = Guard(
            enabled=settings.enabled,
            on_fault=self._count_fault,
            on_pause=self._note_pause,
            watch=self._is_switched_on,
        )
        self._measure_in = 0  # recorded requests until the process's CPU time is noted again
        self._memory_switch = True
        self._engine = engine
        self._engine_lock = threading.Lock()
        self._host_provider = HostProvider(self)
        self._lock = threading.Lock()
        self._pid = 0
        self._spool: SpoolWriter | MemorySpool | None = None
        self._supervisor: Supervisor | None = None
        self.location: Location | None = None
        self.keys: KeyRing | None = None
        _recorders.add(self)

    def start(self) -> None:
        """Begin in this process; quick and idempotent."""
        if self._pid == os.getpid() or not self.settings.enabled:
            return
        with self._lock:
            if self._pid != os.getpid():
                self._begin()
                self._pid = os.getpid()
        self._host_provider.join()
        if self._supervisor is not None:
            self._supervisor.ensure()

    def write(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
        """Append one frame; False where it was dropped, already counted."""
        if self._pid != os.getpid():
            self.start()
        spool, supervisor = self._spool, self._supervisor
        if spool is None:
            return False
        taken = spool.append(kind, payload, is_first=is_first)
        if supervisor is not None:
            supervisor.ensure()
        return taken

    def note_turn(self, overhead_ns: int) -> None:
        """Count a recorded request and our own time on its path, for the System page."""
        self._host_provider.join()  # the host may have set one since
        if self._spool is not None:
            self._spool.counters.add_both("turns", 1, "overhead_us", overhead_ns // 1000)
            self._measure_in -= 1
            if self._measure_in < 0:
                self._measure_in = MEASURE_EVERY
                self._spool.counters.put(CPU, time.process_time_ns() // 1000)

    def is_drained(self) -> bool:
        """Whether all that this application has spooled is stored, as far as this process can tell."""
        if self._spool is None:
            return True
        if isinstance(self._spool, MemorySpool):
            return self._spool.is_empty()
        assert self.location is not None
        path = self.location.path
        return path is None or (in_spool(path) == 0 and is_read(path))

    @property
    def engine(self) -> "Engine | None":
        """The host's engine. For a database in memory there is always one: its worker and its panel must share it."""
        with self._engine_lock:
            if self._engine is None and self._needs_thread():
                assembly = importlib.import_module("turntrace.assembly")  # loads SQL: in worker and panel only
                self._engine = assembly.open_memory(self.settings)
            return self._engine

    def stop(self, seconds: float) -> bool:
        """Close the spool of this process and stop its worker."""
        if self._pid != os.getpid():
            return True
        if isinstance(self._spool, SpoolWriter):
            self._spool.close()
        return self._supervisor.stop(seconds) if self._supervisor is not None else True

    @property
    def spool(self) -> SpoolWriter | MemorySpool | None:
        """The spool of this process, where it has started."""
        return self._spool

    def warnings(self) -> tuple[str, ...]:
        """What is risky about this set-up, as sentences."""
        found = list(self.location.warnings) if self.location else []
        found += [SURROUNDINGS[name] for name in risky_surroundings(self.settings.worker)]
        if self.settings.enabled and not self._is_switched_on():
            found.append("Recording is switched off in the database. `turntrace switch on` switches it on.")
        if isinstance(self._spool, MemorySpool):
            found.append("The spool is in memory: turns not yet stored are lost with the process. Set spool_dir.")
        if self.keys is not None and not self.keys.is_explicit:
            found.append("No secret_key is set: a generated key file is used. Set the same secret_key on every host.")
        if self.settings.content == "full":
            found.append("content=full and redaction=off: unredacted text is stored.")
        return tuple(found)

    def _begin(self) -> None:
        """Choose the spool and the way the worker runs. Nothing is written before the first turn."""
        self.location = location = locate(self.settings)
        self.keys = keys = KeyRing.from_settings(self.settings, location.key_file)
        mode = self.settings.worker
        if location.path is None:
            self._spool = memory = MemorySpool()
            if mode != "external":
                self._supervisor = Supervisor(ThreadWorker(self._work_memory(memory), lambda: True, lambda: None))
        else:
            self._spool = SpoolWriter(
                location.path, keys, max_bytes=self.settings.spool_max_bytes, open_turns=self._open_payloads
            )
            self._supervisor = self._supervise(location, mode)
        if self.settings.thread_context:
            threads.install()
        for name in risky_surroundings(mode):  # for `doctor`, which runs elsewhere
            self._spool.counters.put(f"{SURROUNDED}{name}", 1)
        for warning in self.warnings():
            log.warning("turntrace: %s", warning)

    def _supervise(self, location: Location, mode: str) -> Supervisor | None:
        assert location.path is not None
        lock = WorkerLock(location.path)
        if mode == "process" and not self._needs_thread():
            drain = self.settings.shutdown_seconds
            return Supervisor(ProcessWorker(lambda held: self._wire(location, held), lock, drain))
        if mode == "external":
            return None
        return Supervisor(ThreadWorker(self._work, lock.acquire, lock.release))

    def _needs_thread(self) -> bool:
        """A database in memory, or one behind a custom engine, cannot be reached from another process."""
        url = self.settings.database_url.reveal() if self.settings.database_url else ""
        return has_database_in_memory(self.settings) or ":memory:" in url or "mode=memory" in url

    def _wire(self, location: Location, lock: int) -> bytes:
        """What the worker process is told; `lock` is the descriptor of the worker's lock that it inherits."""
        told = {"settings": self.settings.wire(), "root": str(location.path), "key_file": str(location.key_file)}
        return orjson.dumps({**told, "lock": lock, "parent": os.getpid()})

    def _work(self, stop: threading.Event) -> None:
        assembly = importlib.import_module("turntrace.assembly")  # loads SQL and Presidio: in the worker's thread only
        assert self.location is not None
        assert self.location.path is not None
        assert self.keys is not None
        with suspended():
            assembly.work(self.settings, self.location.path, self.keys, stop, self.engine)

    def _work_memory(self, memory: MemorySpool) -> Any:
        def run(stop: threading.Event) -> None:
            assembly = importlib.import_module("turntrace.assembly")
            assert self.keys is not None
            with suspended():
                assembly.work_memory(self.settings, memory, self.keys, stop, self.engine, self._switch)

        return run

    def _open_payloads(self) -> Iterable[bytes]:
        """The open turns as cumulative STARTs, for a new segment."""
        for turn in list(self.open_turns.values()):
            yield turn.start_frame()

    def _switch(self, is_on: bool) -> None:
        """Told by a worker in this process where there is no spool on disk to tell it through."""
        self._memory_switch = is_on

    def _is_switched_on(self) -> bool:
        """Both kill switches, that of the environment and that of the database, as the worker last saw it."""
        path = self.location.path if self.location is not None else None
        return self.settings.enabled and self._memory_switch and not (path is not None and is_switched_off(path))

    def _count_fault(self, seam: str) -> None:
        if self._spool is not None:
            self._spool.counters.add(f"fault:{seam}")

    def _note_pause(self, seconds: float) -> None:
        if self._spool is not None:
            self._spool.counters.put(PAUSED_UNTIL, time.time_ns() // 1000 + int(seconds * 1e6))

    def reset_after_fork(self) -> None:
        """In the child: begin anew at the first use. The parent's worker stays the parent's."""
        self._lock, self._engine_lock = threading.Lock(), threading.Lock()
        self._pid = 0
        self._spool = None
        self._supervisor = None
        self.open_turns.clear()


def _release() -> str | None:
    return next((os.environ[name] for name in _RELEASE_VARIABLES if os.environ.get(name)), None)


def _checked_data_type(value: Any, data_type: str | None) -> str:
    if not isinstance(value, (bool, int, float, str)):
        raise InvalidInput(f"a score's value is a number, a bool or a str, not {type(value).__name__}", field="value")
    guessed = "boolean" if isinstance(value, bool) else "categorical" if isinstance(value, str) else "numeric"
    if data_type is not None and data_type not in DATA_TYPES:
        raise InvalidInput(f"data_type is one of {', '.join(DATA_TYPES)}, not {data_type!r}", field="data_type")
    is_text = (data_type or guessed) in ("categorical", "text", "correction")
    if is_text != isinstance(value, str):
        raise InvalidInput(f"a {data_type} score cannot have the value {value!r}", field="value")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise InvalidInput("a score's value is a finite number", field="value")
    return data_type or guessed


def _checked_texts(name: str, comment: str | None) -> None:
    if not isinstance(name, str) or not name or len(name) > _MAX_NAME:
        raise InvalidInput(f"a score's name has 1 to {_MAX_NAME} characters", field="name")
    if comment is not None and len(comment) > _MAX_COMMENT:
        raise InvalidInput(f"a comment has at most {_MAX_COMMENT} characters", field="comment")


def _score_target(
    turn: "Turn | None", trace_id: str | None, observation_id: str | None, session_id: str | None
) -> dict[str, Any]:
    if observation_id:
        if len(observation_id) != 48:
            raise InvalidInput("observation_id has 48 hex digits", field="observation_id")
        return {"turn_id": observation_id[:32], "span_id": observation_id[32:]}
    if session_id:
        return {"session_id": session_id}
    if trace_id:
        return {"trace_id": trace_id}
    if turn is None:
        return {}
    return {"turn_id": turn.id, "trace_id": turn.trace_id, "user_id": turn.user_id}


_recorders: "weakref.WeakSet[SpoolRecorder]" = weakref.WeakSet()


def _after_fork() -> None:
    for recorder in list(_recorders):
        recorder.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

set_default_factory(Turntrace)

__all__ = ["SettingsError", "Turntrace"]
