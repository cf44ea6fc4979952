"""`POST /v1/traces` and `POST /v1/logs`: who may send, what is taken, and what is answered. Never a 5xx but "later"."""

import logging
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turntrace.api.access import RecentKeys, authenticated, require
from turntrace.api.otlp import answer
from turntrace.api.otlp.answer import Encoding
from turntrace.api.otlp.body import Body, Room, Share, read, unpack
from turntrace.api.otlp.fault import Refusal, later
from turntrace.api.otlp.request import Contents
from turntrace.api.problem import Problem
from turntrace.errors import TurntraceError
from turntrace.records.fragment import FrameKind
from turntrace.storage.database import Database
from turntrace.storage.keys import KeyCheck

_log = logging.getLogger("turntrace.otlp")
_PATHS: Final = {"/v1/traces": False, "/v1/logs": True}
# Bodies are read one after the other: two at once would need twice the memory and take as long.
_reading: RunVar[CapacityLimiter] = RunVar("turntrace.otlp.reading")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverContext:
    """Everything the receiver needs from outside.

    `write(kind, payload)` appends a frame to the spool, False where it was dropped; `refusal(size)` says why so many
    bytes should not be sent there now, or None; `suspend` is a context manager in which nothing is recorded.
    """

    database: Database
    write: Callable[[FrameKind, bytes], bool]
    refusal: Callable[[int], str | None]
    suspend: Callable[[], AbstractContextManager[Any]]


class Receiver:
    """The receiver as an ASGI application; mount it anywhere."""

    def __init__(self, context: ReceiverContext) -> None:
        self._context = context
        self._keys = KeyCheck(context.database)
        self._recent = RecentKeys()
        self._room = Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        with self._context.suspend():
            response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        encoding = answer.encoding_of(request.headers.get("content-type", ""))
        try:
            return await self._handle(request, encoding)
        except Exception as error:
            return answer.refused(_refusal(error), encoding or Encoding.JSON)

    async def _handle(self, request: Request, encoding: Encoding | None) -> Response:
        principal = await authenticated(request, self._keys, self._recent)
        require(principal, ("ingest",))
        are_logs = _kind(request)
        if encoding is None:
            raise Refusal(415, "Send `Content-Type: application/x-protobuf` or `application/json`.")
        coding = request.headers.get("content-encoding", "").strip().lower()
        with self._room.share() as share, await read(request, share) as body:
            contents = await to_thread.run_sync(
                self._try, principal.key_id, body, coding, encoding, are_logs, share, limiter=_limiter()
            )
        if isinstance(contents, Refusal):
            raise contents
        rejected = sum(contents.rejected.values())
        return answer.taken(encoding, rejected=rejected, reason=contents.reason, are_logs=are_logs)

    def _try(
        self, sender: str, body: Body, coding: str, encoding: Encoding, are_logs: bool, share: Share
    ) -> Contents | Refusal:
        """An exception that went through a future would hold the frames it came from, and those the whole body, until
        the next run of the garbage collector: it is answered instead."""
        try:
            return self._take(sender, body, coding, encoding, are_logs, share)
        except Exception as error:
            refusal = _refusal(error)
            refusal.__traceback__ = refusal.__context__ = None
            return refusal

    def _take(self, sender: str, body: Body, coding: str, encoding: Encoding, are_logs: bool, share: Share) -> Contents:
        """Read all of it, then write all of it: a request that is refused has left nothing behind."""
        contents = Contents(sender)
        with unpack(body, coding, share) as unpacked:
            contents.read(unpacked.view, encoding, are_logs=are_logs)
        reason = self._context.refusal(contents.frames.size)
        if reason is not None:
            raise later(f"The spool takes nothing now ({reason}).")
        frames = [*contents.frames.frames(), *((FrameKind.SCORE, score) for score in contents.scores)]
        for kind, payload in frames:
            if not self._context.write(kind, payload):
                # What is in already is known again when it comes again.
                raise later("The spool takes nothing now.")
        return contents


def _refusal(error: Exception) -> Refusal:
    """How an error is answered."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Problem):
        return Refusal(error.status, str(error.body["detail"]), headers=error.headers)
    if isinstance(error, ClientDisconnect):
        return Refusal(400, "The connection was closed.")
    if isinstance(error, TurntraceError):
        return later("The database does not answer.")
    # Where, never the text of the error: it may hold what was sent.
    where = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("a request over OTLP failed: %s at %s:%s", type(error).__qualname__, where.name, where.lineno)
    return Refusal(400, "The body could not be worked on; the log of the application names the kind of error.")


def _kind(request: Request) -> bool:
    """Whether log records are sent here.

    Raises:
        Refusal: 404 or 405.
    """
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path not in _PATHS:
        raise Refusal(404, f"Nothing is received here; there are {' and '.join(_PATHS)}.")
    if request.method != "POST":
        raise Refusal(405, "Only POST is taken here.", headers={"Allow": "POST"})
    return _PATHS[path]


def _limiter() -> CapacityLimiter:
    found = _reading.get(None)
    if found is None:
        found = CapacityLimiter(1)
        _reading.set(found)
    return found
