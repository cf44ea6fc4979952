"""Who may call: bearer keys with scopes, checked in memory."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from anyio import to_thread
from starlette.requests import Request

from turntrace.api.endpoint import limiter
from turntrace.api.principal import Principal
from turntrace.api.problem import Problem
from turntrace.storage.keys import ApiKey, KeyCheck

_LONGEST_KEY: Final = 200
_RECENT_SECONDS: Final = 0.5
_MOST_RECENT: Final = 256


class RecentKeys:
    """Keys found good a moment ago: half a second more on top of the 4 s of `KeyCheck` stays below the promised 5 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[str, tuple[float, ApiKey]] = {}

    def get(self, presented: str) -> ApiKey | None:
        """The key, if it was put less than half a second ago."""
        at, key = self._found.get(presented, (float("-inf"), None))
        return key if self._clock() - at < _RECENT_SECONDS else None

    def put(self, presented: str, key: ApiKey | None) -> None:
        """Remember a good key."""
        if key is None:
            return
        if len(self._found) >= _MOST_RECENT:
            self._found.clear()
        self._found[presented] = self._clock(), key


async def authenticated(request: Request, keys: KeyCheck, recent: RecentKeys) -> Principal:
    """The holder of the key that the request carries.

    Raises:
        Problem: 401.
    """
    presented = _bearer(request)
    find: Callable[[str], ApiKey | None] = keys.find
    key = recent.get(presented) if presented else None
    if key is None and presented:
        # A look-up in memory, but every few seconds it reads the table: never on the event loop.
        key = await to_thread.run_sync(find, presented, limiter=limiter())
        recent.put(presented, key)
    if key is None:
        raise Problem(
            401,
            "unauthorized",
            "A valid key is needed",
            "Send `Authorization: Bearer <key>`; make a key with `turntrace keys create --name N --scope read`.",
            headers={"WWW-Authenticate": 'Bearer realm="turntrace"'},
        )
    return Principal(key_id=key.id, name=key.name, scopes=frozenset(key.scopes))


def require(principal: Principal, scopes: Sequence[str], besides: Sequence[str] = ()) -> None:
    """Nothing, if the principal has any of these scopes, and all of those besides.

    Raises:
        Problem: 403.
    """
    if (not scopes or principal.may(*scopes)) and all(principal.may(scope) for scope in besides):
        return
    wanted = " and ".join([" or ".join(f"`{scope}`" for scope in scopes), *(f"`{scope}`" for scope in besides)])
    needed = [*scopes, *besides]
    raise Problem(403, "scope", "The key may not do this", f"It needs the scope {wanted}.", required_scopes=needed)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and 0 < len(token) <= _LONGEST_KEY else None
