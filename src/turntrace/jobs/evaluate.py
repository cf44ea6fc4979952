"""The part of evaluation that every worker does: claim judgements that are due, make them side by side, end them."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import DatabaseUnavailable, InvalidInput, NotFound, SchemaOutOfDate, TurntraceError
from turntrace.evaluation.definition import Definition, read_definition
from turntrace.jobs.crew import Crew
from turntrace.jobs.judging import Means, Task, judge
from turntrace.records.evaluator import Candidate, Claim, Evaluator, Outcome
from turntrace.records.trace import Trace
from turntrace.storage import evaluations, leases
from turntrace.storage.database import Database
from turntrace.storage.queries import candidates, traces
from turntrace.storage.queries import evaluators as queries
from turntrace.storage.queries.opened import Away

log = logging.getLogger("turntrace.worker")

CONCURRENCY: Final = 32
POLL_SECONDS: Final = 0.5
TAKE_SECONDS: Final = 0.5
GATHER_SECONDS: Final = 0.02  # judgements that end together share a transaction
PAUSE_SECONDS: Final = 5.0  # after a failure of ours, such as a database that is away
STORE_SECONDS: Final = 30.0  # until what lies in a store that is away is looked for again
_MOST_KNOWN: Final = 200
_AWAY: Final = (DatabaseUnavailable, SchemaOutOfDate)

Key = tuple[str, int]


class Evaluation:
    """Judges what is due. One thread drives it; the judgements themselves run in a pool of threads.

    Args:
        on_fault: told the name of the seam where something of ours failed.
        wall: Unix time in microseconds.
    """

    def __init__(
        self,
        database: Database,
        means: Means,
        *,
        concurrency: int = CONCURRENCY,
        lease_us: int = evaluations.LEASE_US,
        on_fault: Callable[[str], None] = lambda seam: None,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database, self._wall = database, wall
        self._lease_us, self._on_fault = lease_us, on_fault
        self._under_way: dict[evaluations.Triple, Claim] = {}
        self._renew_at = 0.0  # s, monotonic
        self._ended: list[evaluations.Ended] = []  # not written yet: what was paid for is not asked again
        self._crew: Crew[Task, evaluations.Ended] = Crew(lambda task: judge(task, means), concurrency)
        self._owner = leases.new_owner()
        self._known: dict[Key, tuple[Evaluator, Definition] | None] = {}

    def run(self, stop: threading.Event) -> None:
        """Judge until `stop` is set; what is under way then is ended by another worker, when its lease runs out."""
        while not stop.is_set():
            try:
                pause = 0.0 if self.step(stop) else POLL_SECONDS
            except Exception as error:
                log.warning("evaluation failed: %s", type(error).__name__)
                self._on_fault("evaluation")
                pause = PAUSE_SECONDS
            stop.wait(pause)
        self._crew.close()

    def close(self) -> None:
        """Let go of the threads: for those who call `step` themselves."""
        self._crew.close()

    def step(self, stop: threading.Event | None = None) -> int:
        """Claim and judge until nothing is due; answers how many judgements were ended.

        An idle look costs one short read: the claim, which writes, is made only where something is due.
        """
        ended = self._finish(())
        crew = self._crew
        while stop is None or not stop.is_set():
            room = 2 * crew.size - crew.under_way
            if room >= crew.size and self._is_due():
                self._begin(self._tasks(self._claim(room)))
            if not crew.under_way:
                return ended
            ended += self._finish(crew.take(seconds=TAKE_SECONDS, gather_seconds=GATHER_SECONDS))
            self._renew()
        return ended

    def _begin(self, tasks: Sequence[Task]) -> None:
        if not self._under_way:
            self._renew_at = self._next_renewal()
        self._under_way.update({evaluations.triple(task.claim): task.claim for task in tasks})
        self._crew.give(tasks)

    def _renew(self) -> None:
        """A judge may take longer than a lease lasts, and what waits behind it longer still: it stays ours."""
        if self._under_way and time.monotonic() >= self._renew_at:
            self._renew_at = self._next_renewal()
            claims = list(self._under_way.values())
            self._database.transact(evaluations.renew, claims, lease_us=self._lease_us)

    def _next_renewal(self) -> float:
        return time.monotonic() + self._lease_us / 4_000_000

    def _is_due(self) -> bool:
        with self._database.read() as connection:
            return evaluations.is_due(connection, now_us=self._wall())

    def _claim(self, limit: int) -> list[Claim]:
        return self._database.transact(
            evaluations.claim,
            self._owner,
            limit=limit,
            now_us=self._wall(),
            budget_of=_budget,
            lease_us=self._lease_us,
        )

    def _finish(self, ended: Sequence[evaluations.Ended]) -> int:
        """Write down what has ended, together; where the database refuses that, one by one."""
        for each in ended:
            self._under_way.pop(evaluations.triple(each.claim), None)
        self._ended += ended
        if not self._ended:
            return 0
        try:
            count = self._write(self._ended)
        except _AWAY:
            raise
        except Exception:
            return self._finish_singly()
        self._ended = []
        return count

    def _finish_singly(self) -> int:
        count = 0
        while self._ended:
            try:
                count += self._write(self._ended[:1])
            except _AWAY:
                raise
            except Exception as error:
                log.warning("a judgement cannot be stored: %s", type(error).__name__)
                count += self._write([_unstorable(self._ended[0], error)])
            del self._ended[0]
        return count

    def _write(self, ended: Sequence[evaluations.Ended]) -> int:
        return self._database.transact(evaluations.finish, ended, now_us=self._wall())

    def _tasks(self, claims: Sequence[Claim]) -> list[Task]:
        """The claims with what they need; those that cannot be judged, now or at all, are ended or given back."""
        if not claims:
            return []
        try:
            tasks = self._looked_up(claims)
        except Exception:
            with contextlib.suppress(TurntraceError):  # else their lease runs out
                self._give_back(claims)
            raise
        self._finish([_unreadable(c) for c in claims if c.id in tasks and tasks[c.id] is None])
        self._give_back([claim for claim in claims if claim.id not in tasks])
        return [task for task in tasks.values() if task is not None]

    def _looked_up(self, claims: Sequence[Claim]) -> dict[int, Task | None]:
        """Tasks by claim: None where it cannot be judged; none where its texts lie in a store that is away."""
        with self._database.read() as connection:
            found = _load(connection, claims)
            return {c.id: self._task(connection, c, found[c.id]) for c in claims if c.id in found}

    def _give_back(self, claims: Sequence[Claim]) -> None:
        """Nothing was asked for these: they come again, and cost nothing till then."""
        if claims:
            now_us = self._wall()
            due_at_us = now_us + int(STORE_SECONDS * 1_000_000)
            self._database.transact(evaluations.give_back, claims, now_us=now_us, due_at_us=due_at_us)
            log.warning("%d judgements wait: what they are about cannot be read now", len(claims))
            self._on_fault("evaluation")

    def _task(self, connection: Connection, claim: Claim, turns: tuple[Trace, ...]) -> Task | None:
        known = self._evaluator(connection, (claim.evaluator_id, claim.evaluator_version))
        if known is None:
            return None
        return Task(claim=claim, evaluator=known[0], definition=known[1], traces=turns)

    def _evaluator(self, connection: Connection, key: Key) -> tuple[Evaluator, Definition] | None:
        """A version of an evaluator, read once: versions never change."""
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            try:
                evaluator = queries.get(connection, key[0], version=key[1])
                self._known[key] = evaluator, read_definition(evaluator.definition)[0]
            except (InvalidInput, NotFound):
                self._known[key] = None
        return self._known[key]


def _budget(evaluator: Evaluator) -> int | None:
    try:
        return read_definition(evaluator.definition)[0].daily_budget_nano
    except InvalidInput:
        return 0


def _unreadable(claim: Claim) -> evaluations.Ended:
    outcome = Outcome(error="definition_unreadable", is_final=True)
    return evaluations.Ended(claim=claim, outcome=outcome)


def _unstorable(ended: evaluations.Ended, error: Exception) -> evaluations.Ended:
    """Tried again a few times, like any that failed."""
    told = replace(ended.outcome, verdict=None, error=type(error).__name__, is_final=False)
    return evaluations.Ended(claim=ended.claim, outcome=told)


def _load(connection: Connection, claims: Sequence[Claim]) -> dict[int, tuple[Trace, ...]]:
    """The turns that the claims are about, by claim; no judge sees one without its texts: those are left out."""
    away = Away()
    ids = {claim.candidate.turn_id for claim in claims if claim.candidate.turn_id}
    turns = traces.by_ids(connection, sorted(ids), away=away)
    found = {claim.id: _turns(connection, claim.candidate, turns, away) for claim in claims}
    return {claim_id: own for claim_id, own in found.items() if not any(turn.id in away.turn_ids for turn in own)}


def _turns(connection: Connection, item: Candidate, turns: Mapping[str, Trace], away: Away) -> tuple[Trace, ...]:
    if item.target != "session":
        turn = turns.get(item.turn_id or "")
        return () if turn is None else (turn,)
    session_id, limit = item.session_id or "", candidates.MOST_TURNS
    return traces.of_session(connection, session_id, item.user_id, with_unknown=False, limit=limit, away=away)
