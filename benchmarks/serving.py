"""Requests per second of a real server: uvicorn in one process, the load from another over kept-alive connections."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.report import percentile

CONNECTIONS = 32
_REQUEST = b"POST /ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
_LENGTH = b"content-length:"


def serve(app: Any) -> None:
    """Serve on a free port, told on standard output, until standard input ends."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False)
    # Its protocol stated: only then asyncio sends small packets at once. Else each answer waits 40 ms for an
    # acknowledgement, which hides what the application costs.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(CONNECTIONS * 4)
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve([listening]))
        print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving

    asyncio.run(run())


def measure(command: list[str], turns: int) -> dict[str, float]:
    """Figures of the server that `command` starts (see `serve`), under the load of this process.

    Returns:
        Requests per second, milliseconds at p50 and p99, CPU seconds of the server process per 1,000 turns.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        port = json.loads(process.stdout.readline())["port"]
        asyncio.run(_load(port, max(200, turns // 10)))
        cpu, started = _cpu_seconds(process.pid), time.perf_counter()
        taken = asyncio.run(_load(port, turns))
        seconds = time.perf_counter() - started
        cpu = _cpu_seconds(process.pid) - cpu
    finally:
        process.stdin.close()
        process.wait(60)
    return {
        "requests/s": len(taken) / seconds,
        "p50 ms": percentile(taken, 0.5) * 1000,
        "p99 ms": percentile(taken, 0.99) * 1000,
        "cpu s/1000": cpu / len(taken) * 1000,
    }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _load(port: int, turns: int) -> list[float]:
    """Seconds that each of `turns` requests took, over all connections."""
    share = turns // CONNECTIONS + 1
    parts = await asyncio.gather(*(_one_connection(port, share) for _ in range(CONNECTIONS)))
    return [taken for part in parts for taken in part]


async def _one_connection(port: int, requests: int) -> list[float]:
    loop = asyncio.get_running_loop()
    client = _Client()
    transport, _ = await loop.create_connection(lambda: client, "127.0.0.1", port)
    taken = []
    for _ in range(requests):
        started = loop.time()
        client.answered = loop.create_future()
        transport.write(_REQUEST)
        await client.answered
        taken.append(loop.time() - started)
    transport.close()
    return taken


class _Client(asyncio.Protocol):
    """Reads one answer at a time, by its Content-Length."""

    def __init__(self) -> None:
        self._received = b""
        self.answered: asyncio.Future[None]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
        if len(body) >= int(length):
            self._received = b""
            self.answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(error or ConnectionError("the server closed the connection"))
