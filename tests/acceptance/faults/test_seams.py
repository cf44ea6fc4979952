"""A fault of ours, at each statement of each seam: the host's answers stay what they are without us.

Short form: 500 requests a seam; `TURNTRACE_TEST_LONG=1`: 10,000.
"""

import asyncio
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.faults import seams
from tests.acceptance.faults.seam_app import ASGI_ROUTES, WSGI_ROUTES, Bare, HostError, Ours, asgi_app, wsgi_app
from tests.integration.capture.recording import Client, Server, environ, http_scope
from turntrace import Turntrace
from turntrace.spool.counters import Counters
from turntrace.tracing import recorder as recording
from turntrace.tracing import threads
from turntrace.worker.supervisor import Supervisor

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
REQUESTS = 10_000 if IS_LONG else 500

pytestmark = pytest.mark.timeout(900 if IS_LONG else 180)

ERRORS: tuple[type[Exception], ...] = (RuntimeError, MemoryError, RecursionError, OSError, KeyError, StopIteration)
OURS = {b"x-trace-id", b"traceresponse"}
# Checks of the host's arguments: what these raise is for the host.
CHECKS = (
    *("tracing.field:", "runtime:_checked_data_type", "runtime:_checked_texts", "runtime:_score_target"),
    *("runtime:Turntrace.", "tracing.observation:observation", "tracing.observation:generation"),
    *("tracing.observation:turn", "tracing.observation:TurnScope.__init__", "tracing.observation:update_trace"),
    *("tracing.observation:current_trace_id",),
)
# Outermost frames, called by server or host: nothing but calls of what is guarded. Kept as short as this list.
SHELLS = (
    *("capture.asgi:TurntraceMiddleware.__call__", "capture.asgi:_HTTPAnswer.", "capture.asgi:_Socket."),
    *("capture.wsgi:TurntraceWSGIMiddleware.__call__", "capture.wsgi:_Panel.owns", "capture.wsgi:_Body."),
    *("capture.wsgi:_Answer.__init__", "capture.wsgi:_Answer.start_response", "capture.wsgi:_Answer._counted"),
    *("tracing.provider:TurntraceTracer.start_as_current_span", "tracing.provider:TurnSpanProcessor._on_ending"),
    *("tracing.span:Span.get_span_context", "tracing.span:Span.update_name", "tracing.span:Span.set_status"),
    "tracing.logs:_TurnLogger.emit",
    *("tracing.stepping:ObservedGenerator.", "tracing.stepping:ObservedAsyncGenerator."),
    *("tracing.stepping:Stepping.finish", "tracing.stepping:Stepping.exhaust", "tracing.threads:_run"),
    "runtime:SpoolRecorder.spool",  # asked by the application under test itself
    "spool.counters:Counters._word",  # where a fault is counted, and that fails as well
)

# What is only reached after another seam has failed: by which.
AFTER = {"capture.end": "capture.close", "turn.give_up": "turn.finish"}

Outcome = tuple[Any, ...]


class Idle:
    """A worker that nobody needs."""

    def is_needed(self) -> bool:
        return False

    def run(self, stop: Any) -> bool:
        return False


class Injection:
    """Called at every point of an armed block: notes what is reached, and raises at the point that is aimed at."""

    def __init__(self) -> None:
        self.reached: set[int] = set()
        self.target: int | None = None
        self.error: type[Exception] = RuntimeError
        self.raised = 0

    def __call__(self, point: int) -> None:
        self.reached.add(point)
        if point == self.target:
            self.raised += 1
            raise self.error("a fault of ours")

    def aim(self, target: int | None, error: type[Exception] = RuntimeError) -> None:
        """Raise `error` at this point from now on."""
        self.target, self.error = target, error
        self.reached.clear()


@dataclass(frozen=True)
class Route:
    """One kind of request and what is seen of its answer."""

    name: str
    run: Callable[[Any], Outcome]


def _visible(messages: list[Any]) -> list[Any]:
    seen = []
    for message in messages:
        if "headers" in message:
            message = {**message, "headers": [pair for pair in message["headers"] if pair[0].lower() not in OURS]}
        seen.append(message)
    return seen


