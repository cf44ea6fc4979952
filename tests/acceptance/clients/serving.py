"""A server in a thread of the test's own process, for what must be looked into while it runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.acceptance.servers import free_port, wait_until


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port until the block ends; answers its URL."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, seconds=60, what="the server has started")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
