"""Trying an evaluator on past turns before it is saved, and giving it history afterwards. Previews store nothing."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, update

from turntrace.errors import NotFound
from turntrace.evaluation.definition import Definition
from turntrace.evaluation.judge import kept_key
from turntrace.jobs.judging import Means, Task, document_of, judge
from turntrace.jobs.planning import definition_of, rule_of, sampled
from turntrace.records.evaluator import Candidate, Claim, Evaluator, Outcome
from turntrace.storage import tables
from turntrace.storage.database import Database
from turntrace.storage.queries import candidates, evaluators, traces

PREVIEWED: Final = 5
PREVIEW_SECONDS: Final = 20.0  # longest a judge may take in a preview
_COUNTED: Final = 1000
DAY_US: Final = 86_400_000_000
PREVIEW_DAYS: Final = 7
_b = tables.backfill.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What is needed to try evaluators. `admit` refuses a definition that this installation does not allow."""

    admit: Callable[[Definition], None]
    means: Means


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One past target with what the evaluator said of it; `question` and `answer` are texts."""

    candidate: Candidate
    question: str
    answer: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a rule would have matched in the last days: `matched` is counted up to `cap`, before sampling."""

    days: int
    matched: int
    is_capped: bool
    estimated_cost_nano: int | None  # of judging those matched, at what the samples cost
    samples: tuple[Sample, ...]


def preview(
    database: Database,
    bench: Workbench,
    definition: Definition,
    *,
    api_key: str | None = None,
    known: Evaluator | None = None,
    now_us: int,
) -> Preview:
    """Run a definition on the latest turns that it matches.

    Args:
        api_key: of the judge; None: the stored one of `known`.

    Raises:
        InvalidInput: no key is given, and the stored one belongs to another address or provider.
        DatabaseUnavailable: content of a turn lies in a store of `content_urls` that is away, or not named.
    """
    if definition.judge is not None:  # somebody waits for the page
        most = min(definition.judge.timeout_seconds, PREVIEW_SECONDS)
        definition = replace(definition, judge=replace(definition.judge, timeout_seconds=most))
    evaluator = known or _unsaved(definition)
    if api_key is None:
        evaluator = replace(evaluator, sealed=kept_key(evaluator.sealed, evaluator.definition, definition.source))
    rule = rule_of(evaluator.id, evaluator.version, definition)
    from_us = now_us - PREVIEW_DAYS * DAY_US
    with database.read() as connection:
        found = _matches(connection, rule, from_us, now_us)
        tasks = [_task(connection, item, evaluator, definition) for item in found[:PREVIEWED]]
    means = bench.means
    if api_key is not None:
        means = Means(asks=means.asks, runs=means.runs, records=means.records, unseal=lambda _: api_key)
        tasks = [replace(task, evaluator=replace(task.evaluator, sealed="given")) for task in tasks]
    with ThreadPoolExecutor(PREVIEWED, thread_name_prefix="turntrace-preview") as pool:
        outcomes = list(pool.map(lambda task: Context().run(judge, task, means).outcome, tasks))
    samples = tuple(_sample(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True))
    costs = [sample.outcome.cost_nano for sample in samples if sample.outcome.cost_nano is not None]
    each = round(sum(costs) / len(costs)) if costs else None
    expected = round(len(found) * definition.sample_rate)
    return Preview(
        days=PREVIEW_DAYS,
        matched=len(found),
        is_capped=len(found) >= _COUNTED,
        estimated_cost_nano=None if each is None else each * expected,
        samples=samples,
    )


def _unsaved(definition: Definition) -> Evaluator:
    return Evaluator(
        id="0" * 32,
        name=definition.name,
        kind=definition.kind,
        is_enabled=True,
        version=0,
        definition=definition.source,
    )


