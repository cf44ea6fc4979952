"""Every way Starlette runs a handler: each observation in its own turn, under its own parent, in every stack."""

import asyncio
import gc
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import httpx
import pytest
from opentelemetry.trace import Tracer
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.integration.capture.recording import Recording
from turntrace.capture.asgi import TurntraceMiddleware
from turntrace.records.fragment import FrameKind
from turntrace.tracing import threads
from turntrace.tracing.observation import generation, observation, update_trace
from turntrace.tracing.observe import observe
from turntrace.tracing.provider import TurntraceTracerProvider
from turntrace.tracing.turn import Turn

REQUESTS = 12
CHUNKS = 3


class PassThrough(BaseHTTPMiddleware):
    """Runs everything below it in a task of its own, as host middleware commonly does."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)


class Steps:
    """Handlers whose every step tells, in its name, the request that it belongs to and the parent it should have."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.tracer: Tracer = TurntraceTracerProvider(recording).get_tracer("llm")
        self.pool = ThreadPoolExecutor(2)
        self.late = asyncio.Event()

    def call(self, key: str, where: str) -> None:
        """A model call of our own with an instrumentation's span below it."""
        with (
            generation(self.recording, f"{key}/{where}", model="m"),
            self.tracer.start_as_current_span(f"{key}/{where}/llm", attributes={"gen_ai.system": "x"}),
        ):
            pass
        update_trace(metadata={where: key})

    async def in_threads(self, key: str) -> None:
        with observation(self.recording, f"{key}/fan"):
            loop = asyncio.get_running_loop()
            await asyncio.gather(
                asyncio.create_task(asyncio.to_thread(self.call, key, "fan/to_thread")),
                loop.run_in_executor(self.pool, self.call, key, "fan/executor"),
                anyio.to_thread.run_sync(self.call, key, "fan/anyio"),
                run_in_threadpool(self.call, key, "fan/starlette"),
            )

    def sync_body(self, key: str) -> Iterator[str]:
        @observe(name=f"{key}/sync_body")
        def body() -> Iterator[str]:
            for index in range(CHUNKS):
                self.call(key, f"sync_body/{index}")
                yield f"{index}"

        return body()

    def async_body(self, key: str) -> AsyncIterator[str]:
        @observe(name=f"{key}/async_body")
        async def body() -> AsyncIterator[str]:
            for index in range(CHUNKS):
                await asyncio.sleep(0)
                self.call(key, f"async_body/{index}")
                yield f"{index}"

        return body()

    def background(self, key: str) -> BackgroundTask:
        return BackgroundTask(self.call, key, "background")

    def plain_sync(self, request: Request) -> Response:
        key = request.path_params["key"]
        self.call(key, "handler")
        return PlainTextResponse("ok", background=self.background(key))

    async def plain_async(self, request: Request) -> Response:
        key = request.path_params["key"]
        self.call(key, "handler")
        await self.in_threads(key)
        return PlainTextResponse("ok", background=self.background(key))

    def stream_sync(self, request: Request) -> Response:
        key = request.path_params["key"]
        self.call(key, "handler")
        return StreamingResponse(self.sync_body(key), media_type="text/plain", background=self.background(key))

    async def stream_async(self, request: Request) -> Response:
        key = request.path_params["key"]
        self.call(key, "handler")
        await self.in_threads(key)
        return StreamingResponse(self.async_body(key), media_type="text/plain", background=self.background(key))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def thread_context() -> Iterator[None]:
    threads.install()
    yield
    threads.remove()


FAN = {f"fan/{name}" for name in ("to_thread", "executor", "anyio", "starlette")}
EXPECTED = {
    "plain_sync": {"handler", "background"},
    "plain_async": {"handler", "background", *FAN},
    "stream_sync": {"handler", "background", *(f"sync_body/{index}" for index in range(CHUNKS))},
    "stream_async": {"handler", "background", *FAN, *(f"async_body/{index}" for index in range(CHUNKS))},
}


