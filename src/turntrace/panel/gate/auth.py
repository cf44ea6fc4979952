"""Who a request is from: the host's callback first, then our own sessions. Passwords are checked off the event loop."""

import hmac
import inspect
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from anyio import to_thread
from starlette.requests import Request

from turntrace.panel.context import PanelContext
from turntrace.panel.gate import cookie, csrf
from turntrace.panel.gate.role import Role, Viewer
from turntrace.panel.gate.session import Sessions
from turntrace.storage.sight import Scope

log = logging.getLogger("turntrace.panel")
MAX_NAME: Final = 100


class Authenticator:
    """Recognises people. `panel_auth` gets the Starlette request and answers a role, `{name, role, scope}`
    or None; `scope` narrows everything to a tenant's turns (`{"environment": …, "feature": …, "tag": …}`)."""

    def __init__(self, context: PanelContext, sessions: Sessions) -> None:
        self._context = context
        self._sessions = sessions

    async def viewer(self, request: Request) -> Viewer | None:
        """The person of this request, or None.

        Raises:
            DatabaseUnavailable, SchemaOutOfDate, SchemaTooNew: sessions cannot be looked up.
        """
        if self._context.settings.panel_auth is not None:
            vouched = await self._vouched(request)
            if vouched is not None:
                return vouched
        token = request.cookies.get(cookie.name(request, self._context.settings))
        if not token:
            return None
        return await to_thread.run_sync(self._sessions.find, token)

    async def _vouched(self, request: Request) -> Viewer | None:
        """What the host's callback says; a callback that fails lets nobody in."""
        callback = self._context.settings.panel_auth
        assert callback is not None
        try:
            if inspect.iscoroutinefunction(callback):
                answer = await callback(request)
            else:
                answer = await to_thread.run_sync(callback, request)
                if inspect.isawaitable(answer):
                    answer = await answer
        except Exception as error:  # the host's code: its text may hold anything
            log.warning("panel_auth failed with %s: nobody is let in", type(error).__name__)
            return None
        return self._viewer_of(answer)

    def _viewer_of(self, answer: Any) -> Viewer | None:
        if answer is None or answer is False:
            return None
        given: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {"role": answer}
        role = Role.of(given.get("role"))
        if role is None:
            log.warning("panel_auth answered no known role: expected one of %s", ", ".join(r.label for r in Role))
            return None
        try:
            scope = Scope.of(given.get("scope"))
        except (ValueError, TypeError):
            log.warning("panel_auth answered a scope that is none: a mapping of environment, feature or tag")
            return None
        name = str(given.get("name") or "host user")[:MAX_NAME]
        return Viewer(name=name, role=role, csrf_token=self._token(name), scope=scope)

    def _token(self, name: str) -> str:
        """Where the session is the host's, the token is bound to the person and the day."""
        key = self._context.keyring.derive(b"panel csrf")
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        return csrf.token_of(hmac.new(key, f"{name}\0{day}".encode(), sha256).hexdigest())
