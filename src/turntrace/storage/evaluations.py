"""Judgements to be made: planned once per target and version, claimed by one worker, ended once.

At least once, in effect exactly once: a worker that dies leaves a claim that runs out; one that was only slow finds at
its end that the claim is another's, and writes nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, or_, select, update

from turntrace.errors import NotFound
from turntrace.records.evaluator import Candidate, Claim, Evaluator, Outcome
from turntrace.records.score import Score
from turntrace.storage import bulk, evaluators, leases, scores, tables, tombstones
from turntrace.storage.queries import evaluators as queries

MOST_ATTEMPTS: Final = 8
LEASE_US: Final = 120_000_000
DAY_US: Final = 86_400_000_000
UNKNOWN_COST_NANO: Final = 10_000_000  # a cent: what is reserved, and counted, for a run without a known price
_FIRST_PAUSE_US: Final = 1_000_000
_LONGEST_PAUSE_US: Final = 600_000_000

_n = tables.evaluation.c
_b = tables.budget.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A claim with how it ended, and its score where it came to a verdict."""

    claim: Claim
    outcome: Outcome
    score: Score | None = None


def plan(
    connection: Connection,
    evaluator: Evaluator,
    candidates: Iterable[Candidate],
    *,
    delay_us: int,
    now_us: int,
    backfill_id: str | None = None,
) -> int:
    """Ask for judgements of these; those asked for before stay as they are. Answers how many are new."""
    rows = [
        {
            "target": item.target,
            "target_id": item.target_id,
            "evaluator_id": evaluator.id,
            "evaluator_version": evaluator.version,
            "status": "pending",
            "attempt": 0,
            "due_at_us": item.stored_at_us + delay_us,
            "reserved_nano": 0,
            "backfill_id": backfill_id,
            "turn_id": item.turn_id,
            "span_id": item.span_id,
            "session_id": item.session_id,
            "user_id": item.user_id,
            "created_at_us": now_us,
        }
        for item in candidates
    ]
    if not rows:
        return 0
    return int(connection.execute(bulk.insert_missing(connection.dialect.name, tables.evaluation), rows).rowcount)


def is_due(connection: Connection, *, now_us: int) -> bool:
    """Whether there is anything to claim."""
    runnable = [item.id for item in queries.list_evaluators(connection) if _may_run(item, now_us)]
    if not runnable:
        return False
    now = leases.now_us(connection.dialect.name)
    pending = select(_n.id).where(_n.status == "pending", _n.due_at_us <= now_us).limit(1)
    left = select(_n.id).where(_n.status == "claimed", _n.lease_until_us < now).limit(1)
    is_own = _n.evaluator_id.in_(runnable)
    return any(connection.execute(statement.where(is_own)).first() is not None for statement in (pending, left))


def claim(
    connection: Connection,
    owner: str,
    *,
    limit: int,
    now_us: int,
    budget_of: Callable[[Evaluator], int | None],
    lease_us: int = LEASE_US,
) -> list[Claim]:
    """Take on judgements that are due, of evaluators that are on and not blocked; none that another worker holds.

    Args:
        budget_of: nano-dollars that an evaluator may spend in a UTC day; None: without bound.
    """
    runnable = {item.id: item for item in queries.list_evaluators(connection) if _may_run(item, now_us)}
    if not runnable:
        return []
    now = leases.now_us(connection.dialect.name)
    is_due = or_(
        and_(_n.status == "pending", _n.due_at_us <= now_us),
        and_(_n.status == "claimed", _n.lease_until_us < now),
    )
    found = select(tables.evaluation).where(is_due, _n.evaluator_id.in_(list(runnable)))
    rows = connection.execute(
        found.order_by(_n.due_at_us, _n.id).limit(limit).with_for_update(skip_locked=True)
    ).mappings()
    taken = _within_budgets(connection, list(rows), runnable, budget_of, now_us)
    for row, reserved in taken:
        values = {"status": "claimed", "owner": owner, "attempt": row["attempt"] + 1, "reserved_nano": reserved}
        changed = update(tables.evaluation).where(_n.id == row["id"])
        connection.execute(changed.values(**values, lease_until_us=now + lease_us))
    return [_claim(row, owner, reserved) for row, reserved in taken]


