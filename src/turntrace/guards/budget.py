"""Budgets of the host's model calls: reserved before a call from memory, settled after it by what the call cost.

How far a budget can be exceeded: by what calls cost beyond their reservations, counting those under way and those that
ended since their process last told the database (a second at the most). Where the reservations are upper bounds
(`model` with `max_output_tokens`, or `estimate_usd`), never.
"""

import atexit
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Final

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from turntrace.errors import BudgetExceeded, BudgetUnavailable
from turntrace.guards.keeper import Breach, Keeper, OpenPricer
from turntrace.guards.ledger import Account, Ledger
from turntrace.guards.settlement import calls_in, cost_of, ended_since, estimate, watch
from turntrace.pipeline.identify import Pseudonym, bounded
from turntrace.records.budget import Budget, renews_at_us, starts_at_us
from turntrace.settings import Settings
from turntrace.storage.database import Database
from turntrace.tracing.context import current_turn
from turntrace.tracing.turn import Turn

NANO: Final = 1_000_000_000
_DECAY: Final = 0.98  # of the costliest call lately, at every call since
MAX_MODELS: Final = 500
_MAX_ROUNDS: Final = 50
_TOLD_SECONDS: Final = 60.0  # how often a full table is told as a fault: a flood of values must not pause recording

# Scopes whose values are redacted in a stored turn, and what is let through of them: words, a few digits, UUIDs and the
# placeholders of a route. All else (an address, a telephone, a name with a space) is stored as a keyed pseudonym.
_REDACTED: Final = frozenset({"tenant", "route", "key"})
_PLAIN: Final = re.compile(
    r"(?:[A-Za-z_./-]|(?<![0-9])[0-9]{1,4}(?![0-9.-])|[{<][A-Za-z_][A-Za-z0-9_:]*[}>]"
    r"|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b)*"
)
_MAX_WAITING: Final = 40
# Of each event loop: threads that wait for the database are none of the host's own.
_waiting: Final[RunVar[CapacityLimiter]] = RunVar("turntrace_budgets")

Downgrade = Callable[[str | None, Budget], str | None]


