"""What the leader does for evaluators: ask for judgements of what was stored, of sessions gone quiet, of history."""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, select, update

from turntrace.errors import InvalidInput
from turntrace.evaluation.definition import Definition, read_definition
from turntrace.pipeline.sample import share_of
from turntrace.records.evaluator import Candidate, Evaluator
from turntrace.storage import evaluations, evaluators, leases, tables
from turntrace.storage.database import Database
from turntrace.storage.queries import candidates
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.queries.candidates import Place, Rule
from turntrace.storage.queries.cursor import decode, encode

# A transaction is seen when it commits, not at the time it wrote down: what is recent is looked at again.
OVERLAP_US: Final = 120_000_000
SESSION_OVERLAP_US: Final = 600_000_000
WATERMARK_EVERY_US: Final = 60_000_000
PAGE: Final = 500
MOST_PAGES: Final = 20
BACKFILL_AHEAD: Final = 2_000  # judgements of a backfill that may wait at a time: live ones come first

_b = tables.backfill.c
_n = tables.evaluation.c


def rule_of(evaluator_id: str, version: int, definition: Definition) -> Rule:
    """What a definition matches."""
    return Rule(
        evaluator_id=evaluator_id,
        version=version,
        target=definition.target,
        filter=definition.filter,
        max_depth=definition.max_depth,
        idle_us=int(definition.idle_seconds * 1_000_000),
    )


def definition_of(evaluator: Evaluator) -> Definition:
    """A stored definition, read.

    Raises:
        InvalidInput: this release cannot read it.
    """
    return read_definition(evaluator.definition)[0]


def sampled(items: Iterable[Candidate], evaluator_id: str, rate: float) -> list[Candidate]:
    """The share of the candidates that is judged: always the same ones for an evaluator, whoever asks."""
    return [item for item in items if rate >= 1 or share_of(f"{evaluator_id}:{_unit(item)}") < rate]


def _unit(item: Candidate) -> str:
    return f"{item.session_id}\x1f{item.user_id}" if item.target == "session" else item.target_id


def plan(database: Database, evaluator: Evaluator, *, now_us: int, lease: leases.Lease | None = None) -> int:
    """Ask for judgements of all that an evaluator has not looked at yet; answers how many are new.

    Args:
        lease: held by the caller: nothing is written once it is another's.
    """
    try:
        definition = definition_of(evaluator)
    except InvalidInput:
        _block(database, evaluator, now_us)
        return 0
    rule = rule_of(evaluator.id, evaluator.version, definition)
    is_session = definition.target == "session"
    overlap_us = rule.idle_us + SESSION_OVERLAP_US if is_session else OVERLAP_US
    place: Place | None = (evaluator.watermark_us - (rule.idle_us if is_session else 0), "")
    planned = 0
    for _ in range(MOST_PAGES):
        assert place is not None
        with database.read() as connection:
            look = candidates.idle if is_session else candidates.stored
            found = look(connection, rule, since=place, until_us=now_us, limit=PAGE)
        wanted = sampled(found.items, evaluator.id, definition.sample_rate)
        reached = now_us - overlap_us if found.next is None else found.next[0]
        if is_session:
            reached += rule.idle_us
        if wanted or reached - evaluator.watermark_us >= WATERMARK_EVERY_US:  # an idle look writes nothing
            planned += database.transact(_plan, evaluator, wanted, definition, reached, now_us, lease)
        place = found.next
        if place is None:
            break
    return planned


def is_behind(evaluator: Evaluator, slot_at_us: int) -> bool:
    """Whether the look of a slot left something that was stored before it."""
    return evaluator.watermark_us < slot_at_us - SESSION_OVERLAP_US - WATERMARK_EVERY_US


def _plan(
    connection: Connection,
    evaluator: Evaluator,
    wanted: Sequence[Candidate],
    definition: Definition,
    watermark_us: int,
    now_us: int,
    lease: leases.Lease | None,
) -> int:
    if lease is not None and not leases.hold(connection, lease):
        return 0
    evaluators.advance(connection, evaluator.id, watermark_us)
    delay_us = int(definition.delay_seconds * 1_000_000)
    return evaluations.plan(connection, evaluator, wanted, delay_us=delay_us, now_us=now_us)


def _block(database: Database, evaluator: Evaluator, now_us: int) -> None:
    """A definition that this release cannot read: shown with its reason, tried again later."""
    failures = evaluators.FAILURES_TO_BLOCK
    database.transact(evaluators.note_failures, evaluator.id, "definition_unreadable", count=failures, now_us=now_us)


# --- history --------------------------------------------------------------------------------------------------------


def advance_backfills(database: Database, *, now_us: int) -> int:
    """Ask for the next judgements of every running backfill, newest turns first; answers how many are new."""
    with database.read() as connection:
        running = list(connection.execute(select(_b.id).where(_b.status == "running").order_by(_b.id)).scalars())
    return sum(database.transact(_advance_backfill, backfill_id, now_us) for backfill_id in running)


def _advance_backfill(connection: Connection, backfill_id: str, now_us: int) -> int:
    row = (
        connection.execute(
            select(tables.backfill).where(_b.id == backfill_id, _b.status == "running").with_for_update()
        )
        .mappings()
        .first()
    )
    if row is None or _waiting(connection, backfill_id) >= BACKFILL_AHEAD:
        return 0
    evaluator = queries.get(connection, row["evaluator_id"], version=row["evaluator_version"])
    definition = definition_of(evaluator)
    rule = rule_of(evaluator.id, evaluator.version, definition)
    found = _history(connection, rule, row["from_us"], row["to_us"], row["cursor"])
    wanted = sampled(found.items, evaluator.id, definition.sample_rate)
    planned = evaluations.plan(connection, evaluator, wanted, delay_us=0, now_us=now_us, backfill_id=backfill_id)
    values = {"planned": row["planned"] + planned, "updated_at_us": now_us}
    if found.next is None:
        values |= {"status": "done", "finished_at_us": now_us}
    else:
        values["cursor"] = encode(*found.next)
    connection.execute(update(tables.backfill).where(_b.id == backfill_id).values(values))
    return planned


def _history(connection: Connection, rule: Rule, from_us: int, to_us: int, cursor: str | None) -> candidates.Matches:
    at = decode(cursor)
    if rule.target == "session":
        since = at or (from_us, "")
        return candidates.idle(connection, rule, since=since, until_us=to_us + rule.idle_us, limit=PAGE)
    return candidates.started(connection, rule, from_us=from_us, before=at or (to_us, "g"), limit=PAGE)


def _waiting(connection: Connection, backfill_id: str) -> int:
    open_ones = select(_n.id).where(_n.backfill_id == backfill_id, _n.status.in_(("pending", "claimed")))
    return len(connection.execute(open_ones.limit(BACKFILL_AHEAD)).all())
