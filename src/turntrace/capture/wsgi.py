"""Where a request enters a WSGI application. A list stays a list, a file stays a file, an iterable stays lazy."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Final

from turntrace.capture.exchange import Exchange, new_turn
from turntrace.capture.host import Host, default_host
from turntrace.capture.request import HeaderNames, clean, read_request, wsgi_headers
from turntrace.capture.route import wsgi_route
from turntrace.capture.rules import CaptureRules
from turntrace.tracing.context import is_suspended

Environ = dict[str, Any]
Write = Callable[[bytes], object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
StartResponse = Callable[..., Write]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

TURN_KEY: Final = "turntrace.turn"


class TurntraceWSGIMiddleware:
    """Records the LLM turns of a WSGI application and serves the panel below `panel_path`.

    Args:
        app: the application.
        turntrace: the `Turntrace` to record with; by default one made from `TURNTRACE_*` variables.
        panel_path: where the panel is found; None: nowhere.

    Raises:
        SettingsError: a variable is unusable (only without `turntrace`).
        ValueError: `panel_path` is no absolute path.
    """

    def __init__(self, app: WSGIApp, turntrace: Host | None = None, panel_path: str | None = "/llm-admin") -> None:
        if panel_path is not None and (not panel_path.startswith("/") or not panel_path.strip("/")):
            raise ValueError(f"panel_path: expected a path such as /llm-admin, got {panel_path!r}")
        self.app = app
        self._host = turntrace if turntrace is not None else default_host()
        self._recorder = self._host.recorder
        self._guard = self._recorder.guard
        self._is_enabled = self._recorder.settings.enabled
        self._rules = CaptureRules(self._recorder.settings)
        self._names = HeaderNames(self._rules)
        self._panel = _Panel(self._host, panel_path.rstrip("/")) if panel_path else None
        self._started_pid = 0

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self._panel is not None and self._panel.owns(environ):
            return self._panel(environ, start_response)
        exchange = self._open(environ) if self._is_enabled else None
        if exchange is None:
            return self.app(environ, start_response)
        answer = _Answer(exchange, environ, start_response)
        try:
            body = self.app(environ, answer.start_response)
        except BaseException as error:
            exchange.fail(error)
            exchange.close()
            raise
        return answer.hand_over(body)

    def _open(self, environ: Environ) -> Exchange | None:
        """The recording of this request, already current; None where it is left alone."""
        started_ns = perf_counter_ns()
        exchange: Exchange | None = None
        try:
            if started_ns >= self._guard.quiet_until_ns and not self._guard.is_recording():
                return None
            if TURN_KEY in environ or is_suspended():
                return None
            path = clean(environ.get("PATH_INFO")) or "/"
            if self._rules.is_excluded(path):
                return None
            if self._started_pid != os.getpid():
                self._host.start()
                self._started_pid = os.getpid()
            exchange = self._prepare(environ, path)
            exchange.enter()
            exchange.turn.overhead_ns = perf_counter_ns() - started_ns
            return exchange
        except Exception as exc:
            self._guard.fault("capture.request", exc)
            if exchange is not None:
                exchange.close()
            return None

    def _prepare(self, environ: Environ, path: str) -> Exchange:
        incoming = read_request(
            self._rules,
            wsgi_headers(self._names, environ),
            environ.get("REMOTE_ADDR") or None,
            lambda: environ.get("QUERY_STRING", ""),
        )
        script = environ.get("SCRIPT_NAME", "")
        turn = new_turn(self._recorder, incoming, source="http", method=environ.get("REQUEST_METHOD"), path=path)
        environ[TURN_KEY] = turn
        return Exchange(turn, self._rules, environ, wsgi_route, script)


class _Answer:
    """`start_response` of one request, and what becomes of the iterable that the application returns."""

    __slots__ = ("_environ", "_exchange", "_start_response")

    def __init__(self, exchange: Exchange, environ: Environ, start_response: StartResponse) -> None:
        self._exchange = exchange
        self._environ = environ
        self._start_response = start_response

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None) -> Write:
        headers = self._begin(status, headers)
        # Servers may tell "not given" from None.
        write = (
            self._start_response(status, headers)
            if exc_info is None
            else self._start_response(status, headers, exc_info)
        )
        return self._counted(write)

    def _begin(self, status: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        exchange = self._exchange
        try:
            found = {name.lower(): value for name, value in headers}
            exchange.begin(int(status[:3]), found)
            ours = [(_spelled(name), value) for name, value in exchange.trace_headers() if name not in found]
            return [*headers, *ours]
        except Exception as exc:
            exchange.guard.fault("capture.head", exc)
            return headers

    def _counted(self, write: Write) -> Write:
        """The imperative `write` of PEP 3333: what goes through it is part of the body."""
        exchange = self._exchange

        def counted(chunk: bytes) -> object:
            exchange.piece(chunk, more=True)
            return write(chunk)

        return counted

    def hand_over(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """What the server gets: the very object where its length or its kind matters, else a lazy wrapper."""
        try:
            return self._handed_over(body)
        except Exception as exc:
            self._exchange.guard.fault("capture.answer", exc)
            self._exchange.close()
            return body

    def _handed_over(self, body: Iterable[bytes]) -> Iterable[bytes]:
        exchange = self._exchange
        if isinstance(body, (list, tuple)):
            pieces = [piece for piece in body if piece]
            for left, piece in enumerate(pieces, 1 - len(pieces)):
                exchange.piece(piece, more=left < 0)
            exchange.finish()
            exchange.close()
            return body
        if self._is_file(body):
            exchange.finish()
            exchange.close()
            return body
        if isinstance(body, Sized):
            return _SizedBody(exchange, body, is_bodiless=self._is_head())
        return _Body(exchange, body, is_bodiless=self._is_head())

    def _is_file(self, body: object) -> bool:
        wrapper = self._environ.get("wsgi.file_wrapper")
        return isinstance(wrapper, type) and isinstance(body, wrapper)

    def _is_head(self) -> bool:
        return self._environ.get("REQUEST_METHOD") == "HEAD"


def _spelled(name: str) -> str:
    return "X-Trace-Id" if name == "x-trace-id" else name


class _Body:
    """The application's iterable, piece by piece as the server asks; `close()` is forwarded."""

    __slots__ = ("_body", "_exchange", "_is_bodiless", "_is_closed", "_pieces")

    def __init__(self, exchange: Exchange, body: Iterable[bytes], *, is_bodiless: bool) -> None:
        self._exchange = exchange
        self._body = body
        self._pieces: Iterator[bytes] | None = None
        self._is_bodiless = is_bodiless
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        exchange.enter()
        try:
            if self._pieces is None:
                self._pieces = iter(self._body)
            piece = next(self._pieces)
        except StopIteration:
            exchange.finish()
            exchange.leave()
            raise
        except BaseException as error:
            exchange.fail(error)
            exchange.leave()
            raise
        exchange.piece(piece, more=True)
        if exchange.turn.is_finished:
            exchange.leave()  # not every caller reads on or closes
        return piece

    def close(self) -> None:
        """Ends the turn; one that was not read to its end was left by the client."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                self._exchange.enter()
                close()
        except BaseException as error:
            self._exchange.fail(error)
            raise
        finally:
            if not self._is_bodiless:
                self._exchange.depart()
            self._exchange.close(is_whole=self._is_bodiless)


class _SizedBody(_Body):
    """Keeps `len()`, from which servers derive the Content-Length of an answer of one piece."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


class _Panel:
    """The panel below its path, through an ASGI bridge that is imported and built with the first request for it."""

    __slots__ = ("_app", "_host", "_lock", "_path")

    def __init__(self, host: Host, path: str) -> None:
        self._host = host
        self._path = path
        self._app: Any = None
        self._lock = threading.Lock()

    def owns(self, environ: Environ) -> bool:
        """Whether this request is for the panel."""
        path = environ.get("PATH_INFO", "")
        return bool(path.startswith(self._path)) and (len(path) == len(self._path) or path[len(self._path)] == "/")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        inner = {
            **environ,
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + self._path,
            "PATH_INFO": environ["PATH_INFO"][len(self._path) :],
        }
        answer: Iterable[bytes] = self._bridge()(inner, start_response)
        return answer

    def _bridge(self) -> Any:
        with self._lock:
            if self._app is None:
                # Late on purpose: a worker that never serves the panel does not pay for it.
                from a2wsgi import ASGIMiddleware

                self._app = ASGIMiddleware(self._host.panel())
            return self._app
