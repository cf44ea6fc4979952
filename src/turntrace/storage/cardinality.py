"""How many values roll-ups keep apart: beyond a thousand of one day, further ones are summed as `(other)`.

Decided by the compactor alone, so that all rows of a day agree: what has a row of that day keeps it. Sums stay exact,
only the name is lost. Users and sessions are not limited: budgets, erasure and access go by them.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select, true

from turntrace.storage import tables

OTHER: Final = "(other)"
MOST_VALUES: Final = 1000
_DAY_US: Final = 86_400_000_000
_LIMITED: Final = frozenset({"route", "release", "experiment", "prompt", "tag", "step"})

_r = tables.rollup.c

Key = tuple[Any, ...]
Place = tuple[str, str, int, str]  # dimension, column, day; of tags their key
Fold = Callable[[Key], Key]


class Guard:
    """Decides, within one transaction, which values keep their name.

    Args:
        names: the columns that keys consist of, in their order.
        most: values of one dimension and day; of tags for each key.
    """

    def __init__(self, connection: Connection, names: list[str], most: int) -> None:
        self._connection, self._most = connection, most
        self._at, self._places = names.index("at_us"), {name: place for place, name in enumerate(names)}
        self._refused: dict[Place, frozenset[str]] = {}

    def look_at(self, keys: Iterable[Key]) -> None:
        """Decide on every value that these keys have."""
        found: dict[Place, set[str]] = {}
        for key in keys:
            for place, value in self._values(key):
                found.setdefault(place, set()).add(value)
        for place, values in found.items():
            self._refused[place] = self._decide(place, values)

    def fold(self, key: Key) -> Key:
        """The key with `(other)` in place of what has no name of its own."""
        changed: list[Any] | None = None
        for place, value in self._values(key):
            if value in self._refused.get(place, ()):
                changed = changed or list(key)
                changed[self._places[place[1]]] = place[3] + OTHER
        return key if changed is None else tuple(changed)

    def _values(self, key: Key) -> Iterable[tuple[Place, str]]:
        day = key[self._at] - key[self._at] % _DAY_US
        for name in ("model", "feature"):
            value = key[self._places[name]]
            if value:
                yield ("", name, day, ""), value
        if "dimension" in self._places:
            dimension = key[self._places["dimension"]]
            if dimension in _LIMITED:
                value = key[self._places["value"]]
                prefix = f"{value.partition(':')[0]}:" if dimension == "tag" else ""
                yield (dimension, "value", day, prefix), value

    def _decide(self, place: Place, values: set[str]) -> frozenset[str]:
        dimension, name, day, prefix = place
        of_day: tuple[ColumnElement[bool], ...] = (
            _r.dimension == dimension,
            _r.grain == "day",
            _r.is_compacted == true(),
            _r.at_us == day,
        )
        column = _r[name]
        if prefix:
            of_day = (*of_day, column.startswith(prefix, autoescape=True))
        asked = select(column).where(*of_day, column.in_(values)).distinct()
        fresh = sorted(values - set(self._connection.execute(asked).scalars()))
        if not fresh:
            return frozenset()
        held = int(self._connection.execute(select(func.count(column.distinct())).where(*of_day)).scalar_one())
        return frozenset(fresh[max(0, self._most - held) :])
