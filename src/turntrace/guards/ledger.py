"""What this process may still spend: granted in advance by the database, taken from memory call by call.

Knows no database and no thread: `keeper` carries changes to and fro. All amounts are nano-dollars.
"""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from turntrace.records.budget import Budget
from turntrace.storage.budgets import Change, Outcome

# Of a limit, what a process asks for in advance: small, since what one holds the others cannot spend.
SHARE: Final = 32
DENIED_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 60.0
MAX_ACCOUNTS: Final = 20_000

Key = tuple[str, str, int]  # budget id, value, start of the period


@dataclass(slots=True)
class Account:
    """One value of one budget in one period, as far as this process knows.

    `granted` is ours until spent; `held` of it is reserved for calls under way; `used` was spent and not yet told.
    What is granted is ours until `lease_until` (monotonic): who is not heard of for so long is taken for dead.
    `elsewhere` is what the database last said that is spent and reserved altogether, our own grant left out.
    """

    budget: Budget
    value: str
    period_at_us: int
    user_id: str | None = None
    granted: int = 0
    held: int = 0
    used: int = 0
    elsewhere: int = 0
    wanted: int = 0
    calls: int = 0
    refused: int = 0
    denied_at: float = -1e9
    asked_at: float = -1e9
    lease_until: float = -1e9
    touched_at: float = 0.0
    is_known: bool = False
    told: Change | None = field(default=None, repr=False)

    @property
    def free(self) -> int:
        """What may be reserved without asking."""
        return self.granted - self.held - self.used

    def lacks(self, amount: int, now: float) -> bool:
        """Whether so much cannot be reserved without asking."""
        return self.free < amount or (amount > 0 and self.lease_until <= now)

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached, as far as is known here."""
        return self.elsewhere + self.held + self.used >= self.budget.limit_nano

    @property
    def key(self) -> Key:
        """Which account it is."""
        return self.budget.id, self.value, self.period_at_us

    @property
    def is_strict(self) -> bool:
        """Whether calls wait for a grant."""
        return self.budget.action == "refuse"


class Ledger:
    """The accounts of one process. Thread-safe; every method is quick."""

    def __init__(self, lease_seconds: float = 60.0) -> None:
        self._lease_seconds = lease_seconds
        self._holder = uuid.uuid4().hex  # this process, to the database
        self._accounts: dict[Key, Account] = {}
        self._lock = threading.RLock()  # a finaliser may leave a hold while we count another

    def open(self, budget: Budget, value: str, period_at_us: int, user_id: str | None, now: float) -> Account | None:
        """The account, a new one where there is none; None where this process knows too many."""
        key = (budget.id, value, period_at_us)
        account = self._accounts.get(key)
        if account is None:
            with self._lock:
                if len(self._accounts) >= MAX_ACCOUNTS:
                    return None
                account = self._accounts.setdefault(key, Account(budget, value, period_at_us, user_id))
        account.budget = budget
        account.touched_at = now
        return account

    def reserve(self, accounts: Sequence[tuple[Account, int]], now: float, *, is_forced: bool = False) -> list[Account]:
        """Hold an amount of each account, or of none; answers the accounts that lack it.

        Args:
            is_forced: hold it whatever there is: the database cannot be asked, and calls are let through.
        """
        with self._lock:
            short = [account for account, amount in accounts if account.is_strict and account.lacks(amount, now)]
            if short and not is_forced:
                for account, amount in accounts:
                    if account in short:
                        account.wanted = max(account.wanted, amount)
                return short
            for account, amount in accounts:
                account.held += amount
                account.calls += 1
        return []

    def settle(self, accounts: Sequence[tuple[Account, int]], cost: int) -> bool:
        """A call is over and cost this much; answers whether it took more than was granted: to be told at once."""
        has_overrun = False
        with self._lock:
            for account, amount in accounts:
                account.held -= amount
                account.used += cost
                has_overrun = has_overrun or (account.is_strict and account.free < 0)
        return has_overrun

    def cancel(self, accounts: Sequence[tuple[Account, int]]) -> None:
        """A call did not take place."""
        with self._lock:
            for account, amount in accounts:
                account.held -= amount
                account.calls -= 1

    def refuse(self, accounts: Sequence[Account]) -> None:
        """Count a refused call against the accounts that lacked money."""
        with self._lock:
            for account in accounts:
                account.refused += 1

    def is_low(self, accounts: Sequence[tuple[Account, int]]) -> bool:
        """Whether more should be asked for before a call has to wait for it."""
        return any(
            account.is_strict and account.free < amount and account.denied_at < account.touched_at - DENIED_SECONDS
            for account, amount in accounts
        )

    def ask_ahead(self, accounts: Sequence[tuple[Account, int]]) -> None:
        """Want more for the next call."""
        with self._lock:
            for account, amount in accounts:
                if account.is_strict and account.free < amount:
                    account.wanted = max(account.wanted, amount)

    # --- for the keeper ---------------------------------------------------------------------------------------------

    def is_waited_for(self) -> bool:
        """Whether some account wants money or has yet to be looked up."""
        with self._lock:
            return any(account.wanted or not account.is_known for account in self._accounts.values())

    def changes(self, now: float, *, is_last: bool = False, most: int = 500) -> list[Account]:
        """Accounts with something to tell or to ask, each with `told` set; `answer` or `undo` must follow.

        Args:
            is_last: the process ends: everything that is held in advance is given back.
        """
        found: list[Account] = []
        with self._lock:
            for account in self._accounts.values():
                change = self._change(account, now, is_last)
                if change is not None:
                    account.told = change
                    found.append(account)
                    if len(found) >= most:
                        break
        return found

    def _change(self, account: Account, now: float, is_last: bool) -> Change | None:
        want, account.wanted = account.wanted, 0
        spend, calls, refused = account.used, account.calls, account.refused
        is_idle = is_last or (not want and now - account.touched_at >= IDLE_SECONDS)
        release = min(spend, max(0, account.granted - account.held))
        if is_idle:
            release = max(0, account.granted - account.held)
        # What was held beyond its lease may be another's by now: it is asked for again.
        own = account.free if now < account.lease_until else 0
        need = max(0, want - own) if want and not is_last else 0
        is_lapsing = account.granted > 0 and now >= account.lease_until - self._lease_seconds / 2
        if not (spend or calls or refused or release or need or is_lapsing) and (account.is_known or is_last):
            return None
        wish = need + account.budget.limit_nano // SHARE if need else 0
        account.granted -= release
        account.asked_at = now
        account.used -= spend
        account.calls -= calls
        account.refused -= refused
        return Change(
            budget_id=account.budget.id,
            value=account.value,
            period_at_us=account.period_at_us,
            user_id=account.user_id,
            holder=self._holder,
            lease_us=round(self._lease_seconds * 1_000_000),
            spend=spend,
            release=release,
            need=need,
            wish=wish,
            calls=calls,
            refused=refused,
        )

    def answer(self, accounts: Sequence[Account], outcomes: Sequence[Outcome], now: float) -> None:
        """What the database said to the changes of these accounts."""
        with self._lock:
            for account, outcome in zip(accounts, outcomes, strict=True):
                change, account.told = account.told, None
                assert change is not None
                account.granted = outcome.held
                account.lease_until = account.asked_at + self._lease_seconds
                account.elsewhere = max(0, outcome.spent + outcome.reserved - account.granted)
                account.is_known = True
                if change.need > outcome.granted:
                    account.denied_at = now

    def undo(self, accounts: Sequence[Account]) -> None:
        """The database was not reached: the changes are still to be told."""
        with self._lock:
            for account in accounts:
                change, account.told = account.told, None
                assert change is not None
                account.granted += change.release
                account.used += change.spend
                account.calls += change.calls
                account.refused += change.refused
                account.wanted = max(account.wanted, 0)

    def forget(self, now: float, live: set[str]) -> None:
        """Let go of accounts that nothing is left of: long unused, or of budgets that are no more."""
        with self._lock:
            for key, account in list(self._accounts.items()):
                is_empty = not (account.held or account.used or account.calls or account.refused or account.told)
                is_past = account.budget.id not in live or now - account.touched_at >= FORGET_SECONDS
                if is_empty and is_past and (not account.granted or account.budget.id not in live):
                    del self._accounts[key]
