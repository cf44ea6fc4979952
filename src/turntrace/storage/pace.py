"""How much work fits a transaction that may hold a lock only briefly: learnt from the last ones."""

import time


class Pace:
    """Items that one transaction takes within `seconds`.

    Args:
        seconds: aimed at; half of what is allowed, since no two transactions are alike.
        first: items of the first transaction.
    """

    def __init__(self, seconds: float, *, first: int = 8) -> None:
        self._seconds, self._items = seconds, float(first)

    @property
    def items(self) -> int:
        """Items of the next transaction, at least one."""
        return max(1, int(self._items))

    def learn(self, items: int, seconds: float) -> None:
        """Say how long a transaction of `items` took."""
        fitting = items * self._seconds / max(seconds, 1e-6)
        self._items = max(1.0, min(self._items * 1.5, fitting))


class Stopwatch:
    """Seconds spent inside its `with` block."""

    seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
