"""Judgements to be made: planned once per target and version, claimed by one worker, ended once.

At least once, in effect exactly once: a worker that dies leaves a claim that runs out; one that was only slow finds at
its end that the claim is another's, and writes nothing.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, bindparam, or_, select, update

from turntrace.records.evaluator import Candidate, Claim, Evaluator, Outcome
from turntrace.records.score import Score
from turntrace.storage import allowance, bulk, evaluators, leases, repeats, scores, tables, tombstones
from turntrace.storage.queries import evaluators as queries

MOST_ATTEMPTS: Final = 8
LEASE_US: Final = 120_000_000
_FIRST_PAUSE_US: Final = 1_000_000
_LONGEST_PAUSE_US: Final = 600_000_000

_n = tables.evaluation.c


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
    taken: list[Claim] = []
    for evaluator_id, own in _by_evaluator(list(rows)).items():
        cap = budget_of(runnable[evaluator_id])
        runs, each = allowance.reserve(connection, evaluator_id, cap, len(own), now_us=now_us)
        _take(connection, [row["id"] for row in own[:runs]], owner, each, now + lease_us)
        _put_off(connection, [row["id"] for row in own[runs:]], now_us)
        taken += [_claim(row, owner, each) for row in own[:runs]]
    return taken


def _by_evaluator(rows: Sequence[RowMapping]) -> dict[str, list[RowMapping]]:
    """In one order for all workers, since each locks the evaluator's budget."""
    ordered = sorted(rows, key=itemgetter("evaluator_id"))
    return {evaluator_id: list(own) for evaluator_id, own in groupby(ordered, itemgetter("evaluator_id"))}


def _take(connection: Connection, ids: Sequence[int], owner: str, reserved: int, until_us: int) -> None:
    if not ids:
        return
    values = {"status": "claimed", "owner": owner, "reserved_nano": reserved, "lease_until_us": until_us}
    taken = update(tables.evaluation).where(_n.id.in_(ids))
    connection.execute(taken.values(**values, attempt=_n.attempt + 1))


def _put_off(connection: Connection, ids: Sequence[int], now_us: int) -> None:
    """Today's money is spent: these wait for the next UTC day."""
    if not ids:
        return
    tomorrow = now_us - now_us % allowance.DAY_US + allowance.DAY_US
    waits = update(tables.evaluation).where(_n.id.in_(ids))
    connection.execute(waits.values(status="pending", due_at_us=tomorrow, error_type="budget_spent"))


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
        is_repeat=row["repeat_number"] > 0,
        candidate=Candidate(**{name: row[name] for name in names}),
    )


def renew(connection: Connection, claims: Sequence[Claim], *, lease_us: int = LEASE_US) -> int:
    """Prolong claims that are under way; answers how many are still ours."""
    held = _held(connection, claims)
    ids = [claim.id for claim in claims if triple(claim) in held]
    if ids:
        until_us = leases.now_us(connection.dialect.name) + lease_us
        connection.execute(update(tables.evaluation).where(_n.id.in_(ids)).values(lease_until_us=until_us))
    return len(ids)


# --- ends -----------------------------------------------------------------------------------------------------------


def finish(connection: Connection, ended: Sequence[Ended], *, now_us: int) -> int:
    """Write down how claims ended, with their scores, in one transaction; answers how many were still ours."""
    tombstones.take_fence(connection)
    held = _held(connection, [item.claim for item in ended])
    ours = [item for item in ended if triple(item.claim) in held]
    given = scores.put_judged(connection, [item.score for item in ours if item.score is not None], now_us=now_us)
    _write(connection, [_end_row(item, given, now_us) for item in ours])
    allowance.settle(connection, [(item.claim, item.outcome) for item in ours], now_us=now_us)
    _note_health(connection, ended, ours, now_us)
    # Last: it takes the fence for itself alone.
    _bury_runs(connection, [item.outcome for item in ended if triple(item.claim) not in held], now_us)
    return len(ours)


def give_back(connection: Connection, claims: Sequence[Claim], *, now_us: int, due_at_us: int) -> int:
    """Claims that were not begun wait again: neither an attempt nor money was spent. Answers how many were ours."""
    held = _held(connection, claims)
    ours = [claim for claim in claims if triple(claim) in held]
    free: dict[str, Any] = {"status": "pending", "owner": None, "lease_until_us": None, "reserved_nano": 0}
    waits = update(tables.evaluation).where(_n.id.in_([claim.id for claim in ours]))
    connection.execute(waits.values(**free, attempt=_n.attempt - 1, due_at_us=due_at_us))
    allowance.settle(connection, [(claim, Outcome()) for claim in ours], now_us=now_us)
    return len(ours)


Triple = tuple[int, str, int]


def triple(claim: Claim) -> Triple:
    """Names a claim among those of the same row: two attempts of one worker may end at once."""
    return claim.id, claim.owner, claim.attempt


def _held(connection: Connection, claims: Sequence[Claim]) -> set[Triple]:
    """Which of these are still their owner's, and stay so until the commit; others are another's by now, or erased."""
    ids = {claim.id for claim in claims}
    held = select(_n.id, _n.owner, _n.attempt).where(_n.id.in_(list(ids)), _n.status == "claimed")
    rows = connection.execute(held.order_by(_n.id).with_for_update()).all()
    return {(row.id, row.owner, row.attempt) for row in rows}


def _write(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Rows that go back to wait, and rows that are ended, have other columns: a statement for each kind."""
    statement = update(tables.evaluation).where(_n.id == bindparam("its_id"))
    for kind in {tuple(row) for row in rows}:
        connection.execute(statement, [row for row in rows if tuple(row) == kind])


def _end_row(ended: Ended, given: Collection[str], now_us: int) -> dict[str, Any]:
    score_id = ended.score.id if ended.score is not None and ended.score.id in given else None
    values = _end_values(ended, score_id, now_us)
    verdict = ended.outcome.verdict
    if ended.claim.is_repeat:
        values.pop("score_id", None)  # that of the judgement it repeats stays
        if verdict is not None:
            values |= {"status": "done", "verdict": repeats.written(verdict.value)}
    return {"its_id": ended.claim.id, **values}


def _note_health(connection: Connection, ended: Sequence[Ended], ours: Sequence[Ended], now_us: int) -> None:
    """For the circuit breaker: one good run closes it, whatever ended beside it."""
    good = {item.claim.evaluator_id for item in ended if item.outcome.error is None}
    failures: dict[str, list[str]] = {}
    for item in ours:
        if item.outcome.error is not None:
            failures.setdefault(item.claim.evaluator_id, []).append(item.outcome.error)
    for evaluator_id in sorted(good - set(failures)):
        evaluators.note_success(connection, evaluator_id)
    for evaluator_id, reasons in sorted(failures.items()):
        if evaluator_id not in good:
            evaluators.note_failures(connection, evaluator_id, reasons[-1], count=len(reasons), now_us=now_us)


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


def _bury_runs(connection: Connection, outcomes: Sequence[Outcome], now_us: int) -> None:
    """The trace of a run whose target was erased meanwhile must not be stored: nothing would lead to it."""
    found = [outcome.judge_turn_id for outcome in outcomes if outcome.judge_turn_id is not None]
    if found:
        tombstones.take_fence(connection, exclusive=True)
        rows = [tombstones.Row(tombstones.TURN, turn_id, None) for turn_id in found]
        tombstones.add(connection, rows, now_us=now_us)


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
