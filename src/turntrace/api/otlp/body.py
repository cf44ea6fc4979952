"""The bytes of a request: bounded as sent and as unpacked, one request and all of them together."""

import mmap
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from starlette.requests import Request

from turntrace.api.otlp.fault import Refusal, later

MAX_BYTES: Final = 16 << 20
# Bodies of all requests of this process that are being read or worked on.
MOST_AT_ONCE: Final = 32 << 20
READ_SECONDS: Final = 30.0
_PIECE: Final = 256 << 10
_UNPACKED_TOO_LARGE: Final = f"Unpacked, the body is larger than {MAX_BYTES:,} bytes: export fewer spans at once."
_TOO_LARGE: Final = f"The body is larger than {MAX_BYTES:,} bytes: export fewer spans at once."


class Room:
    """Bytes that may be in memory at once. Thread-safe: a process can have several event loops."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._left = most
        self._lock = threading.Lock()

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A share that grows as it is needed and is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.change(share.size)

    def change(self, size: int) -> bool:
        """Give back `size` bytes, or with a negative size take them; False where there are not so many."""
        with self._lock:
            if self._left + size < 0:
                return False
            self._left += size
            return True


class Share:
    """What one request has taken of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def grow(self, size: int) -> None:
        """Take more.

        Raises:
            Refusal: 503, other requests have it.
        """
        if not self._room.change(-size):
            raise later("Too much is being received at once: try again.", 1)
        self.size += size


class Body:
    """Bytes apart from the heap: what is freed there stays with the process, and large bodies would tear it to pieces.

    Only pages that were written to take memory.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._map: mmap.mmap | None = mmap.mmap(-1, MAX_BYTES)
        self.size = 0

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the memory, whoever still holds this object; views of it stay what they are."""
        self._map = None

    def add(self, part: bytes, complaint: str) -> None:
        """Append.

        Raises:
            Refusal: 413 with this complaint, or 503.
        """
        end = self.size + len(part)
        if end > MAX_BYTES:
            raise Refusal(413, complaint)
        self._share.grow(len(part))
        assert self._map is not None
        self._map[self.size : end] = part
        self.size = end

    @property
    def view(self) -> memoryview:
        """What is in it."""
        assert self._map is not None
        return memoryview(self._map)[: self.size]


async def read(request: Request, share: Share) -> Body:
    """The body as it was sent.

    Raises:
        Refusal: 408, 413 or 503.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > MAX_BYTES:
        raise Refusal(413, _TOO_LARGE)
    body = Body(share)
    with anyio.move_on_after(READ_SECONDS) as scope:
        async for chunk in request.stream():
            body.add(chunk, _TOO_LARGE)
    if scope.cancelled_caught:
        raise Refusal(408, f"The body did not come within {READ_SECONDS:g} s.")
    return body


def unpack(body: Body, encoding: str, share: Share) -> Body:
    """The body without its content encoding. Blocks.

    Raises:
        Refusal: 400, 413, 415 or 503.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Refusal(415, "The content encoding is not supported: send gzip or none.")
    try:
        return _inflate(body, share)
    except zlib.error:
        raise Refusal(400, "The body is not gzip, or it is damaged.") from None


def _inflate(packed: Body, share: Share) -> Body:
    """Never unpacks more than what may be taken, whatever the body promises."""
    found = Body(share)
    member, at, rest = zlib.decompressobj(wbits=31), 0, b""
    while rest or at < packed.size:
        if not rest:
            rest = bytes(packed.view[at : at + _PIECE])
            at += len(rest)
        if member.eof:
            member = zlib.decompressobj(wbits=31)
        found.add(member.decompress(rest, _PIECE), _UNPACKED_TOO_LARGE)
        rest = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof and (part := member.decompress(b"", _PIECE)):
        found.add(part, _UNPACKED_TOO_LARGE)
    if not member.eof:
        raise Refusal(400, "The gzip body is cut off.")
    return found
