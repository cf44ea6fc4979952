"""Databases that go away and come back: a server behind a wire that can be cut, a file that somebody else locks."""

import contextlib
import selectors
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL


class Wire:
    """Forwards a loopback port to a server, until it is cut; then connections die and new ones are refused."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_cut = self._is_closed = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Let nothing through."""
        self._is_cut = True
        pairs, self._pairs = self._pairs, []
        for one in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections through again."""
        self._is_cut = False

    def close(self) -> None:
        """End all threads and connections."""
        self._is_closed = True
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            thread = threading.Thread(target=_forward, args=(near, far), daemon=True)
            self._threads.append(thread)
            thread.start()


def _forward(near: socket.socket, far: socket.socket) -> None:
    with near, far, selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in selector.select():
                try:
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)
                except OSError:
                    return


class Outage:
    """One database, to be reached at `url`, that can be taken away."""

    def __init__(self, url: URL) -> None:
        self._wire = None if url.get_backend_name() == "sqlite" else Wire(url.host or "127.0.0.1", url.port or 0)
        self._file = sqlite3.connect(url.database or "", isolation_level=None) if self._wire is None else None
        self.url = url if self._wire is None else url.set(host="127.0.0.1", port=self._wire.port)

    def begin(self) -> None:
        """From now on nothing can be written."""
        if self._wire is not None:
            self._wire.cut()
        if self._file is not None:
            self._file.execute("BEGIN EXCLUSIVE")

    def end(self) -> None:
        """The database is back."""
        if self._wire is not None:
            self._wire.mend()
        if self._file is not None:
            self._file.execute("ROLLBACK")

    def close(self) -> None:
        """Free what is held."""
        if self._wire is not None:
            self._wire.close()
        if self._file is not None:
            self._file.close()


@contextmanager
def outage_of(url: URL) -> Iterator[Outage]:
    """An outage to be, at an end after the block."""
    outage = Outage(url)
    try:
        yield outage
    finally:
        outage.close()