def _may_run(evaluator: Evaluator, now_us: int) -> bool:
    return evaluator.is_enabled and (evaluator.blocked_until_us is None or evaluator.blocked_until_us <= now_us)


def _claim(row: RowMapping, owner: str, reserved: int) -> Claim:
    names = ("target", "target_id", "turn_id", "span_id", "session_id", "user_id")
    return Claim(
        id=row["id"],
        evaluator_id=row["evaluator_id"],
        evaluator_version=row["evaluator_version"],
        owner=owner,
        attempt=row["attempt"] + 1,
        reserved_nano=reserved,
        candidate=Candidate(**{name: row[name] for name in names}),
    )


# --- money ----------------------------------------------------------------------------------------------------------


def _within_budgets(
    connection: Connection,
    rows: Sequence[RowMapping],
    runnable: dict[str, Evaluator],
    budget_of: Callable[[Evaluator], int | None],
    now_us: int,
) -> list[tuple[RowMapping, int]]:
    """The rows that may run with what is reserved for each; the others wait for the next UTC day."""
    taken: list[tuple[RowMapping, int]] = []
    for evaluator_id in sorted({row["evaluator_id"] for row in rows}):
        evaluator = runnable[evaluator_id]
        own = [row for row in rows if row["evaluator_id"] == evaluator_id]
        cap = budget_of(evaluator)
        # What an owner that died had reserved stays spent: it may have asked.
        each = 0 if cap is None else queries.mean_cost(connection, evaluator_id) or UNKNOWN_COST_NANO
        affordable = len(own) if cap is None else _reserve(connection, evaluator_id, cap, each, len(own), now_us)
        taken += [(row, each) for row in own[:affordable]]
        late = [row["id"] for row in own[affordable:]]
        if late:
            tomorrow = now_us - now_us % DAY_US + DAY_US
            waits = update(tables.evaluation).where(_n.id.in_(late))
            connection.execute(waits.values(status="pending", due_at_us=tomorrow, error_type="budget_spent"))
    return taken


