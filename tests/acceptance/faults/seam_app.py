"""One application, written once: with Turntrace, or with nothing at all in its place. Every entry of ours is used."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry._logs import Logger, NoOpLoggerProvider
from opentelemetry.sdk.trace import TracerProvider

from turntrace import Turntrace, TurntraceMiddleware, TurntraceWSGIMiddleware
from turntrace.tracing.context import current_turn
from turntrace.tracing.logs import TurntraceLoggerProvider
from turntrace.tracing.provider import TurnSpanProcessor, TurntraceTracerProvider

CHUNKS = (b"data: one\n\n", b"data: " + b"t" * 5000 + b"\n\n", b"data: two\n\n", b"data: [DONE]\n\n")


class Tools(Protocol):
    """What an application uses of an observability library."""

    def observe(self, function: Any, **options: Any) -> Any: ...
    def observation(self, name: str, **fields: Any) -> AbstractContextManager[Any]: ...
    def generation(self, name: str, **fields: Any) -> AbstractContextManager[Any]: ...
    def turn(self, name: str, **fields: Any) -> AbstractContextManager[Any]: ...
    def continue_trace(self, carrier: Any, **fields: Any) -> AbstractContextManager[Any]: ...
    def update_trace(self, **fields: Any) -> None: ...
    def current_trace_id(self) -> str | None: ...
    def score(self, name: str, value: Any) -> Any: ...
    def inject(self, headers: MutableMapping[str, str], *, url: str | None = None) -> Any: ...
    def carrier(self) -> dict[str, str]: ...
    def look_ahead(self) -> None: ...
    def tracer(self) -> trace.Tracer: ...
    def logger(self) -> Logger: ...
    def host_tracer(self) -> trace.Tracer: ...
    def wrap_asgi(self, app: Any) -> Any: ...
    def wrap_wsgi(self, app: Any) -> Any: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...


class _Silent:
    def update(self, **fields: Any) -> None:
        """Nothing."""


class Bare:
    """Nothing at all in the place of Turntrace."""

    def observe(self, function: Any, **options: Any) -> Any:
        return function

    @contextmanager
    def observation(self, name: str, **fields: Any) -> Iterator[Any]:
        yield _Silent()

    generation = turn = observation

    @contextmanager
    def continue_trace(self, carrier: Any, **fields: Any) -> Iterator[Any]:
        yield _Silent()

    def update_trace(self, **fields: Any) -> None:
        """Nothing."""

    def current_trace_id(self) -> str | None:
        return None

    def score(self, name: str, value: Any) -> Any:
        return None

    def inject(self, headers: MutableMapping[str, str], *, url: str | None = None) -> Any:
        return headers

    def carrier(self) -> dict[str, str]:
        return {}

    def look_ahead(self) -> None:
        """Nothing."""

    def tracer(self) -> trace.Tracer:
        return trace.NoOpTracer()

    def logger(self) -> Logger:
        return NoOpLoggerProvider().get_logger("instrumentation")

    def host_tracer(self) -> trace.Tracer:
        return TracerProvider().get_tracer("host")

    def wrap_asgi(self, app: Any) -> Any:
        return app

    wrap_wsgi = wrap_asgi

    def settle(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Ours:
    """Turntrace itself."""

    def __init__(self, tt: Turntrace) -> None:
        self.tt = tt
        self.observation, self.generation, self.turn = tt.observation, tt.generation, tt.turn
        self.continue_trace, self.update_trace, self.score = tt.continue_trace, tt.update_trace, tt.score
        self.current_trace_id, self.inject, self.carrier = tt.current_trace_id, tt.inject, tt.carrier
        self._provider = TracerProvider()
        self._provider.add_span_processor(TurnSpanProcessor(tt.recorder))  # type: ignore[arg-type]

    def observe(self, function: Any, **options: Any) -> Any:
        return self.tt.observe(function, **options)

    def look_ahead(self) -> None:
        """What a budget asks of a request whose answer has not begun."""
        with suppress(Exception):  # as the budget has it, which counts it against a seam of its own
            turn = current_turn()
            if turn is not None:
                turn.known("route")
                turn.known("user_id")

    def tracer(self) -> trace.Tracer:
        return TurntraceTracerProvider(self.tt.recorder).get_tracer("instrumentation", "1")

    def logger(self) -> Logger:
        return TurntraceLoggerProvider(self.tt.recorder).get_logger("instrumentation", "1")

    def host_tracer(self) -> trace.Tracer:
        return self._provider.get_tracer("host")

    def wrap_asgi(self, app: Any) -> Any:
        return TurntraceMiddleware(app, turntrace=self.tt)

    def wrap_wsgi(self, app: Any) -> Any:
        return TurntraceWSGIMiddleware(app, turntrace=self.tt)

    def settle(self) -> None:
        """What happens now and then: the switch is looked at, open turns are written again."""
        self.tt.recorder.guard._watch_at = float("-inf")
        for turn in list(self.tt.recorder.open_turns.values()):
            turn.reemit()

    def close(self) -> None:
        """The spool is closed, and begins anew with the next turn."""
        assert self.tt.recorder.spool is not None
        self.tt.recorder.spool.close()


class HostError(Exception):
    """An error of the host's own."""