def _spans(recording: Recording) -> dict[str, dict[str, dict[str, Any]]]:
    """Spans by turn and name; of what is told twice, the form that has ended."""
    turns: dict[str, dict[str, dict[str, Any]]] = {}
    for _, document in recording.frames:
        found = turns.setdefault(document["turn"]["id"], {})
        for span in document["spans"]:
            if "duration_us" in span or span["name"] not in found:
                found[span["name"]] = span
    return turns


@pytest.mark.parametrize("handler", sorted(EXPECTED))
@pytest.mark.parametrize("around", ["pure", "one", "two", "two inside"])
async def test_every_observation_is_in_its_turn_under_its_parent(
    handler: str, around: str, caplog: pytest.LogCaptureFixture
) -> None:
    recording = Recording()
    steps = Steps(recording)
    ours = Middleware(TurntraceMiddleware, turntrace=recording)
    theirs = [Middleware(PassThrough)] * {"pure": 0, "one": 1, "two": 2, "two inside": 2}[around]
    stack = [ours, *theirs] if around == "two inside" else [*theirs, ours]
    app = Starlette(routes=[Route("/{key}", getattr(steps, handler))], middleware=stack)
    keys = [f"r{index}" for index in range(REQUESTS)]
    with caplog.at_level(logging.DEBUG):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answers = await asyncio.gather(*(client.get(f"/{key}") for key in keys))
    steps.pool.shutdown()
    assert {answer.status_code for answer in answers} == {200}
    assert "different Context" not in caplog.text
    turns = _spans(recording)
    headers = {document["turn"]["id"]: document["turn"] for kind, document in recording.frames if kind is FrameKind.END}
    assert len(turns) == len(headers) == REQUESTS
    by_trace = {header["trace_id"]: turn_id for turn_id, header in headers.items()}
    for key, answer in zip(keys, answers, strict=True):
        turn_id = by_trace[answer.headers["x-trace-id"]]
        _check(turns[turn_id], headers[turn_id], key, handler)


def _check(spans: dict[str, dict[str, Any]], header: dict[str, Any], key: str, handler: str) -> None:
    calls = {f"{key}/{where}" for where in EXPECTED[handler]}
    parents = {name.rpartition("/")[0] for name in calls if name.count("/") > 1}
    assert set(spans) == calls | {f"{name}/llm" for name in calls} | parents
    for name, span in spans.items():
        above = name.rpartition("/")[0]
        assert span["parent_span_id"] == (spans[above]["span_id"] if above in spans else header["span_id"]), name
        assert "duration_us" in span
    assert "outcome" not in header  # complete


async def test_a_task_that_a_turn_happens_to_start_does_not_keep_its_content() -> None:
    recording = Recording()
    tasks: list[asyncio.Task[None]] = []

    async def handler(request: Request) -> Response:
        with observation(recording, "step", input="x" * 1000):
            tasks.append(asyncio.create_task(asyncio.Event().wait()))  # type: ignore[arg-type]
        return PlainTextResponse("ok")

    app = TurntraceMiddleware(Starlette(routes=[Route("/", handler)]), turntrace=recording)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/")
    await asyncio.sleep(0)
    held = [item for item in gc.get_objects() if isinstance(item, Turn) and item.recorder is recording]
    assert all(turn.is_finished and not turn.done and turn.input is None for turn in held)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_spans_ended_in_many_threads_are_each_told_once_or_amended() -> None:
    """The end of a turn races with observations that end in threads: none may be lost."""
    for attempt in range(20):
        recording = Recording()
        count = itertools.count()

        def work(recording: Recording = recording, count: Any = count) -> None:
            for _ in range(20):
                with observation(recording, f"s{next(count)}"):
                    pass

        running: list[Any] = []

        async def handler(request: Request, work: Callable[[], None] = work, running: list[Any] = running) -> Response:
            for _ in range(4):
                running.append(asyncio.get_running_loop().run_in_executor(None, work))
            with observation(None, "own"):
                return PlainTextResponse("ok")

        app = TurntraceMiddleware(Starlette(routes=[Route("/", handler)]), turntrace=recording)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            await client.get("/")
        await asyncio.gather(*running)
        spans = _spans(recording)
        assert len(spans) == 1, attempt
        (found,) = spans.values()
        assert len(found) == 81
        assert all("duration_us" in span for span in found.values())
