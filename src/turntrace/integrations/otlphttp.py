"""OTLP/HTTP to one destination: compressed, bounded in time, and only to addresses that are allowed.

The address is looked up once per connection and that very address connected to, so that no name can lead elsewhere
between the check and the call. Redirects are not followed, proxies of the environment not asked.
"""

import contextlib
import gzip
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from turntrace.integrations.public_address import inner, is_public
from turntrace.records.destination import Answer, Destination, Verdict
from turntrace.tracing.trust import HostRules, parse_address
from turntrace.version import __version__

TIMEOUT_SECONDS: Final = 10.0
MOST_ANSWER_BYTES: Final = 64 << 10
# What it says it may say differently in a while: the specification's four, and faults in the set-up that people mend
# (a key, a path, a redirect), for which no turn should be lost.
_AGAIN: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407, 408, 415, 425, 429, 500, 502, 503, 504})
Resolve = Callable[[str, int], Iterable[str]]


class HostNotAllowed(OSError):
    """The destination is at an address that may not be called."""


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Guard:
    """Which addresses may be called: public ones, and those that the rules name (see `HostRules`)."""

    def __init__(self, allowed: Iterable[str], resolver: Resolve = resolve) -> None:
        self._allows = HostRules(allowed).allows
        self._resolve = resolver

    def address(self, host: str, port: int) -> str:
        """The address to connect to.

        Raises:
            HostNotAllowed: the name leads to no address that may be called.
            OSError: it leads nowhere.
        """
        found = list(self._resolve(host, port))
        for text in found:
            if self._allows(host) or self._is_allowed(text):
                return text
        raise HostNotAllowed("address not allowed")

    def _is_allowed(self, text: str) -> bool:
        found = parse_address(text)
        address = None if found is None else inner(found)
        return address is not None and (is_public(address) or self._allows(str(address)))


class OtlpSender:
    """The way to one destination; a connection is kept while it lasts."""

    def __init__(self, destination: Destination, guard: Guard, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(destination.url)
        self._host, self._is_tls = str(parts.hostname), parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._guard, self._timeout = guard, timeout_seconds
        self._headers = {
            "User-Agent": f"turntrace/{__version__}",
            **destination.headers,
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
        }
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def send(self, body: bytes) -> Answer:
        """Deliver an `ExportTraceServiceRequest`; never raises."""
        packed = gzip.compress(body, 6)
        is_kept = self._connection is not None
        try:
            return self._exchange(packed)
        except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError) as error:
            self._drop()
            if not is_kept:
                return _later(error)
        except Exception as error:
            self._drop()
            return _later(error)
        try:  # the connection that was kept had been closed meanwhile
            return self._exchange(packed)
        except Exception as error:
            self._drop()
            return _later(error)

    def close(self) -> None:
        """End what is under way, from any thread."""
        with self._lock:
            self._is_closed = True
            connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._drop()

    def _exchange(self, packed: bytes) -> Answer:
        connection = self._connected()
        connection.request("POST", self._path, body=packed, headers=self._headers)
        response = connection.getresponse()
        content = response.read(MOST_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self._drop()
        return _answer(response.status, response.headers.get("Retry-After"), content)

    def _connected(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._is_closed:
                raise ConnectionAbortedError("stopped")
            if self._connection is not None:
                return self._connection
        address = self._guard.address(self._host, self._port)
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        sock = socket.create_connection((address, self._port), self._timeout)
        try:
            connection.sock = self._secured(sock)
        except BaseException:
            sock.close()
            raise
        with self._lock:
            self._connection = connection
        return connection

    def _secured(self, sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._is_tls:
            return sock
        return ssl.create_default_context().wrap_socket(sock, server_hostname=self._host)

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _later(error: Exception) -> Answer:
    reason = str(error) if isinstance(error, HostNotAllowed) else type(error).__name__
    return Answer(verdict=Verdict.LATER, reason=reason)


def _answer(status: int, retry_after: str | None, content: bytes) -> Answer:
    if 200 <= status < 300:
        rejected = _rejected(content)
        return Answer(verdict=Verdict.TAKEN, reason=f"{rejected} spans rejected" if rejected else "")
    reason = f"status {status}"
    if status in _AGAIN or status >= 500:
        return Answer(verdict=Verdict.LATER, reason=reason, retry_seconds=_seconds(retry_after))
    return Answer(verdict=Verdict.REFUSED, reason=reason)


def _seconds(retry_after: str | None) -> float | None:
    """Of a `Retry-After` header: seconds, or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        at = parsedate_to_datetime(retry_after)
        return max(0.0, (at - at.now(at.tzinfo)).total_seconds())
    return None


def _rejected(content: bytes) -> int:
    """`partial_success.rejected_spans` of an answer; 0 where there is none, or it cannot be read."""
    # Field 1 is the message, and in it field 1 the number.
    if len(content) < 4 or content[0] != 0x0A or content[2] != 0x08:
        return 0
    found = shift = 0
    for byte in content[3:13]:
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found
        shift += 7
    return 0