class Work:
    """The functions of the application, decorated once."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.tracer, self.host_tracer = tools.tracer(), tools.host_tracer()
        self.logger = tools.logger()
        self.search = tools.observe(_search, type="retrieval")
        self.answer = tools.observe(_answer, type="generation")
        self.words = tools.observe(_words, type="generation")
        self.tokens = tools.observe(_tokens, type="generation")
        self.fails = tools.observe(_fails)
        self.fails_in_step = tools.observe(_fails_in_step)
        self.pool = ThreadPoolExecutor(2)

    def spans(self) -> str:
        """Spans of instrumentations, ours and the host's."""
        with self.tracer.start_as_current_span("chat", attributes={"gen_ai.request.model": "m"}) as span:
            span.set_attribute("gen_ai.prompt", "p" * 2000)
            self.logger.emit(event_name="gen_ai.user.message", body={"content": "hi"})
            span.add_event("token", {"n": 1})
            span.record_exception(HostError("seen"))
            span.update_name("chat m")
            span.set_status(trace.StatusCode.OK)
        trace.get_current_span().set_attribute("session.id", "s-1")
        trace.get_current_span().set_attribute("colour", "green")
        with self.host_tracer.start_as_current_span("db", attributes={"db.system": "x"}) as span:
            span.add_event("row")
        return "spans"

    def facts(self) -> str:
        """What the application tells about the turn."""
        tools = self.tools
        tools.look_ahead()
        tools.update_trace(user_id="u-1", tags=["a"], metadata={"k": {"v": 1}}, input="q", output="a")
        tools.score("helpful", 1)
        tools.current_trace_id()
        headers = {"x-own": "1"}
        assert tools.inject(headers, url="http://127.0.0.1/") is headers
        with tools.continue_trace(tools.carrier(), name="sent"):
            pass
        with tools.generation("answer", model="m", input=[{"role": "user", "content": "hi"}]) as step:
            step.update(output="hello", usage={"input_tokens": 3}, metadata={"a": 1})
        with tools.observation("lookup", type="tool", input={"sku": 1}) as step:
            step.update(output={"stock": 3}, level="error")
        return headers["x-own"]

    def steps(self) -> str:
        """Generators: read, left early, dropped, failing."""
        read = "".join(self.words(3))
        left = self.words(3)
        next(left)
        left.close()
        next(self.words(2))
        sent = self.words(2)
        next(sent)
        sent.send("x")
        failed = ""
        try:
            list(self.fails_in_step())
        except HostError as error:
            failed = str(error)
        return f"{read} {failed}"

    async def async_steps(self) -> str:
        """The same of async generators."""
        read = "".join([token async for token in self.tokens(3)])
        left = self.tokens(3)
        await left.__anext__()
        await left.aclose()
        return read

    def in_threads(self) -> str:
        """Work in a pool and in a thread."""
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(self.search("t")))
        thread.start()
        thread.join()
        return self.pool.submit(self.search, "p").result() + found[0]

    def failing(self) -> str:
        """An error of the host passes through a decorated function as it is."""
        error = HostError("of the host")
        seen: list[Exception] = []
        try:
            self.fails(error)
        except HostError as same:
            seen.append(same)
        assert seen[0] is error
        return str(error)

    def explicit(self) -> str:
        """Turns of its own."""
        carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "session.id=s"}
        with self.tools.turn("job", input="x", session_id="s"), self.tools.continue_trace(carrier, name="queue"):
            self.search("q")
            outlives = self.host_tracer.start_span("chat", attributes={"gen_ai.request.model": "m"})
        outlives.end()
        try:
            with self.tools.turn("failing job"):
                raise HostError("in the turn")
        except HostError as error:
            return str(error)
        raise AssertionError("the error of the host was swallowed")


