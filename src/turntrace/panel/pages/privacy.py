"""Privacy: what is stored of a text and why, windows of full capture, and where data flows."""

from time import time_ns
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.keyring import subject_names
from turntrace.panel.flow import hops
from turntrace.panel.gate.role import Role
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.pipeline.redact.trial import Trial
from turntrace.records.window import WINDOW_KINDS, Window
from turntrace.storage import windows

MAX_TEXT: Final = 100_000
EXAMPLE: Final = (
    '{"role": "user", "content": "I am reachable at anna.schmidt@example.com or +49 30 901820, '
    'card 4111 1111 1111 1111", "password": "kettle-42"}'
)
_KINDS: Final = {"user": "user id", "session": "session id", "route": "route pattern"}
_DONE: Final = {"opened": "The window is open.", "closed": "The window is closed."}


def show(request: Request) -> Response:
    """`GET /privacy`."""
    visit = _operator(request)
    visit.message = _DONE.get(request.query_params.get("done", ""))
    return _page(visit, text="", trial=None)


def try_text(request: Request) -> Response:
    """`POST /privacy/try`: fields `text`, `route`. Answers the page itself; the text is neither stored nor logged."""
    visit = _operator(request)
    text, route = visit.form.get("text", "")[:MAX_TEXT], visit.form.get("route", "").strip()[:200]
    attempt = visit.context.try_text
    if attempt is None:
        raise HTTPException(404)
    visit.context.database.transact(noted, visit, "redaction.try")
    return _page(visit, text=text, route=route, trial=attempt(text, route) if text.strip() else None)


def open_window(request: Request) -> Response:
    """`POST /privacy/windows`: fields `kind`, `value`, `minutes`, `mode`, `reason`."""
    visit = _operator(request)
    visit.context.database.transact(_open, visit, _window(visit))
    return visit.back_to("privacy", done="opened")


def close_window(request: Request) -> Response:
    """`POST /privacy/windows/close`: field `id`."""
    visit = _operator(request)
    visit.context.database.transact(_close, visit)
    return visit.back_to("privacy", done="closed")


def _operator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.viewer.may(Role.OPERATOR):
        raise HTTPException(403)
    return visit


def _page(visit: Visit, *, text: str, trial: Trial | None, route: str = "") -> Response:
    context = visit.context
    with context.database.read() as connection:
        opened = windows.list_windows(connection, now_us=visit.now_us)
    return visit.render(
        "privacy.html",
        section="privacy",
        title="Privacy",
        settings=context.settings,
        text=text,
        route=route,
        trial=trial,
        example=EXAMPLE,
        can_try=context.try_text is not None,
        windows=opened,
        kinds=_KINDS,
        most_minutes=windows.MOST_MINUTES,
        hops=hops(context.settings, context.database.name, context.status()),
    )


def _window(visit: Visit) -> Window:
    form = visit.form
    kind, value = form.get("kind", ""), form.get("value", "").strip()[:200]
    if kind not in WINDOW_KINDS or not value:
        raise InvalidInput("name a user, session or route", field="value")
    minutes = form.get("minutes", "")
    if not minutes.isascii() or not minutes.isdigit() or len(minutes) > 6:
        raise InvalidInput(f"minutes: 1 to {windows.MOST_MINUTES}", field="minutes")
    mode = "full" if form.get("mode") == "full" else "redacted"
    if mode == "full" and not visit.context.settings.allow_unredacted:
        raise InvalidInput("unredacted capture needs the setting allow_unredacted=1", field="mode")
    reason = form.get("reason", "").strip()[:200]
    if not reason:
        raise InvalidInput("say why: it goes into the audit log", field="reason")
    now_us = time_ns() // 1000
    return Window(
        id=uuid4().hex,
        kind=kind,
        value=value if kind == "route" else subject_names(visit.context.keyring, value)[0],
        mode=mode,
        from_us=now_us,
        until_us=now_us + int(minutes) * 60_000_000,
        author=visit.viewer.name,
        reason=reason,
    )


def _open(connection: Connection, visit: Visit, window: Window) -> None:
    windows.open_window(connection, window, now_us=window.from_us)
    minutes = (window.until_us - window.from_us) // 60_000_000
    details: dict[str, Any] = {"kind": window.kind, "mode": window.mode, "minutes": minutes, "reason": window.reason}
    noted(connection, visit, "capture.open", window.value, **details)


def _close(connection: Connection, visit: Visit) -> None:
    now_us = time_ns() // 1000
    found = windows.close_window(connection, visit.form.get("id", ""), author=visit.viewer.name, now_us=now_us)
    noted(connection, visit, "capture.close", found.value, kind=found.kind)
