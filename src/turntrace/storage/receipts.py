"""Erasures as rows: asked for under the fence, counted up batch by batch, and signed as receipts."""

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, insert, select, update

from turntrace.errors import KeyMissing, NotFound
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Receipt, Target, written
from turntrace.storage import strays, tables, tombstones

SIGN_PURPOSE: Final = b"turntrace erasure receipts"
# Hosts' clocks differ: a turn that is stored already was before the erasure, whatever its start says.
SKEW_US: Final = 5 * 60 * 1_000_000
_ALGORITHM: Final = "hmac-sha256"
_e, _t = tables.erasure.c, tables.trace.c


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure that is not finished."""

    id: str
    target: Target
    status: str
    counts: Mapping[str, int]
    actor: str = ""
    staged: tuple[str, ...] = ()  # blobs that writers were at when it was asked for: it ends after them


def ask(
    connection: Connection,
    target: Target,
    *,
    erasure_id: str,
    now_us: int,
    suppress: bool = False,
    actor: str = "",
) -> Erasure:
    """Put an erasure and its tombstones down: from the commit on, nothing of the target comes in.

    Args:
        suppress: refuse what the person does later, too.
        actor: who asks, for the audit log.
    """
    digest_key = tombstones.take_fence(connection, exclusive=True)
    until_us = None if suppress else _end(connection, target, now_us)
    asked = replace(target, until_us=until_us)
    subjects = [tombstones.subject_digest(digest_key, user_id) for user_id in asked.user_ids]
    row = {
        "id": erasure_id,
        "kind": asked.kind,
        "status": "pending",
        "subject": subjects[0] if subjects else None,
        "request": _written(asked, actor, strays.staged(connection)),
        "created_at_us": now_us,
    }
    connection.execute(insert(tables.erasure).values(row))
    tombstones.add(connection, _tombstones(asked, subjects, digest_key), now_us=now_us, erasure_id=erasure_id)
    return Erasure(erasure_id, asked, "pending", {}, actor)


def _end(connection: Connection, target: Target, now_us: int) -> int:
    latest = select(_t.started_at_us).where(_t.user_id.in_(target.user_ids)).order_by(_t.started_at_us.desc()).limit(1)
    found = connection.execute(latest).scalar() if target.user_ids else None
    return max(now_us, min(found or 0, now_us + SKEW_US))


def _tombstones(target: Target, subjects: Iterable[str], digest_key: str) -> Iterable[tombstones.Row]:
    until_us = target.until_us
    found = [tombstones.Row(tombstones.SUBJECT, digest, until_us) for digest in subjects]
    found += [tombstones.Row(tombstones.TURN, turn_id, None) for turn_id in target.turn_ids]
    for session_id, user_id in target.sessions:
        digest = tombstones.session_digest(digest_key, session_id, user_id)
        found.append(tombstones.Row(tombstones.SESSION, digest, until_us))
    return found


def _written(target: Target, actor: str, staged: Sequence[str]) -> str:
    fields = ("user_ids", "turn_ids", "sessions", "until_us")
    return json.dumps({"actor": actor, "staged": staged, **{name: getattr(target, name) for name in fields}})


def _read(kind: str, found: Mapping[str, Any]) -> Target:
    return Target(
        kind=kind,
        user_ids=tuple(found.get("user_ids", ())),
        turn_ids=tuple(found.get("turn_ids", ())),
        sessions=tuple((session_id, user_id) for session_id, user_id in found.get("sessions", ())),
        until_us=found.get("until_us"),
    )


def hold(connection: Connection, erasure_id: str) -> Erasure | None:
    """An erasure whose rows are not all gone, locked until the transaction ends; None: it has been finished."""
    statement = select(tables.erasure).where(_e.id == erasure_id, _e.request.is_not(None)).with_for_update()
    row = connection.execute(statement).mappings().first()
    if row is None:
        return None
    asked = json.loads(row["request"])
    actor, staged = asked.get("actor", ""), tuple(asked.get("staged", ()))
    return Erasure(row["id"], _read(row["kind"], asked), row["status"], _counts(row), actor, staged)


def progress(connection: Connection, erasure: Erasure, counts: Mapping[str, int], *, now_us: int) -> None:
    """Add to the counts of an erasure, in the transaction that deleted the rows."""
    total = {name: erasure.counts.get(name, 0) + counts.get(name, 0) for name in {*erasure.counts, *counts}}
    values: dict[str, Any] = {"counts": json.dumps(total), "status": "running"}
    connection.execute(update(tables.erasure).where(_e.id == erasure.id).values(values))
    begun = update(tables.erasure).where(_e.id == erasure.id, _e.started_at_us.is_(None))
    connection.execute(begun.values(started_at_us=now_us))


def finish(connection: Connection, erasure_id: str, *, keys: KeyRing, physical: str, now_us: int) -> Receipt:
    """Every row is gone, and that was verified: forget who it was, and sign.

    Args:
        physical: what is known of deleted bytes in the file: `pending`, or as in `scrubbed`.
    """
    connection.execute(
        update(tables.erasure)
        .where(_e.id == erasure_id)
        .values(
            status="scrubbing" if physical == "pending" else "done",
            request=None,
            subject=None,
            finished_at_us=now_us,
            verification=json.dumps({"remaining": {}, "verified_at": written(now_us), "physical": physical}),
        )
    )
    return _sign(connection, erasure_id, keys)


def scrubbed(connection: Connection, erasure_id: str, *, keys: KeyRing, physical: str, now_us: int) -> Receipt:
    """Deleted bytes are out of the file, too, as far as that is ours to do (`storage.scrub`)."""
    known = get(connection, erasure_id)
    if known.status != "scrubbing":
        return known
    verification = {**known.verification, "physical": physical, "scrubbed_at": written(now_us)}
    values = {"status": "done", "verification": json.dumps(verification)}
    connection.execute(update(tables.erasure).where(_e.id == known.id).values(values))
    return _sign(connection, erasure_id, keys)


def get(connection: Connection, erasure_id: str) -> Receipt:
    """The receipt of an erasure.

    Raises:
        NotFound: there is none of this id.
    """
    row = connection.execute(select(tables.erasure).where(_e.id == erasure_id)).mappings().first()
    if row is None:
        raise NotFound("no such erasure")
    return _receipt(row)


def list_receipts(connection: Connection, *, limit: int = 50) -> tuple[Receipt, ...]:
    """The latest first."""
    statement = select(tables.erasure).order_by(_e.created_at_us.desc(), _e.id.desc()).limit(limit)
    return tuple(_receipt(row) for row in connection.execute(statement).mappings())


def unfinished(connection: Connection, status: tuple[str, ...] = ("pending", "running")) -> list[str]:
    """Ids of erasures with something left to do, the oldest first."""
    statement = select(_e.id).where(_e.status.in_(status)).order_by(_e.created_at_us, _e.id).limit(1000)
    return [row[0] for row in connection.execute(statement)]


def is_valid(document: Mapping[str, Any], keys: KeyRing) -> bool:
    """Whether the signature of a receipt (as `Receipt.document()`) is ours and fits it."""
    algorithm, _, rest = str(document.get("signature") or "").partition(":")
    key_id, _, digest = rest.partition(":")
    if algorithm != _ALGORITHM or not digest:
        return False
    try:
        return hmac.compare_digest(_digest(document, keys, key_id), digest)
    except KeyMissing:
        return False


def _sign(connection: Connection, erasure_id: str, keys: KeyRing) -> Receipt:
    receipt = get(connection, erasure_id)
    signature = f"{_ALGORITHM}:{keys.current_id}:{_digest(receipt.document(), keys, keys.current_id)}"
    connection.execute(update(tables.erasure).where(_e.id == erasure_id).values(signature=signature))
    return replace(receipt, signature=signature)


def _digest(document: Mapping[str, Any], keys: KeyRing, key_id: str) -> str:
    signed = {name: value for name, value in document.items() if name != "signature"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return hmac.digest(keys.derive(SIGN_PURPOSE, key_id=key_id), text.encode(), "sha256").hex()


def _counts(row: RowMapping) -> dict[str, int]:
    return {name: int(n) for name, n in json.loads(row["counts"] or "{}").items()}


def _receipt(row: RowMapping) -> Receipt:
    return Receipt(
        id=row["id"],
        kind=row["kind"],
        status=row["status"],
        counts=_counts(row),
        requested_at_us=row["created_at_us"],
        started_at_us=row["started_at_us"],
        finished_at_us=row["finished_at_us"],
        verification=json.loads(row["verification"] or "{}"),
        signature=row["signature"],
    )