def _search(query: str, *more: str, limit: int = 3) -> str:
    return f"found {query} {limit}"


async def _answer(question: str) -> dict[str, Any]:
    return {"answer": question}


def _words(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"w{number} "


async def _tokens(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"t{number} "


def _fails(error: Exception) -> None:
    raise error


def _fails_in_step() -> Iterator[str]:
    yield "one"
    raise HostError("in a step")


ASGIHandler = Callable[[Work, Any, Any], Any]


async def _whole(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), (b"x-own", b"1")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def plain(work: Work, receive: Any, send: Any) -> None:
    await receive()
    text = f"{work.facts()} {work.search('a', 'b', limit=2)} {await work.answer('q')} {work.spans()}"
    await _whole(send, text.encode(), 201)


async def stepping(work: Work, receive: Any, send: Any) -> None:
    await _whole(send, f"{work.steps()} {await work.async_steps()}".encode())


async def threaded(work: Work, receive: Any, send: Any) -> None:
    await _whole(send, f"{work.in_threads()} {work.failing()} {work.explicit()}".encode())


async def stream(work: Work, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    with work.tools.generation("answer", model="m"):
        for chunk in CHUNKS:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            work.tools.settle()
    await send({"type": "http.response.body", "body": b""})


async def background(work: Work, receive: Any, send: Any) -> None:
    await _whole(send, b"at once")
    work.search("later")
    work.facts()


async def late_error(work: Work, receive: Any, send: Any) -> None:
    work.search("x")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise HostError("after the head")


async def early_error(work: Work, receive: Any, send: Any) -> None:
    work.search("x")
    raise HostError("before the head")


async def disconnected(work: Work, receive: Any, send: Any) -> None:
    work.search("x")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for chunk in CHUNKS:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if (await receive())["type"] == "http.disconnect":
            raise HostError("the client has left")


ASGI_ROUTES: dict[str, ASGIHandler] = {
    f"/{handler.__name__}": handler
    for handler in (plain, stepping, threaded, stream, background, late_error, early_error, disconnected)
}
ASGI_ROUTES["/broken"] = stream  # its client breaks under a chunk


def asgi_app(tools: Tools) -> Any:
    """The application as ASGI."""
    work = Work(tools)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            with tools.turn("message"):
                work.search("ws")
            await send({"type": "websocket.send", "text": "hello"})
        elif scope["type"] == "lifespan":
            with tools.turn("warm-up"):
                work.search("x")
            tools.close()
        else:
            await ASGI_ROUTES[scope["path"]](work, receive, send)

    return tools.wrap_asgi(app)


def _wsgi_plain(work: Work, start: Any) -> Any:
    body = f"{work.facts()} {work.search('a')} {work.spans()} {work.steps()}".encode()
    start("201 Created", [("X-Own", "1"), ("Content-Length", str(len(body)))])
    return [body]


def _wsgi_stream(work: Work, start: Any) -> Any:
    start("200 OK", [("Content-Type", "text/event-stream")])
    with work.tools.generation("answer", model="m"):
        for chunk in CHUNKS:
            yield chunk
            work.tools.settle()


def _wsgi_write(work: Work, start: Any) -> Any:
    work.search("x")
    write = start("200 OK", [])
    write(b"written ")
    return (b"one", b"two")


def _wsgi_error(work: Work, start: Any) -> Any:
    start("200 OK", [])
    yield work.search("x").encode()
    raise HostError("in the stream")


def _wsgi_early_error(work: Work, start: Any) -> Any:
    work.search("x")
    raise HostError("before the head")


WSGI_ROUTES: dict[str, Any] = {
    "/plain": _wsgi_plain,
    "/stream": _wsgi_stream,
    "/left": _wsgi_stream,  # its client leaves after two chunks
    "/write": _wsgi_write,
    "/error": _wsgi_error,
    "/early_error": _wsgi_early_error,
}


def wsgi_app(tools: Tools) -> Any:
    """The application as WSGI."""
    work = Work(tools)

    def app(environ: Any, start_response: Any) -> Any:
        return WSGI_ROUTES[environ["PATH_INFO"]](work, start_response)

    return tools.wrap_wsgi(app)
