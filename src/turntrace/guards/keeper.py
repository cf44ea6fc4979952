"""The thread beside: it carries what this process spent to the database, and what it may spend back.

One a process, started by the first check, never at import and never before a fork. Requests wait for it a bounded time.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import TurntraceError
from turntrace.guards.ledger import DENIED_SECONDS, Account, Ledger
from turntrace.pipeline.price import Pricer
from turntrace.records.budget import Budget
from turntrace.storage import budgets
from turntrace.storage.budgets import Outcome
from turntrace.storage.database import Database
from turntrace.tracing.context import suspended

log = logging.getLogger("turntrace.guards")

RULES_SECONDS: Final = 2.0
FLUSH_SECONDS: Final = 1.0
TICK_SECONDS: Final = 0.25
MAX_TASKS: Final = 10_000

OpenPricer = Callable[[Connection], Pricer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A budget reached its limit: once for each value and period, over all processes. Nano-dollars."""

    budget: Budget
    value: str
    period_at_us: int
    spent_nano: int


class Keeper:
    """Owns the thread. `rules` is what the database said last; None before it said anything.

    Args:
        open_pricer: the prices in force, own ones included, read over a connection.
        on_breach: told in the thread; what it raises is logged by its type.
        on_fault: told the seam of a fault of ours.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        open_pricer: OpenPricer,
        on_breach: Callable[[Breach], None],
        on_fault: Callable[[str, Exception], None],
    ) -> None:
        self.rules: tuple[Budget, ...] | None = None
        self.pricer: Pricer | None = None
        self._database, self._ledger = database, ledger
        self._open_pricer, self._on_breach, self._on_fault = open_pricer, on_breach, on_fault
        self._condition = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._is_stopping = self._is_called = False
        self._failed_at, self._rules_at, self._flushed_at = -1e9, -1e9, time.monotonic()

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            with self._condition:
                if self._thread is None and not self._is_stopping:
                    self._thread = threading.Thread(target=self._run, name="turntrace-budgets", daemon=True)
                    self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Tell the database what is left to tell, give back what is left, and end; False where time ran out."""
        with self._condition:
            self._is_stopping = self._is_called = True
            self._condition.notify_all()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def call(self) -> None:
        """Something is wanted soon."""
        with self._condition:
            self._is_called = True
            self._condition.notify_all()

    def do(self, task: Callable[[], None]) -> None:
        """Have something done in the thread; beyond 10,000 waiting it is done here, so that nothing is lost."""
        if len(self._tasks) >= MAX_TASKS:
            task()
            return
        self._tasks.append(task)
        if len(self._tasks) == 1:
            self.call()

    def wait_for(self, is_ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds or the database could not be reached; False where it does not hold."""
        began = time.monotonic()
        with self._condition:
            self._is_called = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: is_ready() or self._failed_at >= began, seconds)
        return is_ready()

    def was_denied(self, accounts: Sequence[Account], since: float) -> bool:
        """Whether the database said since then that there is no more."""
        return any(account.denied_at >= since - DENIED_SECONDS for account in accounts)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suspended():
            while not self._step():
                pass
            self._database.close()

    def _step(self) -> bool:
        """One round; True when it was the last."""
        with self._condition:
            if not self._is_called:
                self._condition.wait(TICK_SECONDS)
            is_called, self._is_called = self._is_called, False
            is_last = self._is_stopping
        self._work_off()
        now = time.monotonic()
        if now >= self._rules_at + RULES_SECONDS and not is_last:
            self._guarded("budgets.rules", self._look_up)
        if is_called or is_last or now >= self._flushed_at + FLUSH_SECONDS or self._ledger.is_waited_for():
            self._guarded("budgets.exchange", lambda: self._exchange(is_last=is_last))
        with self._condition:
            self._condition.notify_all()
        return is_last and not self._tasks

    def _guarded(self, seam: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._failed_at = time.monotonic()
            self._rules_at = self._flushed_at = self._failed_at  # the next try is no sooner than the usual one
            if isinstance(error, TurntraceError):
                log.info("budgets wait for the database: %s", type(error).__name__)
            else:
                self._on_fault(seam, error)

    def _work_off(self) -> None:
        while self._tasks:
            task = self._tasks.popleft()
            try:
                task()
            except Exception as error:
                self._on_fault("budgets.settle", error)

    def _look_up(self) -> None:
        with self._database.read() as connection:
            rules = budgets.list_rules(connection)
            pricer = self._open_pricer(connection)
        self.pricer = pricer
        self.rules = tuple(rule for rule in rules if rule.is_enabled)
        self._rules_at = time.monotonic()
        self._ledger.forget(self._rules_at, {rule.id for rule in self.rules})

    def _exchange(self, *, is_last: bool) -> None:
        accounts = self._ledger.changes(time.monotonic(), is_last=is_last)
        self._flushed_at = time.monotonic()
        if not accounts:
            return
        changes = [account.told for account in accounts if account.told is not None]
        try:
            outcomes = self._database.transact(budgets.exchange, changes, now_us=time.time_ns() // 1000)
        except Exception:
            self._ledger.undo(accounts)
            raise
        self._ledger.answer(accounts, outcomes, time.monotonic())
        for account, outcome in zip(accounts, outcomes, strict=True):
            if outcome.is_breached:
                self._tell(account, outcome)

    def _tell(self, account: Account, outcome: Outcome) -> None:
        budget = account.budget
        log.warning("the budget %r of this %s has reached its limit", budget.name, budget.period)
        try:
            self._on_breach(
                Breach(budget=budget, value=account.value, period_at_us=account.period_at_us, spent_nano=outcome.spent)
            )
        except Exception as error:
            self._on_fault("budgets.on_breach", error)