class Budgets:
    """The budgets of one process. Everything happens on first use; after a fork it begins anew.

    Args:
        make_database: gives the database in this process, opened lazily.
        pseudonym: keyed function of user ids, used unless `identify` is plain.
    """

    def __init__(
        self,
        settings: Settings,
        make_database: Callable[[], Database],
        open_pricer: OpenPricer,
        pseudonym: Pseudonym,
        on_fault: Callable[[str, Exception], None],
    ) -> None:
        self._settings, self._make_database, self._open_pricer = settings, make_database, open_pricer
        self._pseudonym, self._on_fault = pseudonym, on_fault
        self._wait_seconds = settings.budget_wait_ms / 1000
        self._is_open = settings.budget_failure == "open"
        self._default_nano = int(settings.budget_reserve_usd * NANO)
        self._on_breach: list[Callable[[Breach], None]] = []
        self._downgrade: Downgrade | None = None
        self._lock = threading.Lock()
        self._begin()
        atexit.register(self.close)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ledger = Ledger(self._settings.budget_lease_seconds)
        self._recent: dict[str, int] = {}
        self._index = _Index(())
        self._known_rules: tuple[Budget, ...] | None = None
        self._keeper: Keeper | None = None
        self._full_at = -1e9

    # --- what the host says -----------------------------------------------------------------------------------------

    def on_breach(self, told: Callable[[Breach], None]) -> Callable[[Breach], None]:
        """Register a function that is told once when a budget reaches its limit, in a thread of ours. A decorator."""
        self._on_breach.append(told)
        return told

    def downgrade(self, choose: Downgrade) -> Downgrade:
        """Register what gives the cheaper model, from the model asked for and the budget. A decorator."""
        self._downgrade = choose
        return choose

    def hold(
        self,
        *,
        user_id: str | None = None,
        tenant: str | None = None,
        feature: str | None = None,
        route: str | None = None,
        key: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        estimate_usd: Decimal | str | float | None = None,
    ) -> "Hold":
        """See `Turntrace.budget`."""
        return Hold(
            self,
            {"user": user_id, "tenant": tenant, "feature": feature, "route": route, "key": key},
            model=model,
            provider=provider,
            tokens=(input_tokens, max_output_tokens),
            estimate_nano=None if estimate_usd is None else max(0, int(Decimal(str(estimate_usd)) * NANO)),
        )

    def close(self, seconds: float | None = None) -> bool:
        """Tell the database what was spent and give back what is held; within `shutdown_seconds`."""
        keeper = self._keeper
        if keeper is None or self._pid != os.getpid():
            return True
        self._keeper = None
        return keeper.stop(self._settings.shutdown_seconds if seconds is None else seconds)

    # --- for holds --------------------------------------------------------------------------------------------------

    @property
    def keeper(self) -> Keeper:
        """The thread of this process, running."""
        if self._pid != os.getpid():
            self._begin()
        if self._keeper is None:
            with self._lock:
                if self._keeper is None:
                    self._keeper = Keeper(
                        self._make_database(), self._ledger, self._open_pricer, self._tell, self._on_fault
                    )
        self._keeper.start()
        return self._keeper

    @property
    def ledger(self) -> Ledger:
        """The accounts of this process."""
        return self._ledger

    @property
    def wait_seconds(self) -> float:
        """Longest time a call may wait for the database."""
        return self._wait_seconds

    @property
    def is_open(self) -> bool:
        """Whether calls are let through while the database cannot be asked."""
        return self._is_open

    def _tell(self, breach: Breach) -> None:
        for told in self._on_breach:
            told(breach)

    def index(self, keeper: Keeper) -> "_Index | None":
        """The budgets in force by what they are for; None before they are known."""
        rules = keeper.rules
        if rules is None:
            return None
        if rules is not self._known_rules:
            self._index, self._known_rules = _Index(rules), rules
        return self._index

    def accounts(self, index: "_Index", names: dict[str, str | None], turn: Turn | None) -> list[Account]:
        """The accounts that a call is charged to.

        Raises:
            BudgetUnavailable: a strict one finds no room any more, and `budget_failure` is closed.
        """
        found: list[Account] = []
        now, now_us = time.monotonic(), time.time_ns() // 1000
        for scope in index.scopes:
            value = _value(scope, names, turn)
            if value is None:
                continue
            stored = self._stored(scope, value)
            for budget in index.of(scope, value, stored):
                user_id = stored if scope == "user" else None
                name = stored if scope == "user" else budget.value or stored
                account = self._ledger.open(budget, name, starts_at_us(budget.period, now_us), user_id, now)
                if account is not None:
                    found.append(account)
                elif budget.action == "refuse":
                    self._overflow(now)
        return found

    def _overflow(self, now: float) -> None:
        """A strict budget cannot be checked: this process knows too many accounts."""
        if now >= self._full_at + _TOLD_SECONDS:
            self._full_at = now
            self._on_fault("budgets.accounts", OverflowError("too many accounts"))
        if not self._is_open:
            raise BudgetUnavailable

    def _stored(self, scope: str, value: str) -> str:
        """The form of a value that the database may hold: no more than a stored turn says of it."""
        is_hidden = self._settings.identify != "plain" if scope == "user" else self._may_be_personal(scope, value)
        return self._pseudonym(value) if is_hidden else bounded(value) or ""

    def _may_be_personal(self, scope: str, value: str) -> bool:
        """Whether redaction might change a tag or a path: it is not made of plain words."""
        if self._settings.redaction == "off" or scope not in _REDACTED:
            return False
        return _PLAIN.fullmatch(value) is None

    def reservation(self, keeper: Keeper, hold: "Hold") -> int:
        """Nano-dollars to hold for a call: as stated, as priced, as lately, or the setting's."""
        if hold.estimate_nano is not None:
            return hold.estimate_nano
        given, answered = hold.tokens
        if hold.model and answered is not None and keeper.pricer is not None:
            priced = estimate(
                keeper.pricer,
                model=hold.model,
                provider=hold.provider,
                input_tokens=given or 0,
                output_tokens=answered,
                at_us=time.time_ns() // 1000,
            )
            if priced is not None:
                return priced
        return self._recent.get(hold.model or "", self._default_nano)

    def learn(self, model: str | None, cost: int) -> None:
        """Remember what calls of a model cost lately."""
        name = model or ""
        if name in self._recent or len(self._recent) < MAX_MODELS:
            self._recent[name] = max(cost, int(self._recent.get(name, cost) * _DECAY))

    def cheaper(self, model: str | None, budget: Budget) -> str | None:
        """The model to use instead."""
        if budget.downgrade_to:
            return budget.downgrade_to
        if self._downgrade is None:
            return model
        try:
            return self._downgrade(model, budget) or model
        except Exception as error:
            self._on_fault("budgets.downgrade", error)
            return model

    def fault(self, seam: str, error: Exception) -> None:
        """Count a fault of ours."""
        self._on_fault(seam, error)


