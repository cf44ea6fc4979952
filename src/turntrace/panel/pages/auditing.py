"""Audit log: who did what, and who looked at whose texts."""

from dataclasses import dataclass, replace
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.keyring import subject_names
from turntrace.panel.gate.role import Role
from turntrace.panel.narrowing import MAX_TEXT, Chip, Narrowing, narrowing
from turntrace.panel.pages.traces import range_options
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import audit

PAGE_ROWS: Final = 100
FILTERS: Final = {"actor": "Who", "action": "Did", "about": "To"}
# What there is to choose from: an action, or all whose names begin so.
ACTIONS: Final = {
    "": "anything",
    "trace.view": "opened a trace",
    "session.view": "opened a conversation",
    "traces.list": "listed traces",
    "page.view": "opened another page with texts",
    "traces.export": "exported traces",
    "subject": "view, export or erasure of a person",
    "erase": "erased",
    "api": "read or wrote by a key",
    "login": "logged in, or tried to",
    "logout": "logged out",
    "account": "changed an account",
    "key": "made or revoked a key",
    "price": "changed a price",
    "score": "added a score",
    "settings": "settings changed",
    "capture": "full capture opened or closed",
    "redaction": "tried a text",
    "keys": "encrypted anew",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row as it is shown; `turn_id` where its target is a turn."""

    entry: audit.Entry
    turn_id: str | None
    details: str


def show(request: Request) -> Response:
    """`GET /audit`: filters `actor`, `action`, `about` (an id of a turn, session or user) and a period."""
    visit = visit_of(request)
    if not visit.viewer.may(Role.OPERATOR):
        raise HTTPException(403)
    query = request.query_params
    narrowed = _narrowed(visit)
    values = dict(narrowed.params)
    before = _number(query.get("before"))
    wanted = audit.Wanted(
        actor=values.get("actor"),
        action=values.get("action"),
        targets=_targets(visit, values.get("about")),
        from_us=narrowed.filter.from_us,
        to_us=narrowed.filter.to_us,
    )
    with visit.context.database.read() as connection:
        entries = audit.list_entries(connection, wanted, limit=PAGE_ROWS + 1, before_id=before)
        is_checked = query.get("check") == "1"
        broken = audit.broken_at(connection) if is_checked else None
    to = visit.address.with_query
    shown = entries[:PAGE_ROWS]
    return visit.render(
        "audit.html",
        section="audit",
        title="Audit log",
        narrowing=narrowed,
        custom=narrowed.custom,
        ranges=range_options(visit, "audit", narrowed),
        values=values,
        actions=ACTIONS,
        lines=[_line(entry) for entry in shown],
        is_checked=is_checked,
        broken=broken,
        check=to("audit", narrowed.params, check="1"),
        newest=to("audit", narrowed.params) if before else None,
        older=to("audit", narrowed.params, before=shown[-1].id) if len(entries) > PAGE_ROWS else None,
    )


def _narrowed(visit: Visit) -> Narrowing:
    query = visit.request.query_params
    period = {name: query[name] for name in ("range", "from", "to") if name in query}
    found = narrowing(period, now_us=visit.now_us)
    given = {name: query[name].strip()[:MAX_TEXT] for name in FILTERS if query.get(name, "").strip()}
    chips = tuple(Chip(name=name, label=FILTERS[name], value=ACTIONS.get(text, text)) for name, text in given.items())
    return replace(found, chips=chips, params=(*given.items(), *found.params))


def _targets(visit: Visit, about: str | None) -> tuple[str, ...] | None:
    return None if about is None else (about, *subject_names(visit.context.keyring, about))


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidInput("before: expected a number", field="before")
    return int(text)


def _line(entry: audit.Entry) -> Line:
    target = entry.target or ""
    is_turn = len(target) == 32 and entry.action.startswith(("trace.", "score."))
    details = ", ".join(f"{name}: {_text(value)}" for name, value in entry.details.items())
    return Line(entry=entry, turn_id=target if is_turn else None, details=details)


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
