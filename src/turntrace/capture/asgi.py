"""Where a request enters an ASGI application. Nothing of the answer is buffered, delayed or re-ordered."""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from typing import Any, Final

from turntrace.capture.exchange import Exchange, new_turn
from turntrace.capture.host import Host, default_host
from turntrace.capture.request import HeaderNames, asgi_headers, read_request
from turntrace.capture.route import asgi_route
from turntrace.capture.rules import CaptureRules
from turntrace.tracing.context import is_suspended

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

TURN_KEY: Final = "turntrace.turn"
# What is read of an answer's head; the last two: whether the host sends them itself.
_HEAD_NAMES: Final = {
    name.encode(): name
    for name in ("content-type", "content-length", "content-encoding", "x-trace-id", "traceresponse")
}
_BYTES: Final = {name: name.encode() for name in ("x-trace-id", "traceresponse")}


class TurntraceMiddleware:
    """Records the LLM turns of an ASGI application.

    Args:
        app: the application.
        turntrace: the `Turntrace` to record with; by default one made from `TURNTRACE_*` variables.

    Raises:
        SettingsError: a variable is unusable (only without `turntrace`).
    """

    def __init__(self, app: ASGIApp, turntrace: Host | None = None) -> None:
        self.app = app
        self._host = turntrace if turntrace is not None else default_host()
        self._recorder = self._host.recorder
        self._guard = self._recorder.guard
        self._is_enabled = self._recorder.settings.enabled
        self._rules = CaptureRules(self._recorder.settings)
        self._names = HeaderNames(self._rules)
        self._started_pid = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        exchange = self._open(scope, kind) if self._is_enabled and kind in ("http", "websocket") else None
        if exchange is None:
            if kind == "lifespan" and self._is_enabled:
                self._begin_process()
            await self.app(scope, receive, send)
            return
        wrapped = (_HTTPAnswer if kind == "http" else _Socket)(exchange, receive, send)
        try:
            await self.app(scope, wrapped.receive, wrapped.send)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.close(is_whole=kind == "websocket")

    def _begin_process(self) -> None:
        """A server has started: take up what the last one left in the spool before the first request comes."""
        try:
            self._host.start()
        except Exception as exc:
            self._guard.fault("capture.start", exc)

    def _open(self, scope: Scope, kind: str) -> Exchange | None:
        """The recording of this request, already current; None where it is left alone."""
        guard = self._guard
        started_ns = perf_counter_ns()
        exchange: Exchange | None = None
        try:
            if started_ns >= guard.quiet_until_ns and not guard.is_recording():
                return None
            if TURN_KEY in scope or is_suspended():
                return None
            root, path = scope.get("root_path", ""), scope["path"]
            if root and path.startswith(root):
                path = path[len(root) :] or "/"
            if self._rules.is_excluded(path):
                return None
            if self._started_pid != os.getpid():
                self._host.start()
                self._started_pid = os.getpid()
            exchange = self._prepare(scope, kind, path, root)
            exchange.enter()
            exchange.turn.overhead_ns = perf_counter_ns() - started_ns
            return exchange
        except Exception as exc:
            guard.fault("capture.request", exc)
            if exchange is not None:
                exchange.close()
            return None

    def _prepare(self, scope: Scope, kind: str, path: str, root: str) -> Exchange:
        client = scope.get("client")
        incoming = read_request(
            self._rules,
            asgi_headers(self._names, scope["headers"]),
            client[0] if client else None,
            lambda: scope.get("query_string", b"").decode("latin-1"),
        )
        turn = new_turn(self._recorder, incoming, source=kind, method=scope.get("method"), path=path)
        scope[TURN_KEY] = turn
        state = scope.setdefault("state", {})
        state[TURN_KEY] = turn
        return Exchange(turn, self._rules, scope, asgi_route, root)


class _HTTPAnswer:
    """`receive` and `send` of one HTTP request."""

    __slots__ = ("_exchange", "_receive", "_send")

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._exchange.depart()
        return message

    async def send(self, message: Message) -> None:
        kind, exchange = message["type"], self._exchange
        was_finished = exchange.turn.is_finished
        if kind == "http.response.body":
            exchange.piece(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start":
            message = self._begin(message)
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            exchange.piece(b"", more=message.get("more_body", False))
        try:
            await self._send(message)
        except OSError:
            exchange.lose_piece(was_finished=was_finished)
            raise

    def _begin(self, message: Message) -> Message:
        """Read the head of the answer and put our headers to a copy of it: lists of headers may be shared."""
        exchange = self._exchange
        try:
            headers = list(message.get("headers", ()))
            found = {}
            for name, value in headers:
                known = _HEAD_NAMES.get(name) or _HEAD_NAMES.get(name.lower())
                if known is not None:
                    found[known] = value.decode("latin-1")
            exchange.begin(message["status"], found)
            for name, value in exchange.trace_headers():
                if name not in found:
                    headers.append((_BYTES[name], value.encode()))
            return {**message, "headers": headers}
        except Exception as exc:
            exchange.guard.fault("capture.head", exc)
            return message


class _Socket:
    """`receive` and `send` of one WebSocket: passed through, written to the spool when due."""

    __slots__ = ("_exchange", "_receive", "_send")

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        return await self._receive()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self._exchange.progress()
        elif kind == "websocket.accept":
            self._exchange.has_begun = True  # what fails from here on has no status
        await self._send(message)