def asgi_route(path: str) -> Route:
    """A request to the ASGI application: the messages that its server was given, and the error it was raised."""

    def run(app: Any) -> Outcome:
        client = Client(breaks_at=2 if path == "/broken" else None)
        if path == "/disconnected":
            client._was_read = True
            client._is_complete.set()
        error = _LOOP.run_until_complete(_called(app, http_scope(path), client.receive, client.send))
        return _visible(client.messages), error

    return Route(f"asgi {path}", run)


_LOOP = asyncio.new_event_loop()  # one for all: a loop costs more than a request


async def _called(app: Any, scope: Any, receive: Any, send: Any) -> str | None:
    try:
        await app(scope, receive, send)
    except (HostError, OSError) as error:
        return repr(error)
    return None


def _socket(app: Any) -> Outcome:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    _LOOP.run_until_complete(_called(app, http_scope("/ws", type="websocket"), receive, send))
    return (sent,)


def _lifespan(app: Any) -> Outcome:
    return (_LOOP.run_until_complete(_called(app, {"type": "lifespan"}, None, None)),)


def wsgi_route(path: str) -> Route:
    """A request to the WSGI application, in a context of its own: a server's threads are reused."""

    def run(app: Any) -> Outcome:
        server, error = Server(), None
        try:
            copy_context().run(server.run, app, environ(path), pieces=2 if path == "/left" else None)
        except HostError as caught:
            error = repr(caught)
        headers = [pair for pair in server.headers if pair[0].lower().encode() not in OURS]
        return server.status, headers, server.chunks, error

    return Route(f"wsgi {path}", run)


ROUTES = (
    *(asgi_route(path) for path in ASGI_ROUTES),
    Route("asgi websocket", _socket),
    Route("asgi lifespan", _lifespan),
    *(wsgi_route(path) for path in WSGI_ROUTES),
)


_SPOOL_FAULTS: Counter[str] = Counter()  # counted beside the spool's own counters, which begin anew after a close


@pytest.fixture(scope="module", autouse=True)
def _tally() -> Iterator[None]:
    add = Counters.add

    def tallying(self: Counters, name: str, n: int = 1) -> None:
        add(self, name, n)
        if name.startswith("fault:spool."):
            _SPOOL_FAULTS[name.removeprefix("fault:")] += n

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counters, "add", tallying)
        yield


class Applications:
    """The application in all its forms, with one Turntrace or with none, and what it answers."""

    def __init__(self, tt: Turntrace | None) -> None:
        tools = Bare() if tt is None else Ours(tt)
        self.tt = tt
        self._apps = {"asgi": asgi_app(tools), "wsgi": wsgi_app(tools)}

    def run(self, route: Route) -> Outcome:
        """One request. The breaker is closed before it, and the spool begins a new segment now and then."""
        if self.tt is not None:
            guard = self.tt.recorder.guard
            guard._open_until, guard._watch_at = 0.0, float("-inf")
            guard._recent.clear()
        return route.run(self._apps[route.name.partition(" ")[0]])

    def __repr__(self) -> str:
        spool = self.tt.recorder.spool if self.tt is not None else None
        return f"{spool and (spool._ring.size, spool._segment_bytes, spool._allowance._used, spool.counters.values())}"  # type: ignore[union-attr]

    def faults(self) -> Counter[str]:
        """Faults by seam, of the guard and of the spool."""
        assert self.tt is not None
        return Counter(self.tt.recorder.guard.faults()) + _SPOOL_FAULTS


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    _LOOP.close()


@pytest.fixture(scope="module")
def bare() -> dict[str, Outcome]:
    """What each route answers without us."""
    applications = Applications(None)
    return {route.name: applications.run(route) for route in ROUTES}


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applications]:
    """With a spool on disk."""
    home = tmp_path_factory.mktemp("seams")
    made = Applications(made_turntrace(f"sqlite:///{home / 'turntrace.db'}", home))
    assert made.tt is not None
    made.run(ROUTES[0])
    made.tt.recorder._supervisor = Supervisor(Idle())
    yield made
    made.tt.shutdown()


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applications]:
    """With a spool in memory."""
    made = Applications(made_turntrace("sqlite://", tmp_path_factory.mktemp("memory")))
    yield made
    assert made.tt is not None
    made.tt.shutdown()


