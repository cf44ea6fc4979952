"""The ASGI application: authenticate, route, parse, handle, and every error as a problem."""

import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from turntrace.api import cors
from turntrace.api.access import RecentKeys, authenticated, require
from turntrace.api.answer import render
from turntrace.api.context import ApiContext
from turntrace.api.endpoint import Answer, Call, Endpoint, limiter
from turntrace.api.parameter import parse
from turntrace.api.problem import Problem, bad_parameter
from turntrace.api.trail import Trail
from turntrace.errors import (
    Ambiguous,
    DatabaseUnavailable,
    DriverMissing,
    InvalidInput,
    NotFound,
    SchemaOutOfDate,
    SchemaTooNew,
)
from turntrace.storage.keys import KeyCheck

_log = logging.getLogger("turntrace.api")
_HOSTS_IDS: Final = ("session_id", "user_id")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Application:
    """The API as an ASGI application; mount it anywhere."""

    def __init__(self, context: ApiContext, endpoints: Sequence[Endpoint]) -> None:
        self._context = context
        self._keys = KeyCheck(context.database)
        self._recent = RecentKeys()
        self._trail = Trail(context.database)
        self._routes = [(Route(item.path, _unused, methods=[item.method]), item) for item in endpoints]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        with self._context.suspend():
            response = await self._answer(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        endpoint, allowed = self._match(request)
        origin = cors.allowed_origin(request, self._context.settings.cors_origins)
        shared = origin if origin and any(item.has_cors for item in allowed.values()) else None
        if shared and (found := cors.preflight(request, "POST", shared)):
            return found
        response = await _guarded(lambda: self._handle(request, endpoint, allowed))
        if shared:
            response.headers["Access-Control-Allow-Origin"] = shared
            response.headers["Vary"] = "Origin"
        return response

    def _match(self, request: Request) -> tuple[Endpoint | None, dict[str, Endpoint]]:
        """The endpoint of this request, and every endpoint of its path by method."""
        allowed: dict[str, Endpoint] = {}
        for route, endpoint in self._routes:
            match, child = route.matches({**request.scope, "method": endpoint.method})
            if match is Match.FULL and endpoint.method not in allowed:
                allowed[endpoint.method] = endpoint
                request.scope["path_params"] = child["path_params"]
        method = "GET" if request.method == "HEAD" else request.method
        return allowed.get(method), allowed

    async def _handle(self, request: Request, endpoint: Endpoint | None, allowed: Mapping[str, Endpoint]) -> Response:
        is_open = endpoint is not None and not endpoint.scopes
        principal = None if is_open else await authenticated(request, self._keys, self._recent)
        if endpoint is None:
            raise _unroutable(request, allowed)
        _check_ids(request)
        if principal is not None:
            require(principal, endpoint.scopes, endpoint.besides)
            if self._trail.is_due(principal, endpoint):
                await to_thread.run_sync(self._trail.write, principal, endpoint, limiter=limiter())
        values = parse(request.query_params, endpoint.parameters)
        call = Call(context=self._context, endpoint=endpoint, request=request, principal=principal, values=values)
        answer = await endpoint.handle(call)
        if answer.stream is not None:
            body = _sent(answer.stream, self._context.suspend)
            return StreamingResponse(body, answer.status, dict(answer.headers), answer.media_type)
        return _response(answer)


def _check_ids(request: Request) -> None:
    """Nothing of ours is named with U+0000, which PostgreSQL does not even look for; the host's ids are read by whom
    they are for.

    Raises:
        Problem: 404.
    """
    if any("\0" in text for name, text in request.path_params.items() if name not in _HOSTS_IDS):
        raise Problem(404, "not-found", "There is no such record", "No id of ours has the character U+0000 in it.")


async def _unused(request: Request) -> Response:
    raise AssertionError("routes are matched, not called")


async def _sent(parts: Iterator[bytes], suspend: Callable[[], AbstractContextManager[Any]]) -> AsyncIterator[bytes]:
    """The parts of a file, each made in a thread of ours and unrecorded."""

    def next_part() -> bytes | None:
        with suspend():
            return next(parts, None)

    while (part := await to_thread.run_sync(next_part, limiter=limiter())) is not None:
        yield part


def _response(answer: Answer) -> Response:
    return Response(render(answer.content), answer.status, dict(answer.headers), "application/json")


def _unroutable(request: Request, allowed: Mapping[str, Endpoint]) -> Problem:
    if allowed:
        methods = ", ".join(sorted(allowed))
        detail = f"Use {methods} here; `openapi.json` has every call."
        return Problem(405, "method", "The method is not allowed", detail, headers={"Allow": methods})
    return Problem(404, "no-such-call", "There is no such call", "`openapi.json` has every call.")


async def _guarded(handle: Callable[[], Awaitable[Response]]) -> Response:
    """The response, or the problem that stands for the error."""
    try:
        return await handle()
    except Problem as problem:
        return problem.response()
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception as error:
        return _problem(error).response()


def _problem(error: Exception) -> Problem:
    if isinstance(error, InvalidInput):
        return bad_parameter(error.field or "", f"{error}.")
    if isinstance(error, NotFound):
        return Problem(404, "not-found", "There is no such record", f"{error}.")
    if isinstance(error, Ambiguous):
        ids = list(error.turn_ids)
        return Problem(409, "ambiguous", "The trace id is ambiguous", "Name one of `turn_ids`.", turn_ids=ids)
    if isinstance(error, (SchemaOutOfDate, SchemaTooNew, DriverMissing)):
        return Problem(503, "schema", "The database cannot be used by this release", f"{error}")
    if isinstance(error, DatabaseUnavailable):
        detail = "The database does not answer; turns wait in the spool. Try again later."
        return Problem(503, "database", "The database cannot be reached", detail, headers={"Retry-After": "5"})
    # Where, never the text of the error: it may hold data of the host's users.
    where = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("an API call failed: %s at %s:%s", type(error).__qualname__, where.name, where.lineno)
    return Problem(500, "internal", "Turntrace failed", "The log of the application names the kind of error.")
