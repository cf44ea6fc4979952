"""`/erasures`, and the deletion of one trace or session: each answers a receipt."""

from collections.abc import Sequence
from typing import Any, Final

from turntrace.api import parameter
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.problem import Problem
from turntrace.api.schema import Schema, reference
from turntrace.jobs import erase
from turntrace.jobs.subject import stored_ids
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Receipt, Target
from turntrace.storage import receipts
from turntrace.storage.queries import subject

DRY_RUN: Final = parameter.choice("dry_run", "`true`: count what would go, change nothing", ("true", "false"))
RECEIPTS: Final[dict[int, tuple[str, Schema]]] = {
    200: ("the receipt: every row is gone, and that was verified", reference("Receipt")),
    202: ("it takes longer: ask `GET /erasures/{id}` until `finished_at` is there", reference("Receipt")),
}


def keys_of(call: Call) -> KeyRing:
    """The key ring that signs.

    Raises:
        Problem: 503, this process has none.
    """
    if call.context.keyring is None:
        raise Problem(503, "keys", "There are no keys to sign with", "Set `secret_key`.")
    return call.context.keyring


def actor(call: Call) -> str:
    """Who asks, for the audit log."""
    return f"key {call.principal.name}" if call.principal else "nobody"


async def carry_out(call: Call, target: Target, *, suppress: bool = False) -> Answer:
    """Erase, or only count where the call asks for that."""
    if call.values.get("dry_run") == "true":
        return _answer(await call.read(erase.rehearse, target, suppress=suppress))
    found = await call.run(
        erase.erase_at_once,
        call.context.database,
        target,
        keys_of(call),
        actor=actor(call),
        suppress=suppress,
        archive_dir=call.context.settings.archive_dir,
    )
    return _answer(found)


def _answer(receipt: Receipt) -> Answer:
    is_over = receipt.is_finished or receipt.is_dry_run
    return Answer(receipt.document(), 200 if is_over else 202)


async def _get(call: Call) -> Answer:
    return Answer((await call.read(receipts.get, call.request.path_params["erasure_id"])).document())


async def _list(call: Call) -> Answer:
    found = await call.read(receipts.list_receipts, limit=call.values.get("limit", 100))
    return Answer({"data": [receipt.document() for receipt in found], "next_cursor": None})


async def _delete_trace(call: Call) -> Answer:
    return await carry_out(call, await call.read(subject.turn_target, call.request.path_params["trace_id"]))


async def _delete_session(call: Call) -> Answer:
    session_id, user_id = call.request.path_params["session_id"], call.values.get("user_id")
    users = None if user_id is None else stored_ids(call.context.keyring, user_id)
    target = await call.read(subject.session_target, session_id.replace("\x00", "\ufffd"), users)
    known = [user for _, user in target.sessions if user]
    if user_id is None and len(known) > 1:
        detail = "Name one of `user_ids` with the parameter `user_id`."
        raise Problem(409, "several-users", "Several users have a session of this id", detail, user_ids=known)
    return await carry_out(call, target)


_LIMIT: Final[Any] = parameter.paging()[:1]

ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/erasures",
        name="listErasures",
        summary="Receipts of erasures, the latest first",
        handle=_list,
        scopes=("erase", "admin"),
        parameters=_LIMIT,
        answers={200: ("receipts", reference("Receipts"))},
    ),
    Endpoint(
        method="GET",
        path="/erasures/{erasure_id}",
        name="getErasure",
        summary="A receipt again; it is finished when `finished_at` is there",
        handle=_get,
        scopes=("erase", "admin"),
        path_parameters={"erasure_id": "`id` of the receipt"},
        answers={200: ("the receipt as it stands now", reference("Receipt"))},
    ),
    Endpoint(
        method="DELETE",
        path="/traces/{trace_id}",
        name="eraseTrace",
        summary="Erase one turn and everything made from it; what still comes of it is refused",
        handle=_delete_trace,
        scopes=("erase",),
        parameters=(DRY_RUN,),
        path_parameters={"trace_id": "`id` of the turn, or a W3C trace id that only one turn has"},
        answers=RECEIPTS,
    ),
    Endpoint(
        method="DELETE",
        path="/sessions/{session_id:path}",
        name="eraseSession",
        summary="Erase the turns of one conversation that began until now",
        handle=_delete_session,
        scopes=("erase",),
        parameters=(DRY_RUN, parameter.text("user_id", "the session of this user")),
        path_parameters={"session_id": "id of the session"},
        answers=RECEIPTS,
    ),
)