class _Index:
    """Budgets by scope, and those for one value by that."""

    def __init__(self, rules: Sequence[Budget]) -> None:
        self._each: dict[str, list[Budget]] = {}
        self._one: dict[tuple[str, str], list[Budget]] = {}
        for rule in rules:
            if rule.value:
                self._one.setdefault((rule.scope, rule.value), []).append(rule)
            else:
                self._each.setdefault(rule.scope, []).append(rule)
        self.scopes = tuple({rule.scope: None for rule in rules})

    def of(self, scope: str, *values: str) -> Iterator[Budget]:
        """Those that count for any of these forms of a value."""
        yield from self._each.get(scope, ())
        for value in dict.fromkeys(values):
            yield from self._one.get((scope, value), ())


def _value(scope: str, names: dict[str, str | None], turn: Turn | None) -> str | None:
    """The value that a call has in a scope: as stated, else as the turn says. Tenant and key may be tags of it."""
    if scope == "application":
        return ""
    stated = names.get(scope)
    if stated or turn is None:
        return stated or None
    if scope == "user":
        return turn.known("user_id") or None
    if scope == "route":
        return turn.known("route") or None
    if scope == "feature":
        return turn.feature or None
    prefix = f"{scope}:"
    return next((tag[len(prefix) :] for tag in turn.tags if tag.startswith(prefix)), None)


def _limiter() -> CapacityLimiter:
    try:
        return _waiting.get()
    except LookupError:
        made = CapacityLimiter(_MAX_WAITING)
        _waiting.set(made)
        return made


