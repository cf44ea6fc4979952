"""MCP: the context travels in `_meta` (`traceparent`, `tracestate`, `baggage`), whatever the transport. SDK 1 and 2."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Final

from turntrace.borders import Carrying, text_only
from turntrace.tracing.baggage import BAGGAGE

_MARK: Final = "_turntrace"
_PLACE: Final = ("traceparent", "tracestate")
_CALL: Final = "tools/call"


def attach_client(tt: Carrying, client: Any, *, is_own: bool) -> Any:
    """See `Borders.mcp_client`."""
    session = client.session if hasattr(client, "session") else client
    original = session.send_request
    if getattr(original, _MARK, None) is tt:
        return client

    @wraps(original)
    def send_request(request: Any, *args: Any, **kwargs: Any) -> Any:
        carried = tt.carrier() if is_own else dict(tt.inject({}))
        if carried:
            _stamp(getattr(request, "root", request), carried)
        return original(request, *args, **kwargs)

    setattr(send_request, _MARK, tt)
    session.send_request = send_request
    return client


def _stamp(request: Any, carried: Mapping[str, str]) -> None:
    """Put the context into the request's `_meta`: a mapping in SDK 2, a model that takes any field in SDK 1."""
    params = getattr(request, "params", None)
    if params is None or not hasattr(params, "meta"):
        return
    meta = params.meta
    if hasattr(meta, "model_copy"):
        params.meta = meta.model_copy(update=dict(carried))
    elif meta is None and hasattr(type(params), "Meta"):
        params.meta = type(params).Meta(**carried)
    else:
        params.meta = {**(meta or {}), **carried}


def attach_server(tt: Carrying, server: Any, *, is_own: bool) -> Any:
    """See `Borders.mcp_server`."""
    inner = next(
        (found for name in ("_mcp_server", "_lowlevel_server") if (found := getattr(server, name, None))), server
    )
    if getattr(inner, _MARK, None) is tt:
        return server
    setattr(inner, _MARK, tt)
    requests = _Requests(tt, is_own)
    if hasattr(inner, "middleware"):
        inner.middleware.insert(0, requests.middle)
    else:
        for kind, handler in list(inner.request_handlers.items()):
            inner.request_handlers[kind] = requests.around(handler)
    return server


class _Requests:
    """What a server is asked for, each a turn of its own."""

    def __init__(self, tt: Carrying, is_own: bool) -> None:
        self._tt, self._is_own = tt, is_own

    async def middle(self, context: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Middleware of SDK 2."""
        if context.request_id is None or context.method not in _NAMED:
            return await call_next(context)
        asked = context.params if isinstance(context.params, Mapping) else {}
        # The SDK's own middleware would take the caller's step for the parent of all that happens here, past our turn.
        meta = {name: value for name, value in (context.meta or {}).items() if name not in (*_PLACE, BAGGAGE)}
        inner = replace(context, meta=meta) if meta != (context.meta or {}) else context
        return await self._turn(context.method, asked, context.meta, lambda: call_next(inner))

    def around(self, handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """A request handler of SDK 1."""

        @wraps(handler)
        async def handle(request: Any) -> Any:
            method, params = getattr(request, "method", None), getattr(request, "params", None)
            if method not in _NAMED or params is None:
                return await handler(request)
            meta = params.meta.model_dump() if params.meta is not None else {}
            return await self._turn(method, params.model_dump(mode="json"), meta, lambda: handler(request))

        return handle

    async def _turn(
        self, method: str, asked: Mapping[str, Any], meta: Any, answer: Callable[[], Awaitable[Any]]
    ) -> Any:
        carried = text_only(meta)
        if not self._is_own:
            carried = {name: carried[name] for name in _PLACE if name in carried}
        what = str(asked.get(_NAMED[method]) or "")
        given = asked.get("arguments")
        with self._tt.continue_trace(carried, name=f"{method} {what}".strip(), metadata={"mcp.method.name": method}):
            if method != _CALL:
                return await answer()
            with self._tt.observation(what or "tool", type="tool", input=given) as step:
                result = await answer()
                told = _result(result)
                step.update(output=told.get("content"), level="error" if told.get("isError") else None)
            return result


# Requests that are turns, and the parameter that says of what; listing and pinging are none.
_NAMED: Final = {_CALL: "name", "prompts/get": "name", "resources/read": "uri"}


def _result(result: Any) -> Mapping[str, Any]:
    """A result as its JSON, in whichever form the SDK has it."""
    found = getattr(result, "root", result)
    if hasattr(found, "model_dump"):
        found = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found if isinstance(found, Mapping) else {}
