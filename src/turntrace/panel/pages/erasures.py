"""Erasures: what was erased when, and the receipts, which name nobody."""

from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.gate.role import Role
from turntrace.panel.visit import Visit, visit_of
from turntrace.storage import receipts

SHOWN: Final = 100
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


def _operator(request: Request) -> Visit:
    visit = visit_of(request)
    if not visit.viewer.may(Role.OPERATOR) or visit.viewer.scope is not None:
        raise HTTPException(403)
    return visit
