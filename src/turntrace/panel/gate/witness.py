"""Writes into the audit log who looked at texts, before they are shown. A page that nothing is said of counts as one.

What was looked at is named by the turn's id; ids of sessions and users stand there as keyed digests, so that the log
can be asked about a person but names nobody who was erased.
"""

import re
import time
from collections.abc import Iterable
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request

from turntrace.keyring import subject_names
from turntrace.panel.address import below, named
from turntrace.panel.context import PanelContext
from turntrace.panel.gate.role import Viewer
from turntrace.storage import audit

# The same look again within a minute (a page that refreshes itself) is one row.
SAME_SECONDS: Final = 60.0
# People whom the host vouches for log in there: here their first request of half a day stands for it.
LOGIN_SECONDS: Final = 12 * 3600.0
_MOST_REMEMBERED: Final = 2_000
# Pages without texts of the host's users, or that write their own row (exports, by what was exported).
_NUMBERS: Final = frozenset(
    [
        "",
        "sessions",
        "users",
        "cost",
        "system",
        "audit",
        "privacy",
        "erasures",
        "admin",
        "traces.csv",
        "traces.jsonl",
        "login",
        "static",
    ]
)
_OF_ONE: Final = {"sessions": "session.view", "users": "subject.view"}
_ID: Final = re.compile(r"[0-9a-f]{16,48}\Z")
_ABOUT: Final = ("user_id", "session_id")

Look = tuple[str, str | None, dict[str, Any] | None]


class Witness:
    """Remembers what it has written a moment ago; for several threads."""

    def __init__(self, context: PanelContext) -> None:
        self._context = context
        self._lock = Lock()
        self._written: dict[tuple[str, ...], float] = {}

    def is_needed(self, request: Request, viewer: Viewer) -> bool:
        """Whether there is anything to write; quick, for the event loop."""
        return bool(self._due(request, viewer))

    def see(self, request: Request, viewer: Viewer) -> None:
        """Write what is due. Blocks.

        Raises:
            DatabaseUnavailable: it cannot be written, so nothing may be shown.
        """
        due = self._due(request, viewer)
        if due:
            self._context.database.transact(_append, viewer, [look for _, look in due])
        now = time.monotonic()
        with self._lock:
            if len(self._written) > _MOST_REMEMBERED:
                self._written.clear()
            self._written.update({key: now for key, _ in due})

    def _due(self, request: Request, viewer: Viewer) -> list[tuple[tuple[str, ...], Look]]:
        now = time.monotonic()
        found: list[tuple[tuple[str, ...], Look]] = []
        for look, seconds in self._looks(request, viewer):
            key = (viewer.name, look[0], look[1] or "")
            with self._lock:
                last = self._written.get(key)
            if last is None or now - last >= seconds:
                found.append((key, look))
        return found

    def _looks(self, request: Request, viewer: Viewer) -> Iterable[tuple[Look, float]]:
        if viewer.token_hash is None:
            yield ("login", None, {"by": "host"}), LOGIN_SECONDS
        if request.method in ("GET", "HEAD") and viewer.reads:
            look = self._look(request)
            if look is not None:
                yield look, SAME_SECONDS

    def _look(self, request: Request) -> Look | None:
        page, slash, subject = below(request.scope).removeprefix("/").partition("/")
        subject = named(subject, request.query_params) if slash else ""
        if page in _OF_ONE and subject:  # whatever the host takes for an id, slashes included
            return _OF_ONE[page], self._digest(subject), None
        parts = [page, *subject.strip("/").split("/")] if subject.strip("/") else [page]
        filters = sorted(name for name, value in request.query_params.items() if value)
        details = {"filters": filters} if filters else None
        if parts[0] in _NUMBERS:
            return None
        about = next((request.query_params[name] for name in _ABOUT if request.query_params.get(name)), None)
        if parts[0] == "traces":
            if len(parts) > 1:
                return "trace.view", self._name(parts[1]), None
            return "traces.list", self._digest(about) if about else None, details
        return "page.view", "/" + "/".join([parts[0], *(self._name(part) for part in parts[1:])]), details

    def _name(self, part: str) -> str:
        return part if _ID.match(part) else self._digest(part)

    def _digest(self, text: str) -> str:
        return subject_names(self._context.keyring, text)[0]


def _append(connection: Connection, viewer: Viewer, looks: list[Look]) -> None:
    for action, target, details in looks:
        audit.append(
            connection,
            actor=viewer.name,
            role=viewer.role.label,
            action=action,
            target=target,
            details=details,
            now_us=time.time_ns() // 1000,
        )
