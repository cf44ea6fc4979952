"""Turns across borders: one helper for each library that calls, queues or answers. None of them is imported here.

Each file is about one library; what is carried, and to whom, stands in `tracing/outgoing.py`.
"""

import importlib
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import wraps
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from turntrace.errors import IntegrationMissing

P = ParamSpec("P")
T = TypeVar("T")
META: Final = "_meta"  # where a message carries its context, as MCP's do


class Carrying(Protocol):
    """What the helpers need of a `Turntrace`."""

    def inject(self, headers: MutableMapping[str, str], *, url: str | None = None) -> MutableMapping[str, str]: ...
    def carrier(self) -> dict[str, str]: ...
    def continue_trace(self, carrier: Mapping[str, str], *, name: str = ..., **fields: Any) -> Any: ...
    def observation(self, name: str, *, type: str = ..., input: Any = ...) -> Any: ...


class Borders:
    """`tt.borders`: every helper may be called again on the same object and then changes nothing."""

    def __init__(self, tt: Carrying) -> None:
        self._tt = tt

    def httpx(self, client: T) -> T:
        """An `httpx.Client` or `AsyncClient` whose requests carry the current turn; answers the client."""
        return self._load("httpx").attach(self._tt, client)  # type: ignore[no-any-return]

    def requests(self, session: T) -> T:
        """A `requests.Session` whose requests carry the current turn; answers the session."""
        return self._load("requests").attach(self._tt, session)  # type: ignore[no-any-return]

    def aiohttp(self) -> Any:
        """An `aiohttp.TraceConfig` for `ClientSession(trace_configs=[…])`."""
        return self._load("aiohttp").trace_config(self._tt)

    def celery(self, app: T) -> T:
        """Tasks of a Celery application become turns of the trace they were sent from; call it where the app is made,
        so that clients and workers both have it."""
        return self._load("celery").attach(self._tt, app)  # type: ignore[no-any-return]

    def rq(self, queue: T) -> T:
        """An `rq.Queue` whose jobs carry the turn that they were enqueued in; answers the queue."""
        return self._load("rq").attach(self._tt, queue)  # type: ignore[no-any-return]

    def rq_job(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorator of a function that RQ runs: a turn of the trace in which the job was enqueued."""
        return self._load("rq").job(self._tt, function)  # type: ignore[no-any-return]

    def mcp_client(self, session: T, *, is_own: bool = False) -> T:
        """An MCP `ClientSession` or connected `Client` whose requests carry the trace in `_meta`; answers it.

        Args:
            is_own: the server is one of the application's own: session, user, tags, feature and experiment go, too.
        """
        return self._load("mcp").attach_client(self._tt, session, is_own=is_own)  # type: ignore[no-any-return]

    def mcp_server(self, server: T, *, is_own: bool = False) -> T:
        """An MCP server whose tools, prompts and resources are turns of the trace they were asked for in; answers it.

        Args:
            is_own: only the application itself calls this server: what it says of session, user and tags is believed.
        """
        return self._load("mcp").attach_server(self._tt, server, is_own=is_own)  # type: ignore[no-any-return]

    def carry(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, run in the turn that is current now: for pools and callbacks that do not inherit it."""
        context = copy_context()

        @wraps(function)
        def carried(*args: P.args, **kwargs: P.kwargs) -> T:
            # A context can be entered once at a time: every call gets a copy.
            return context.copy().run(function, *args, **kwargs)

        return carried

    def stamp(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message for a WebSocket, a stream of events or a bus of the application's own, with the current turn in its
        `_meta`."""
        carried = self._tt.carrier()
        return {**message, META: {**message.get(META, {}), **carried}} if carried else dict(message)

    def received(
        self, message: Mapping[str, Any], *, name: str = "message", **fields: Any
    ) -> AbstractContextManager[Any]:
        """The turn of a message that `stamp` went over."""
        meta = message.get(META)
        found: AbstractContextManager[Any] = self._tt.continue_trace(text_only(meta), name=name, **fields)
        return found

    def _load(self, name: str) -> Any:
        try:
            return importlib.import_module(f"turntrace.borders.{name}")
        except ImportError as error:
            raise IntegrationMissing(f"{error.name} is not installed") from error


def text_only(meta: Any) -> dict[str, str]:
    """The texts of a mapping from outside."""
    found = meta.items() if isinstance(meta, Mapping) else ()
    return {name: value for name, value in found if isinstance(name, str) and isinstance(value, str)}
