"""One declaration a call: the routes and the OpenAPI document are both made from it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from sqlalchemy import Connection
from starlette.requests import Request

from turntrace.api.body import read_body
from turntrace.api.context import ApiContext
from turntrace.api.parameter import Parameter
from turntrace.api.principal import Principal
from turntrace.api.schema import Schema
from turntrace.storage.queries.cursor import DEFAULT_LIMIT

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R")

# The host's own thread pool is borrowed through the default limiter: ours is apart, and small.
THREADS: Final = 8
_limiter: RunVar[CapacityLimiter] = RunVar("turntrace.api.limiter")


def limiter() -> CapacityLimiter:
    """The limiter of this event loop for the API's database work."""
    found = _limiter.get(None)
    if found is None:
        found = CapacityLimiter(THREADS)
        _limiter.set(found)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authorised request with its parsed parameters."""

    context: ApiContext
    endpoint: "Endpoint"
    request: Request
    principal: Principal | None
    values: Mapping[str, Any]

    @property
    def page(self) -> tuple[int, str | None]:
        """`limit` and `cursor`."""
        return self.values.get("limit", DEFAULT_LIMIT), self.values.get("cursor")

    async def body(self) -> dict[str, Any]:
        """The checked JSON body."""
        return await read_body(self.request, self.endpoint.body or {})

    async def read(self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query in a thread, with a connection of its own."""

        def work() -> R:
            with self.context.database.read() as connection:
                return query(connection, *args, **kwargs)

        return await to_thread.run_sync(work, limiter=limiter())

    async def read_as(
        self, shape: Callable[[Q], R], query: Callable[Concatenate[Connection, P], Q], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a query and shape what it answers, both in one thread: a change of threads costs more than either."""

        def work() -> R:
            with self.context.database.read() as connection:
                found = query(connection, *args, **kwargs)
            return shape(found)

        return await to_thread.run_sync(work, limiter=limiter())

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run anything that blocks in a thread."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=limiter())


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer, or a file that is written while it is sent."""

    content: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One call of the API.

    `path` is in Starlette's form; `scopes`: a key needs any one of them (none: open to everybody), and `besides` all of
    these; `answers` maps status to (description, schema).
    """

    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Call], Awaitable[Answer]]
    answers: Mapping[int, tuple[str, Schema]]
    scopes: tuple[str, ...] = ("read",)
    besides: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    body: Schema | None = None
    has_cors: bool = False
