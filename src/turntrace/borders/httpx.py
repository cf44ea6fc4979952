"""httpx: an event hook, which redirects pass through as well."""

from typing import Any

import httpx

from turntrace.borders import Carrying


class _Hook:
    """Synchronous and asynchronous hook in one; two of one `Turntrace` are equal."""

    def __init__(self, tt: Carrying) -> None:
        self.tt = tt

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.tt is self.tt

    def __hash__(self) -> int:
        return id(self.tt)

    def __call__(self, request: httpx.Request) -> None:
        self.tt.inject(request.headers, url=str(request.url))


class _AsyncHook(_Hook):
    async def __call__(self, request: httpx.Request) -> None:  # type: ignore[override]
        self.tt.inject(request.headers, url=str(request.url))


def attach(tt: Carrying, client: Any) -> Any:
    """See `Borders.httpx`."""
    hook = _AsyncHook(tt) if isinstance(client, httpx.AsyncClient) else _Hook(tt)
    hooks = client.event_hooks
    if hook not in hooks["request"]:
        client.event_hooks = {**hooks, "request": [*hooks["request"], hook]}
    return client