def _reserve(connection: Connection, evaluator_id: str, cap: int, each: int, wanted: int, now_us: int) -> int:
    """Reserve money for as many runs as the rest of today's budget allows; answers for how many."""
    name, day = f"evaluator:{evaluator_id}", now_us - now_us % DAY_US
    fresh = {"name": name, "day_at_us": day, "cap_nano": cap, "spent_nano": 0, "reserved_nano": 0}
    connection.execute(bulk.insert_missing(connection.dialect.name, tables.budget).values(fresh))
    is_today = and_(_b.name == name, _b.day_at_us == day)
    row = connection.execute(select(_b.spent_nano, _b.reserved_nano).where(is_today).with_for_update()).one()
    rest = cap - row.spent_nano - row.reserved_nano
    runs = max(0, min(wanted, rest // each if each else wanted))
    reserved = _b.reserved_nano + runs * each
    connection.execute(update(tables.budget).where(is_today).values(cap_nano=cap, reserved_nano=reserved))
    return int(runs)


def _settle(connection: Connection, ended: Ended, now_us: int) -> None:
    """What was reserved becomes what was spent; a run without a known price counts as what was reserved for it."""
    reserved = ended.claim.reserved_nano
    if not reserved:
        return
    has_asked = ended.outcome.judge_turn_id is not None or ended.outcome.cost_nano is not None
    spent = ended.outcome.cost_nano if ended.outcome.cost_nano is not None else reserved if has_asked else 0
    name, day = f"evaluator:{ended.claim.evaluator_id}", now_us - now_us % DAY_US
    changes = {"reserved_nano": _b.reserved_nano - reserved, "spent_nano": _b.spent_nano + spent}
    # Claimed before midnight and ended after it: yesterday's reservation no longer holds anybody back.
    held = and_(_b.name == name, _b.day_at_us == day, _b.reserved_nano >= reserved)
    connection.execute(update(tables.budget).where(held).values(changes))


# --- ends -----------------------------------------------------------------------------------------------------------


def finish(connection: Connection, ended: Sequence[Ended], *, now_us: int) -> int:
    """Write down how claims ended, with their scores, in one transaction; answers how many were still ours."""
    tombstones.take_fence(connection)
    written = 0
    failures: dict[str, list[str]] = {}
    for item in ended:
        if not _end(connection, item, now_us):
            _bury_run(connection, item.outcome.judge_turn_id, now_us)
            continue
        written += 1
        _settle(connection, item, now_us)
        if item.outcome.error is not None:
            failures.setdefault(item.claim.evaluator_id, []).append(item.outcome.error)
    good = {item.claim.evaluator_id for item in ended if item.outcome.error is None}
    for evaluator_id in sorted(good - set(failures)):
        evaluators.note_success(connection, evaluator_id)
    for evaluator_id, reasons in sorted(failures.items()):
        if evaluator_id not in good:
            evaluators.note_failures(connection, evaluator_id, reasons[-1], count=len(reasons), now_us=now_us)
    return written


def _end(connection: Connection, ended: Ended, now_us: int) -> bool:
    """False where the claim is another's by now, or was erased."""
    score_id = _put_score(connection, ended, now_us)
    values = _end_values(ended, score_id, now_us)
    is_ours = (
        _n.id == ended.claim.id,
        _n.status == "claimed",
        _n.owner == ended.claim.owner,
        _n.attempt == ended.claim.attempt,
    )
    return connection.execute(update(tables.evaluation).where(*is_ours).values(values)).rowcount == 1


def _end_values(ended: Ended, score_id: str | None, now_us: int) -> dict[str, Any]:
    outcome = ended.outcome
    values: dict[str, Any] = {"owner": None, "lease_until_us": None, "reserved_nano": 0}
    values |= {"error_type": outcome.error, "judge_turn_id": outcome.judge_turn_id}
    values["cost_total_nano"] = outcome.cost_nano
    if outcome.error is not None and not outcome.is_final and ended.claim.attempt < MOST_ATTEMPTS:
        return {**values, "status": "pending", "due_at_us": now_us + _pause_us(ended)}
    status = "failed" if outcome.error is not None else "done" if score_id is not None else "skipped"
    return {**values, "status": status, "score_id": score_id, "finished_at_us": now_us}


def _pause_us(ended: Ended) -> int:
    asked_for = int((ended.outcome.retry_after_seconds or 0) * 1_000_000)
    return min(_LONGEST_PAUSE_US, max(asked_for, _FIRST_PAUSE_US << (ended.claim.attempt - 1)))


def _put_score(connection: Connection, ended: Ended, now_us: int) -> str | None:
    """Store the score; a claim that is no longer ours has none, and neither has a target that is gone."""
    if ended.score is None or not _is_held(connection, ended.claim):
        return None
    try:
        return scores.upsert(connection, ended.score, now_us=now_us).score.id
    except NotFound:
        return None


def _is_held(connection: Connection, held: Claim) -> bool:
    is_ours = (_n.id == held.id, _n.status == "claimed", _n.owner == held.owner, _n.attempt == held.attempt)
    return connection.execute(select(_n.id).where(*is_ours).with_for_update()).first() is not None


def _bury_run(connection: Connection, judge_turn_id: str | None, now_us: int) -> None:
    """The trace of a run whose target was erased meanwhile must not be stored: nothing would lead to it."""
    if judge_turn_id is None:
        return
    tombstones.take_fence(connection, exclusive=True)
    tombstones.add(connection, [tombstones.Row(tombstones.TURN, judge_turn_id, None)], now_us=now_us)


def score_id(candidate: Candidate, evaluator_id: str, version: int) -> str:
    """The id of the one score that a version of an evaluator gives to a target: a second one replaces the first."""
    if candidate.target == "session":
        target = f"{candidate.session_id}\x1f{candidate.user_id or ''}"
    else:
        target = candidate.target_id
    text = f"{target}\x1e{evaluator_id}\x1e{version}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


def retry_failed(connection: Connection, evaluator_id: str, *, now_us: int) -> int:
    """Try again what has failed for good, by the version that failed; answers how many."""
    failed = update(tables.evaluation).where(_n.evaluator_id == evaluator_id, _n.status == "failed")
    return int(connection.execute(failed.values(status="pending", attempt=0, due_at_us=now_us)).rowcount)
