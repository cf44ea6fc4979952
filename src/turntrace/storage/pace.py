"""How much work fits a transaction that may hold a lock only briefly: learnt from the last ones."""

import time


class Pace:
    """Items that one transaction takes within `seconds`.

    Args:
        seconds: aimed at; half of what is allowed, since no two transactions are alike.
        first: items of the first transaction.
        least: items of a transaction however long it takes: on a busy machine its statements alone take the time.
    """

    def __init__(self, seconds: float, *, first: int = 8, least: int = 1) -> None:
        self._seconds, self._items, self._least = seconds, float(first), least

    @property
    def items(self) -> int:
        """Items of the next transaction."""
        return max(self._least, int(self._items))

    def learn(self, items: int, seconds: float) -> None:
        """Say how long a transaction of `items` took."""
        fitting = items * self._seconds / max(seconds, 1e-6)
        self._items = max(float(self._least), min(self._items * 1.5, fitting))


class Stopwatch:
    """Seconds spent inside its `with` block."""

    seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