def made_turntrace(url: str, home: Path) -> Turntrace:
    settings = {
        "worker": "external",
        "secret_key": "k" * 32,
        "record": "all",
        "delta_ms": 20,
    }
    if url == "sqlite://":
        return Turntrace(url, **settings)
    return Turntrace(url, spool_dir=str(home / "spool"), **settings)


@pytest.fixture
def applications(request: pytest.FixtureRequest, seam: Any) -> Applications:
    """Those in which the seam lies on the way."""
    found: Applications = request.getfixturevalue("in_memory" if seam.module == "spool.memory" else "on_disk")
    assert found.tt is not None
    if found.tt.recorder.location is not None and found.tt.recorder.location.path is not None:
        shutil.rmtree(found.tt.recorder.location.path, ignore_errors=True)  # nobody works it off
    found.tt.recorder.open_turns.clear()
    recording.set_default(found.tt.recorder)
    threads.install()
    return found


@contextmanager
def first_line(seam: seams.Seam) -> Iterator[None]:
    """The seam that has to fail before this one is come to fails at its beginning, always."""
    if seam.name not in AFTER:
        yield
        return
    earlier = next(found for found in seams.all_seams() if found.name == AFTER[seam.name])
    broken = Injection()
    broken.aim(0)
    with seams.armed(earlier, broken):
        yield


def reached(applications: Applications, inject: Injection) -> dict[int, list[Route]]:
    """The routes on which each point lies."""
    found: dict[int, list[Route]] = {}
    inject.aim(None)
    for route in ROUTES:
        applications.run(route)  # what only the first request does is not on every request's way
        inject.reached.clear()
        applications.run(route)
        for point in inject.reached:
            found.setdefault(point, []).append(route)
    return found


@pytest.mark.parametrize("seam", seams.all_seams(), ids=str)
def test_a_fault_at_any_point_of_a_seam_leaves_the_answers_as_they_are(
    seam: seams.Seam, applications: Applications, bare: dict[str, Outcome]
) -> None:
    inject = Injection()
    assert applications.tt is not None
    if seam.name == "spool.open_turns":  # segments so small that a stream outlives one
        applications.tt.recorder.spool._segment_bytes = 4096  # type: ignore[union-attr]
    with first_line(seam), seams.armed(seam, inject):
        routes = reached(applications, inject)
        assert sorted(routes) == list(range(seam.points)), f"{seam}: no request comes to some of its points: {routes}"
        before = applications.faults()
        errors = cycle(ERRORS)
        aims = cycle([(point, route) for point, found in sorted(routes.items()) for route in found])
        for _ in range(REQUESTS):
            point, route = next(aims)
            inject.aim(point, next(errors))
            assert applications.run(route) == bare[route.name], f"{inject.error.__name__} at point {point}"
        inject.aim(None)
    counted = applications.faults() - before
    counted.pop(AFTER.get(seam.name, ""), None)
    applications.tt.recorder.spool._segment_bytes = 16 << 20  # type: ignore[union-attr]
    assert seam.name in AFTER or not applications.tt.recorder.open_turns, "a turn was left open for ever"
    assert inject.raised >= REQUESTS * 0.9, f"{applications}"
    assert counted == {seam.name: inject.raised}


def survives(applications: Applications, place: seams.Place, bare: dict[str, Outcome]) -> str | None:
    """What a host sees of a function of ours that always fails; None where it sees nothing."""
    inject = Injection()
    with seams.armed_function(place, inject):
        routes = reached(applications, inject).get(0, [])
        for number, route in enumerate(routes):
            inject.aim(0, ERRORS[number % len(ERRORS)])
            try:
                outcome = applications.run(route)
            except Exception as error:
                return f"{route.name}: {type(error).__name__}"
            if outcome != bare[route.name]:
                return f"{route.name}: another answer"
    return None


def test_any_function_of_ours_may_fail(on_disk: Applications, bare: dict[str, Outcome]) -> None:
    assert on_disk.tt is not None
    shells = {(seam.module, seam.function) for seam in seams.all_seams()}
    places = [place for place in seams.all_functions() if (place.module, place.function) not in shells]
    places = [place for place in places if not str(place).startswith((*CHECKS, *SHELLS))]
    places.remove(seams.Place("spool.counters", "Counters.add"))  # ours, here
    seen = {str(place): found for place in places if (found := survives(on_disk, place, bare)) is not None}
    assert not seen, "\n".join(f"{place}  {found}" for place, found in seen.items())
