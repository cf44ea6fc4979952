"""The timer: APScheduler in memory decides when, a lease in the database decides who, one row per slot how often.

Every process of the application that works may run a scheduler; only the holder of the lease does anything.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Connection

from turntrace.errors import InvalidInput, NotFound, TurntraceError
from turntrace.evaluation.definition import Definition
from turntrace.jobs import planning
from turntrace.jobs.compact import compact
from turntrace.jobs.erase import erase, is_erasure_due, is_scrub_due, scrub_file
from turntrace.jobs.queues import fill_queues
from turntrace.jobs.retain import retain
from turntrace.jobs.sample import let_go
from turntrace.jobs.schedule import latest_slot
from turntrace.jobs.stores import empty
from turntrace.keyring import KeyRing
from turntrace.records.evaluator import Evaluator
from turntrace.settings import Settings
from turntrace.storage import leases
from turntrace.storage.database import Database
from turntrace.storage.queries import evaluators
from turntrace.storage.sampling import Always
from turntrace.storage.strays import is_any

log = logging.getLogger("turntrace.scheduler")

LEASE: Final = "scheduler"
# A leader that was killed is followed by the next within 30 s: the lease's time and one interval of asking for it.
LEASE_US: Final = 20_000_000
RENEW_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0  # at evaluators' schedules

Run = Callable[..., Mapping[str, int]]  # of the database


@dataclass(frozen=True, slots=True)
class Job:
    """Something done every `interval_seconds`, once per slot over all processes and hosts."""

    name: str
    interval_seconds: int
    run: Run
    help: str
    is_due: Callable[[Database], bool] | None = None  # None: at every slot
    is_stoppable: bool = False  # takes `is_stopped`, and ends early where that says so


JOBS: Final = (
    Job("compact", 60, compact, "Merge the deltas of the roll-ups.", is_stoppable=True),
    Job("queues", 3600, fill_queues, "Put turns of yesterday into the queues that ask for some."),
)


def jobs_of(settings: Settings, keys: KeyRing) -> tuple[Job, ...]:
    """Every job, those that need settings or keys included."""
    archive_dir = settings.archive_dir
    finish = partial(erase, keys=keys, archive_dir=archive_dir)
    forget = partial(retain, rules=settings.retention_rules(), archive_dir=archive_dir)
    stores = (Job("stores", 10, empty, "Delete in the stores of content_urls what is to go there.", is_any),)
    return (
        *JOBS,
        *(stores if settings.content_urls else ()),
        Job(
            "sample",
            600,
            partial(let_go, hold_hours=settings.sample_hold_hours, always=Always.of(settings)),
            "Let go of the turns that sampling left out and nobody has scored.",
        ),
        Job("erase", 5, finish, "Finish the erasures that were asked for.", is_erasure_due),
        Job("scrub", 60, partial(scrub_file, keys=keys), "Take erased bytes out of our SQLite file.", is_scrub_due),
        Job("retain", 300, forget, "Delete texts and turns that are past their time."),
    )


def job(name: str, jobs: Sequence[Job] = JOBS) -> Job:
    """The job with this name.

    Raises:
        NotFound: there is none; the message names them all.
    """
    for found in jobs:
        if found.name == name:
            return found
    raise NotFound(f"there is no job {name!r}; there are {', '.join(each.name for each in jobs)}")


class Scheduler:
    """Runs the jobs while this process holds the lease.

    Args:
        jobs: what runs.
        wall: Unix time in microseconds, for the slots.
    """

    def __init__(
        self,
        database: Database,
        jobs: Sequence[Job] = JOBS,
        *,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database, self._jobs, self._wall = database, tuple(jobs), wall
        self._owner = leases.new_owner()
        self._stopping = threading.Event()
        self._lease: leases.Lease | None = None
        self._slots: dict[str, int] = {}  # the latest slot that each evaluator was run for
        self._given_up: dict[str, int] = {}  # slots of evaluators that failed half way
        self._timer = BackgroundScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})

    def start(self) -> None:
        """Begin; nothing runs before the lease is held."""
        now = datetime.now(UTC)
        self._timer.add_job(self._keep_lease, "interval", seconds=RENEW_SECONDS, id="lease", next_run_time=now)
        for each in self._jobs:
            self._timer.add_job(self._run_slot, "interval", seconds=each.interval_seconds, args=[each], id=each.name)
        self._timer.add_job(self._look_at_evaluators, "interval", seconds=LOOK_SECONDS, id="evaluators")
        self._timer.start()

    def stop(self) -> None:
        """End without waiting for a running job, and leave the lease to others."""
        self._stopping.set()
        if self._timer.running:
            self._timer.shutdown(wait=False)
        if self._lease is not None:
            lease, self._lease = self._lease, None
            try:
                self._database.transact(leases.release, lease)
            except TurntraceError:
                log.info("the scheduler's lease could not be released; it runs out by itself")

    def _keep_lease(self) -> bool:
        try:
            self._lease = self._database.transact(leases.acquire, LEASE, self._owner, ttl_us=LEASE_US)
        except TurntraceError:
            self._lease = None  # who cannot reach the database does not know whether it is still the leader
        return self._lease is not None

    def _look_at_evaluators(self) -> None:
        """Plan the judgements of evaluators whose slot has come, while this process is the leader."""
        if self._lease is None:
            return
        try:
            with self._database.read() as connection:
                found = [item for item in evaluators.list_evaluators(connection) if item.is_enabled]
            for evaluator in found:
                self._plan_slot(evaluator)
            planning.advance_backfills(self._database, now_us=self._wall())
        except TurntraceError as error:
            log.warning("evaluators were not looked at: %s", type(error).__name__)

    def _plan_slot(self, evaluator: Evaluator) -> None:
        """Plan an evaluator's present slot, unless somebody has; or go on with it."""
        name, now_us, lease = leases.EVALUATOR + evaluator.id, self._wall(), self._lease
        definition = self._definition_of(evaluator, now_us)
        if definition is None or lease is None:
            return
        slot_at_us = self._due_slot(definition, evaluator, name, now_us)
        if slot_at_us is None:
            self._go_on(evaluator, name, lease)
            return
        run_id = self._database.transact(_begin_held, lease, name, slot_at_us, now_us)
        self._slots[name] = slot_at_us
        if run_id is None:
            return
        job = Job(
            name, 0, lambda database: {"planned": planning.plan(database, evaluator, now_us=now_us, lease=lease)}, ""
        )
        self._finish(job, run_id)

    def _go_on(self, evaluator: Evaluator, name: str, lease: leases.Lease) -> None:
        """Plan what the look of a slot left: more than one look takes must not wait for a slot of another day."""
        slot_at_us = self._slots[name]
        if not planning.is_behind(evaluator, slot_at_us) or self._given_up.get(name) == slot_at_us:
            return
        try:
            planning.plan(self._database, evaluator, now_us=slot_at_us, lease=lease)
        except Exception as error:
            self._given_up[name] = slot_at_us  # the next slot tries again
            log.warning("the evaluator %s was not planned to its end: %s", evaluator.id, type(error).__name__)

    def _definition_of(self, evaluator: Evaluator, now_us: int) -> Definition | None:
        try:
            return planning.definition_of(evaluator)
        except InvalidInput:
            if evaluator.blocked_until_us is None or evaluator.blocked_until_us <= now_us:
                log.warning("the definition of the evaluator %s cannot be read", evaluator.id)
                planning.plan(self._database, evaluator, now_us=now_us)  # which says so on its page
            return None

    def _due_slot(self, definition: Definition, evaluator: Evaluator, name: str, now_us: int) -> int | None:
        if name not in self._slots:
            with self._database.read() as connection:
                self._slots[name] = leases.last_slot(connection, name) or evaluator.created_at_us
        return latest_slot(definition, after_us=self._slots[name], now_us=now_us)

    def _run_slot(self, each: Job) -> None:
        """Run a job for the present slot of time, unless somebody has."""
        if not self._is_due(each) or not self._keep_lease() or self._lease is None:
            return
        length_us = each.interval_seconds * 1_000_000
        now_us = self._wall()
        slot_at_us = now_us - now_us % length_us
        try:
            run_id = self._database.transact(
                leases.begin_run, self._lease, each.name, slot_at_us=slot_at_us, now_us=now_us
            )
            if run_id is not None:
                self._finish(each, run_id)
        except TurntraceError as error:
            log.warning("the job %s did not run: %s", each.name, type(error).__name__)

    def _is_due(self, each: Job) -> bool:
        """Whether there is anything to do: asking costs less than a lease and a note of a run that did nothing."""
        try:
            return each.is_due is None or each.is_due(self._database)
        except TurntraceError:
            return False

    def _finish(self, each: Job, run_id: int) -> None:
        status, details = "done", {}
        try:
            told = {"is_stopped": self._stopping.is_set} if each.is_stoppable else {}
            details = dict(each.run(self._database, **told))
        except Exception as error:
            status = "failed"
            log.error("the job %s failed: %s", each.name, type(error).__name__)
        self._database.transact(leases.finish_run, run_id, status=status, now_us=self._wall(), details=details)


def _begin_held(connection: Connection, lease: leases.Lease, name: str, slot_at_us: int, now_us: int) -> int | None:
    """Begin a run if the lease is ours still: a leader that was paused begins nothing."""
    if not leases.hold(connection, lease):
        return None
    return leases.begin_run(connection, lease, name, slot_at_us=slot_at_us, now_us=now_us)
