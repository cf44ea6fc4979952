"""Connections to judges, at addresses that were checked; kept open for a moment, since the next question comes soon."""

import http.client
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from turntrace.errors import EvaluationFailed

MOST_BYTES: Final = 2 << 20
IDLE_SECONDS: Final = 4.0  # many servers close what is idle for five
MOST_IDLE: Final = 64
_GONE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer as it came; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """Open connections by where they lead: nobody's question goes to another address than the one that was checked.

    Thread-safe; one connection carries one question at a time.

    Args:
        most_idle: kept open for the next question; 0: each question has its own connection.
    """

    def __init__(self, most_idle: int = MOST_IDLE) -> None:
        self._most_idle = most_idle
        self._idle: list[tuple[_Connection, float]] = []
        self._lock = threading.Lock()

    def post(
        self, url: str, path: str, body: bytes, headers: Mapping[str, str], *, address: tuple[str, int], seconds: float
    ) -> Answered:
        """Ask, and read the whole answer.

        Args:
            url: whose scheme and name are used; `address` is what is connected to.
            path: with that of the url.
            seconds: for all of it.

        Raises:
            EvaluationFailed: the answer is too large. OSError, http.client.HTTPException: there is none.
        """
        deadline = time.monotonic() + seconds
        known = self._take(url, address)
        if known is not None:
            try:
                return self._ask(known, path, body, headers, deadline)
            except _GONE:
                pass  # closed by the server as we began to write: it was too late for it to read
        return self._ask(_Connection(url, address), path, body, headers, deadline)

    def _ask(
        self, connection: "_Connection", path: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> Answered:
        is_kept = False
        try:
            connection.wait_until(deadline)
            connection.request("POST", path, body, dict(headers))
            with connection.getresponse() as response:
                fields = {name.lower(): value for name, value in response.getheaders()}
                found = Answered(response.status, fields, _read(response, connection, deadline))
                is_kept = not response.will_close
            return found
        finally:
            if is_kept:
                self._keep(connection)
            else:
                connection.close()

    def _take(self, url: str, address: tuple[str, int]) -> "_Connection | None":
        """An idle connection that leads there and that nobody closed; those that are idle for too long are closed."""
        now, found, old = time.monotonic(), None, []
        with self._lock:
            fresh = []
            for connection, until in self._idle:
                if until < now:
                    old.append(connection)
                elif found is None and connection.leads_to(url, address):
                    found = connection
                else:
                    fresh.append((connection, until))
            self._idle = fresh
        if found is not None and found.was_closed():
            old.append(found)
            found = None
        for connection in old:
            connection.close()
        return found

    def _keep(self, connection: "_Connection") -> None:
        with self._lock:
            if len(self._idle) < self._most_idle:
                self._idle.append((connection, time.monotonic() + IDLE_SECONDS))
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, under the name that was asked for."""

    def __init__(self, url: str, address: tuple[str, int]) -> None:
        parts = urlsplit(url)
        super().__init__(parts.hostname or "", address[1])
        self._address, self._is_tls = address, parts.scheme == "https"

    def wait_until(self, deadline: float) -> None:
        """Nothing that follows waits longer than this.

        Raises:
            TimeoutError: it is past already.
        """
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        self.timeout = rest
        if self.sock is not None:
            self.sock.settimeout(rest)

    def leads_to(self, url: str, address: tuple[str, int]) -> bool:
        """Whether it is open to this address, under this name and scheme."""
        parts = urlsplit(url)
        return (self.host, self._address, self._is_tls) == (parts.hostname, address, parts.scheme == "https")

    def was_closed(self) -> bool:
        """Whether the other end has closed it (or speaks without being asked, which is no better)."""
        if self.sock is None:
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def connect(self) -> None:
        """Connect to the address itself: no second look at the name."""
        self.sock = socket.create_connection(self._address, timeout=self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._is_tls:
            try:
                self.sock = _tls().wrap_socket(self.sock, server_hostname=self.host)
            except BaseException:
                self.sock.close()
                raise


@cache
def _tls() -> ssl.SSLContext:
    """Once for the process: reading the machine's certificates takes longer than a judge's answer does to be read."""
    return ssl.create_default_context()


def _read(response: http.client.HTTPResponse, connection: _Connection, deadline: float) -> bytes:
    """The body, bounded in bytes and in time: a server that drips is given up."""
    body = bytearray()
    while True:
        connection.wait_until(deadline)
        piece = response.read1(65536)
        if not piece:
            return bytes(body)
        body += piece
        if len(body) > MOST_BYTES:
            raise EvaluationFailed("answer_too_large")
