"""`/subjects`: the right to be forgotten, and the right to have a copy."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import Connection

from turntrace.api import parameter, portability
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.erasures import DRY_RUN, RECEIPTS, actor, carry_out, keys_of
from turntrace.api.schema import text
from turntrace.jobs.subject import stored_ids
from turntrace.keyring import subject_names
from turntrace.records.erasure import Target
from turntrace.storage import audit

_FORM: Final = parameter.choice("format", "`jsonl` (by default) or `zip`", ("jsonl", "zip"))
_SUPPRESS: Final = parameter.choice(
    "suppress", "`true`: refuse also what the person does from now on", ("true", "false")
)


async def _delete(call: Call) -> Answer:
    target = Target(kind="subject", user_ids=stored_ids(call.context.keyring, _user(call)))
    return await carry_out(call, target, suppress=call.values.get("suppress") == "true")


async def _export(call: Call) -> Answer:
    is_zip = call.values.get("format") == "zip"
    label = subject_names(keys_of(call), _user(call))[0]
    await call.run(call.context.database.transact, _note, label, actor(call))
    user_ids = stored_ids(call.context.keyring, _user(call))
    found = await call.run(portability.records, call.context.database, user_ids)
    parts: Iterator[bytes] = portability.archive(found) if is_zip else portability.lines(found)
    name = "subject.zip" if is_zip else "subject.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    media_type = "application/zip" if is_zip else "application/x-ndjson"
    return Answer(None, headers=headers, stream=parts, media_type=media_type)


def _user(call: Call) -> str:
    found: str = call.request.path_params["user_id"]
    return found


def _note(connection: Connection, target: str, who: str) -> None:
    audit.append(connection, actor=who, action="subject.export", target=target, now_us=time.time_ns() // 1000)


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="DELETE",
        path="/subjects/{user_id:path}",
        name="eraseSubject",
        summary="Erase everything of a person that began until now; what still comes of it is refused",
        handle=_delete,
        scopes=("erase",),
        parameters=(DRY_RUN, _SUPPRESS),
        path_parameters={"user_id": "id of the user as the application knows it"},
        answers=RECEIPTS,
    ),
    Endpoint(
        method="GET",
        path="/subjects/{user_id:path}/export",
        name="exportSubject",
        summary="Everything held about a person; JSON lines, the first is a manifest, the last says if all is there",
        handle=_export,
        scopes=("read", "erase"),
        parameters=(_FORM,),
        path_parameters={"user_id": "id of the user as the application knows it"},
        answers={200: ("JSON lines, or a ZIP of them", text("one JSON object a line"))},
    ),
)
