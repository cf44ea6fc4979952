"""Latency and CPU of calls made inside one process: no socket, no server, nothing but the application and its turn."""

import asyncio
import io
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.report import percentile

_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "path": "/ask",
    "raw_path": b"/ask",
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "headers": [(b"host", b"testserver"), (b"content-type", b"application/json")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 80),
}
_ENVIRON = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/ask",
    "QUERY_STRING": "",
    "SERVER_NAME": "testserver",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": "0",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


async def call_asgi(app: Any) -> None:
    """One request to an ASGI application."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200

    await app({**_SCOPE, "state": {}}, receive, send)


async def call_wsgi(app: Any) -> None:
    """One request to a WSGI application."""

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert status == "200 OK", status

    body = app({**_ENVIRON, "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}, start_response)
    for _ in body:
        pass
    if hasattr(body, "close"):
        body.close()


async def measure(call: Callable[[Any], Awaitable[None]], app: Any, turns: int, pause_us: int) -> dict[str, float]:
    """Figures of `turns` calls, one after the other, with a pause between them as between the requests of a server.

    Returns:
        Microseconds at p50 and p99, CPU seconds of this process per 1,000 turns (its threads included), peak memory.
    """
    for _ in range(max(200, turns // 10)):
        await call(app)
    taken: list[float] = []
    cpu = time.process_time()
    for _ in range(turns):
        started = time.perf_counter_ns()
        await call(app)
        taken.append((time.perf_counter_ns() - started) / 1000)
        if pause_us:
            await asyncio.sleep(pause_us / 1e6)
    cpu = time.process_time() - cpu
    return {
        "p50 us": percentile(taken, 0.5),
        "p99 us": percentile(taken, 0.99),
        "cpu s/1000": cpu / turns * 1000,
        "rss MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
