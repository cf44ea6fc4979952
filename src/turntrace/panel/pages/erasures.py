"""Erasures: what was erased when, and the receipts, which name nobody."""

from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import InvalidInput
from turntrace.jobs import erase
from turntrace.panel.visit import Visit, visit_of
from turntrace.records.erasure import Target
from turntrace.storage import receipts
from turntrace.storage.queries import subject

SHOWN: Final = 100
WORD: Final = "erase"  # typed by hand before a turn or conversation goes
WAIT_SECONDS: Final = 10.0  # for a receipt; then its page waits
KINDS: Final = {"subject": "person", "turn": "turn", "session": "conversation"}
# Tables by what people call them; others by their name.
TABLES: Final = {
    "archive": "archived turns",
    "content": "texts of turns",
    "observation": "steps",
    "received": "pieces received over OTLP",
    "rollup": "sums",
    "sampled": "notes of sampling",
    "trace": "turns",
}
PHYSICAL: Final = {
    "done": "no byte is left in the file",
    "pending": "bytes are still to be overwritten in the file; this happens by itself",
    "checkpointed": "the log is empty; copies in free space of pages stay until VACUUM is run on the host's file",
    "server": "pages, logs and backups of the database server are the operator's to purge: see “Erasure” in the docs",
}


def show(request: Request) -> Response:
    """`GET /erasures`."""
    visit = _operator(request)
    with visit.context.database.read() as connection:
        found = receipts.list_receipts(connection, limit=SHOWN)
    return visit.render("erasures.html", section="users", title="Erasures", receipts=found, kinds=KINDS)


def one(request: Request) -> Response:
    """`GET /erasures/{erasure_id}`."""
    visit = _operator(request)
    with visit.context.database.read() as connection:
        receipt = receipts.get(connection, request.path_params["erasure_id"])
    return visit.render(
        "erasure.html",
        section="users",
        title="Receipt",
        receipt=receipt,
        kinds=KINDS,
        names=TABLES,
        physical=PHYSICAL.get(str(receipt.verification.get("physical"))),
        is_valid=receipts.is_valid(receipt.document(), visit.context.keyring) if receipt.signature else None,
    )


def as_json(request: Request) -> Response:
    """`GET /erasures/{erasure_id}.json`: the receipt as a file, to keep."""
    visit = _operator(request)
    with visit.context.database.read() as connection:
        receipt = receipts.get(connection, request.path_params["erasure_id"])
    headers = {"content-disposition": f'attachment; filename="erasure-{receipt.id}.json"'}
    return Response(orjson.dumps(receipt.document(), option=orjson.OPT_INDENT_2), 200, headers, "application/json")


def erase_turn(request: Request) -> Response:
    """`POST /subjects/turn`: fields `turn_id`, and `typed`: the word `erase`."""
    visit = _operator(request)
    _check_typed(visit)
    with visit.context.database.read() as connection:
        target = subject.turn_target(connection, visit.form.get("turn_id", ""))
    return _carry_out(visit, target)


def erase_session(request: Request) -> Response:
    """`POST /subjects/session`: fields `session_id`, `user_id` (empty: of nobody known), and `typed`."""
    visit = _operator(request)
    _check_typed(visit)
    session_id, user_id = visit.form.get("session_id", ""), visit.form.get("user_id", "")
    with visit.context.database.read() as connection:
        target = subject.session_target(connection, session_id, (user_id, "") if user_id else ("",))
    return _carry_out(visit, target)


def _check_typed(visit: Visit) -> None:
    if visit.form.get("typed", "").strip().lower() != WORD:
        raise InvalidInput(f"typed: type the word {WORD}; nothing was erased", field="typed")


def _carry_out(visit: Visit, target: Target) -> Response:
    receipt = erase.erase_at_once(
        visit.context.database,
        target,
        visit.context.keyring,
        actor=visit.viewer.name,
        seconds=WAIT_SECONDS,
        archive_dir=visit.context.settings.archive_dir,
    )
    return visit.back_to(f"erasures/{receipt.id}")


def _operator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.may_erase:
        raise HTTPException(403)
    return visit
