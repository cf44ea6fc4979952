"""A recorder over a list, and small drivers that call an application as a server would."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from turntrace.records.fragment import FrameKind
from turntrace.settings import Settings
from turntrace.tracing.guard import Guard
from turntrace.tracing.recorder import Resource
from turntrace.tracing.turn import Turn

Message = MutableMapping[str, Any]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Recording:
    """Frames of one test in the order of writing, among `log` entries of what the client was given."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.guard = Guard(enabled=self.settings.enabled, reraise=True)
        self.resource = Resource(service_name="test")
        self.open_turns: MutableMapping[str, Turn] = {}
        self.frames: list[tuple[FrameKind, dict[str, Any]]] = []
        self.log: list[str] = []
        self.starts = 0
        self.panel_app: Any = None
        self.overheads_ns: list[int] = []

    def note_turn(self, overhead_ns: int) -> None:
        self.overheads_ns.append(overhead_ns)

    @property
    def recorder(self) -> "Recording":
        return self

    def start(self) -> None:
        self.starts += 1

    def panel(self) -> Any:
        return self.panel_app

    def write(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
        self.frames.append((kind, orjson.loads(payload)))
        self.log.append(kind.name)
        return True

    def kinds(self) -> list[str]:
        return [kind.name for kind, _ in self.frames]

    def turn(self, kind: FrameKind = FrameKind.END) -> dict[str, Any]:
        """The header of the only frame of a kind."""
        found = [document["turn"] for one, document in self.frames if one is kind]
        assert len(found) == 1, self.kinds()
        header: dict[str, Any] = found[0]
        return header


def http_scope(path: str = "/", headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    """An ASGI scope as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
        **more,
    }


class Client:
    """The server's side of one ASGI request: notes what it is sent, in the log of the recording as well."""

    def __init__(self, log: list[str] | None = None, *, breaks_at: int | None = None) -> None:
        self.messages: list[Message] = []
        self.log = log if log is not None else []
        self.breaks_at = breaks_at
        self._was_read = False
        self._is_complete = asyncio.Event()

    async def receive(self) -> Message:
        if not self._was_read:
            self._was_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.breaks_at is not None and len(self.messages) >= self.breaks_at:
            raise OSError("the client has gone")
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.log.append(f"sent:{message.get('body', b'').decode('latin-1')}")
            if not message.get("more_body"):
                self._is_complete.set()

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.messages[0]["headers"])

    def header(self, name: str) -> str:
        return dict(self.headers)[name.encode()].decode()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


def environ(path: str = "/", headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    """A WSGI environ as a server makes it, repeated headers joined."""
    from wsgiref.util import setup_testing_defaults

    made: dict[str, Any] = {
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REMOTE_ADDR": "127.0.0.1",
        "QUERY_STRING": "",
        **more,
    }
    setup_testing_defaults(made)
    for name, value in headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        made[key] = f"{made[key]},{value}" if key in made else value
    return made


class Server:
    """One WSGI request as a server runs it."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = log if log is not None else []
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.result: Any = None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return self.chunks.append

    def run(self, app: Any, environ: dict[str, Any], *, pieces: int | None = None) -> "Server":
        """Call, iterate (at most `pieces`) and close."""
        self.result = app(environ, self.start_response)
        try:
            for piece in self.result:
                self.chunks.append(piece)
                self.log.append(f"sent:{piece.decode('latin-1')}")
                if pieces is not None and len(self.chunks) >= pieces:
                    break
        finally:
            if hasattr(self.result, "close"):
                self.result.close()
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str:
        return dict(self.headers)[name]
