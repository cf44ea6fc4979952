"""A TCP proxy before a database, which can be well, away, hung, or slow."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.acceptance.servers import free_port

MODES = ("pass", "refused", "hung", "slow")


class DatabaseProxy:
    """Listens on `port` and forwards to `target`, as its `mode` says.

    `refused`: nobody listens and open connections are cut. `hung`: connections are taken and nothing is ever answered;
    those of that time stay dead for ever, as behind a firewall that has forgotten them. `slow`: every message of a
    client comes `delay_seconds` late.
    """

    def __init__(self, target: tuple[str, int], *, delay_seconds: float = 0.5) -> None:
        self.port = free_port()
        self.mode = "pass"
        self._target, self._delay = target, delay_seconds
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._hung: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="database-proxy", daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """Cut everything and end."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def switch(self, mode: str) -> None:
        """Change how the database is, from now on."""
        assert mode in MODES
        self._run(self._switch(mode))

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _switch(self, mode: str) -> None:
        self.mode = mode
        if mode == "refused":
            await self._close_listening()
            for writer in list(self._writers):
                writer.transport.abort()
            return
        if mode == "hung":
            self._hung.update(id(writer) for writer in self._writers)
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _close(self) -> None:
        await self._close_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        if self.mode == "hung":
            self._hung.add(id(writer))
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            self._writers.discard(writer)
            self._hung.discard(id(writer))
            self._tasks.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if id(writer) in self._hung:
            await self._swallow(reader)
            return
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        try:
            ways = (self._pump(reader, upstream, writer, is_query=True), self._pump(upstream_reader, writer, writer))
            tasks = [asyncio.ensure_future(way) for way in ways]
            _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            upstream.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        *,
        is_query: bool = False,
    ) -> None:
        while data := await source.read(1 << 16):
            if is_query and self.mode == "slow":
                await asyncio.sleep(self._delay)
            if id(client) in self._hung:
                if not is_query:
                    await asyncio.Event().wait()  # the answer never comes, and the end of the connection neither
                continue
            sink.write(data)
            await sink.drain()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            pass


@contextmanager
def database_proxy(host: str, port: int) -> Iterator[DatabaseProxy]:
    """A proxy that runs until the block ends."""
    proxy = DatabaseProxy((host, port))
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