class Hold:
    """`with tt.budget(…) as hold:` or `async with`, round one model call or several.

    `model` is the model to call: the one asked for, or a cheaper one. `is_over` says whether any budget that only
    observes, alerts or downgrades has reached its limit. Without `settle` the cost is that of the model calls recorded
    inside; where none has a price, the reservation counts as spent.
    """

    def __init__(
        self,
        budgets: Budgets,
        names: dict[str, str | None],
        *,
        model: str | None,
        provider: str | None,
        tokens: tuple[int | None, int | None],
        estimate_nano: int | None,
    ) -> None:
        self._budgets, self._names = budgets, names
        self.model, self.provider, self.tokens, self.estimate_nano = model, provider, tokens, estimate_nano
        self.is_over = False
        self._held: list[tuple[Account, int]] = []
        self._turn: Turn | None = None
        self._mark = 0
        self._cost: int | None = None
        self._giving_up = threading.Lock()
        self._is_given_up = False

    def settle(self, cost_usd: Decimal | str | float) -> None:
        """State what the call cost, in US dollars."""
        self._cost = max(0, int(Decimal(str(cost_usd)) * NANO))

    # --- entering ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Hold":
        try:
            if not self._try():
                self._wait()
        except (BudgetExceeded, BudgetUnavailable):
            raise
        except Exception as error:
            self._budgets.fault("budgets.enter", error)
        except BaseException:
            self._give_up()
            raise
        return self

    async def __aenter__(self) -> "Hold":
        try:
            if not self._try():
                await to_thread.run_sync(self._wait_beside, abandon_on_cancel=True, limiter=_limiter())
        except (BudgetExceeded, BudgetUnavailable):
            raise
        except Exception as error:
            self._budgets.fault("budgets.enter", error)
        except BaseException:
            self._give_up()
            raise
        return self

    def _try(self) -> bool:
        """Reserve from memory; False where the database has to be asked first."""
        keeper = self._budgets.keeper
        index = self._budgets.index(keeper)
        if index is None:
            return False
        if not index.scopes:
            return True
        self._turn = turn = current_turn()
        accounts = self._budgets.accounts(index, self._names, turn)
        if not accounts:
            return True
        if any(account.budget.action == "downgrade" and not account.is_known for account in accounts):
            return False
        amount = self._budgets.reservation(keeper, self)
        wanted = [(account, amount) for account in accounts]
        began = time.monotonic()
        short = self._budgets.ledger.reserve(wanted, began)
        if short:
            if keeper.was_denied(short, began):
                self._refuse(short)
            return False
        self._enter(wanted, keeper)
        return True

    def _enter(self, wanted: list[tuple[Account, int]], keeper: Keeper) -> None:
        self._held = wanted
        self._mark = watch(self._turn)
        for account, _ in wanted:
            if not account.is_strict and account.is_over:
                self.is_over = True
                if account.budget.action == "downgrade":
                    self.model = self._budgets.cheaper(self.model, account.budget)
        if self._budgets.ledger.is_low(wanted):
            self._budgets.ledger.ask_ahead(wanted)
            keeper.call()

    def _give_up(self) -> None:
        """Nobody will leave what is entered now or still to be."""
        with self._giving_up:
            self._is_given_up = True
            self._drop()

    def _drop(self) -> None:
        held, self._held = self._held, []
        if held:
            self._budgets.ledger.cancel(held)
            ended_since(self._turn, self._mark, is_wanted=False)

    def _wait_beside(self) -> None:
        """`_wait` in a thread; where its task was cancelled meanwhile, what it got is given back."""
        try:
            self._wait()
        finally:
            with self._giving_up:
                if self._is_given_up:
                    self._drop()

    def _wait(self) -> None:
        """Ask the database, a bounded time."""
        deadline = time.monotonic() + self._budgets.wait_seconds
        keeper = self._budgets.keeper
        for _ in range(_MAX_ROUNDS):
            left = deadline - time.monotonic()
            if left <= 0 or not keeper.wait_for(self._is_answered(keeper), left):
                break
            if self._try():
                return
        self._unasked(keeper)

    def _is_answered(self, keeper: Keeper) -> Callable[[], bool]:
        """Whether another try makes sense."""
        index = self._budgets.index(keeper)
        if index is None:
            return lambda: keeper.rules is not None
        accounts = self._budgets.accounts(index, self._names, self._turn)
        amount = self._budgets.reservation(keeper, self)
        began = time.monotonic()

        def answered() -> bool:
            is_known = all(account.is_known for account in accounts)
            strict = [account for account in accounts if account.is_strict]
            return is_known and (
                not any(account.lacks(amount, time.monotonic()) for account in strict)
                or any(account.denied_at >= began for account in strict)
            )

        return answered

    def _unasked(self, keeper: Keeper) -> None:
        """The database did not answer in time."""
        index = self._budgets.index(keeper)
        if not self._budgets.is_open:
            raise BudgetUnavailable
        if index is None:
            return
        amount = self._budgets.reservation(keeper, self)
        wanted = [(account, amount) for account in self._budgets.accounts(index, self._names, self._turn)]
        self._budgets.ledger.reserve(wanted, time.monotonic(), is_forced=True)
        self._enter(wanted, keeper)

    def _refuse(self, short: list[Account]) -> None:
        self._budgets.ledger.refuse(short)
        budget, now_us = short[0].budget, time.time_ns() // 1000
        renews = renews_at_us(budget.period, now_us)
        raise BudgetExceeded(
            budget.name,
            scope=budget.scope,
            period=budget.period,
            renews_at_us=renews,
            retry_after_seconds=max(1, math.ceil((renews - now_us) / 1_000_000)),
        )

    # --- leaving ----------------------------------------------------------------------------------------------------

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held, self._held = self._held, []
        if not held:
            return
        try:
            self._leave(held, has_failed=error is not None)
        except Exception as exc:
            self._budgets.fault("budgets.exit", exc)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _leave(self, held: list[tuple[Account, int]], *, has_failed: bool) -> None:
        keeper = self._budgets.keeper
        frame = ended_since(self._turn, self._mark, is_wanted=self._cost is None)
        if self._cost is not None:
            self._charge(held, self._cost, keeper)
            return
        if frame is None and has_failed:
            self._budgets.ledger.cancel(held)  # it failed before a call was made
            return
        if frame is None:
            self._charge(held, max(amount for _, amount in held), keeper)
            return
        keeper.do(lambda: self._charge_frame(held, frame, keeper, has_failed=has_failed))

    def _charge_frame(self, held: list[tuple[Account, int]], frame: bytes, keeper: Keeper, *, has_failed: bool) -> None:
        calls, cost = None, None
        try:
            calls = calls_in(frame)
            if calls and keeper.pricer is not None:
                cost = cost_of(calls, keeper.pricer)
        finally:
            if has_failed and calls == []:
                self._budgets.ledger.cancel(held)  # other steps were recorded, but no call
            else:
                self._charge(held, max(amount for _, amount in held) if cost is None else cost, keeper)

    def _charge(self, held: list[tuple[Account, int]], cost: int, keeper: Keeper) -> None:
        self._budgets.learn(self.model, cost)
        if self._budgets.ledger.settle(held, cost):
            keeper.call()
