"""An open-loop load of turns at a fixed rate, and what became of each."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

STREAM_EVERY = 3  # each third turn is streamed
# For the server: idle connections are the load's to close. One that the server closed would fail a later turn.
KEEP_ALIVE = ("--timeout-keep-alive", "86400")


@dataclass
class Load:
    """Turns asked and answered so far. `acknowledged` holds the trace ids of answers that were read to their end."""

    acknowledged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    asked: int = 0


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and trace id, the body read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        await reader.readexactly(int(headers.get("content-length", "0")))
    return int(first.split()[1]), headers.get("x-trace-id", "")


class _Client:
    """Keep-alive connections, as many as are needed at once."""

    def __init__(self, port: int, load: Load) -> None:
        self._port, self._load = port, load
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, path: str) -> None:
        """One turn."""
        self._load.asked += 1
        pair = None
        try:
            pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            pair[1].write(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
            status, trace_id = await asyncio.wait_for(_answer(pair[0]), 30)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._load.failed.append(type(error).__name__)
            if pair is not None:
                pair[1].close()
            return
        self._idle.append(pair)
        if status == 200 and trace_id:
            self._load.acknowledged.append(trace_id)
        else:
            self._load.failed.append(f"status {status}")

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()


async def _drive(port: int, rate: float, load: Load, stop: threading.Event) -> None:
    client, tasks, number, due = _Client(port, load), set[asyncio.Task[None]](), 0, time.monotonic()
    while not stop.is_set():
        number, due = number + 1, due + 1 / rate
        task = asyncio.create_task(client.ask("/stream" if number % STREAM_EVERY == 0 else "/turn"))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(due - time.monotonic(), 0))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
    client.close()
    await asyncio.sleep(0.05)


@contextmanager
def load_of(port: int, *, rate: float = 50.0, load: Load | None = None) -> Iterator[Load]:
    """Turns at `rate` a second until the block ends, noted in `load`."""
    load, stop = load or Load(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_drive(port, rate, load, stop)), name="load", daemon=True)
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join(60)


class Times:
    """How long requests took in the server (ms), by the file that the application writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def between(self, start: float, end: float) -> list[float]:
        """Requests that began between two moments of the monotonic clock."""
        found = []
        for line in self._path.read_text().splitlines():
            began, took, _ = (int(part) for part in line.split())
            if start <= began / 1e9 <= end:
                found.append(took / 1e6)
        return found

    def pids(self) -> set[int]:
        """The server's processes that answered."""
        return {int(line.split()[2]) for line in self._path.read_text().splitlines()}