def _matches(c: Connection, rule: candidates.Rule, from_us: int, now_us: int) -> list[Candidate]:
    if rule.target == "session":
        return list(candidates.idle(c, rule, since=(from_us, ""), until_us=now_us, limit=_COUNTED).items)[::-1]
    found = candidates.started(c, rule, from_us=from_us, before=(now_us, "g"), limit=_COUNTED, is_new=False)
    return list(found.items)


def _task(c: Connection, item: Candidate, evaluator: Evaluator, definition: Definition) -> Task:
    if item.target == "session":
        found = traces.of_session(
            c, item.session_id or "", item.user_id, with_unknown=False, limit=candidates.MOST_TURNS, is_strict=True
        )
    else:
        found = tuple(traces.by_ids(c, [item.turn_id or ""], is_strict=True).values())
    claim = Claim(
        id=0,
        evaluator_id=evaluator.id,
        evaluator_version=evaluator.version,
        owner="",
        attempt=1,
        reserved_nano=0,
        candidate=item,
    )
    return Task(claim=claim, evaluator=evaluator, definition=definition, traces=found)


def _sample(task: Task, outcome: Outcome) -> Sample:
    seen = document_of(task.claim.candidate, task.traces) or {}
    return Sample(
        candidate=task.claim.candidate,
        question=str(seen.get("question") or ""),
        answer=str(seen.get("answer") or ""),
        outcome=outcome,
    )


# --- history --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a backfill would ask for: `runs` counted up to a cap, what they would cost (None: nothing had a price)."""

    runs: int
    is_capped: bool
    cost_nano: int | None


def estimate(connection: Connection, evaluator: Evaluator, *, from_us: int, to_us: int) -> Estimate:
    """How much a backfill of this period would be."""
    definition = definition_of(evaluator)
    rule = rule_of(evaluator.id, evaluator.version, definition)
    runs, capped = 0, False
    before: candidates.Place | None = (to_us, "g")
    for _ in range(20):
        if before is None or rule.target == "session":
            break
        found = candidates.started(connection, rule, from_us=from_us, before=before, limit=_COUNTED)
        runs += len(sampled(found.items, evaluator.id, definition.sample_rate))
        before = found.next
        capped = before is not None
    if rule.target == "session":
        idle = candidates.idle(connection, rule, since=(from_us, ""), until_us=to_us + rule.idle_us, limit=_COUNTED)
        runs, capped = len(sampled(idle.items, evaluator.id, definition.sample_rate)), idle.next is not None
    each = evaluators.mean_cost(connection, evaluator.id)
    return Estimate(runs=runs, is_capped=capped, cost_nano=None if each is None else each * runs)


def begin_backfill(
    connection: Connection, evaluator: Evaluator, *, from_us: int, to_us: int, author: str | None, now_us: int
) -> str:
    """Give history to an evaluator: the leader walks it, newest first. Answers the backfill's id."""
    backfill_id = uuid.uuid4().hex
    values = {
        "id": backfill_id,
        "evaluator_id": evaluator.id,
        "evaluator_version": evaluator.version,
        "status": "running",
        "from_us": from_us,
        "to_us": to_us,
        "planned": 0,
        "author": author,
        "created_at_us": now_us,
        "updated_at_us": now_us,
    }
    connection.execute(tables.backfill.insert().values(values))
    return backfill_id


def stop_backfill(connection: Connection, backfill_id: str, *, now_us: int) -> None:
    """Stop a backfill and take back what it asked for and nobody has begun.

    Raises:
        NotFound: there is no such backfill that runs.
    """
    n = tables.evaluation.c
    running = update(tables.backfill).where(_b.id == backfill_id, _b.status == "running")
    changed = connection.execute(running.values(status="stopped", finished_at_us=now_us, updated_at_us=now_us))
    waiting = tables.evaluation.delete().where(n.backfill_id == backfill_id, n.status == "pending")
    taken_back = connection.execute(waiting)
    if not changed.rowcount and not taken_back.rowcount:
        raise NotFound("no such backfill is running")
