"""The attributes of one span while a reader takes from them; what nobody took becomes metadata."""

from collections.abc import Callable
from typing import Any

from turntrace.pipeline.convert import value as values

Indexed = dict[int, dict[str, Any]]


class Bag:
    """Attributes by name. Taking removes: every name a reader knows is gone afterwards, found first or not."""

    __slots__ = ("_names", "decode", "rest")

    def __init__(self, attributes: dict[str, Any], *, decode: Callable[[Any], Any] | None = None) -> None:
        self.rest = dict(attributes)
        self.decode = decode
        self._names: str | None = None  # all names there were, each after a line end: one search tells of a prefix

    def __contains__(self, name: str) -> bool:
        return name in self.rest

    def peek(self, name: str) -> Any:
        """The value, left where it is."""
        found = self.rest.get(name)
        return found if self.decode is None or found is None else self.decode(found)

    def take(self, *names: str) -> Any:
        """The first value that is neither absent nor empty text; all of the names are removed."""
        found, rest = None, self.rest
        for name in names:
            if name in rest:
                value = rest.pop(name)
                if found is None and value is not None and value != "":
                    found = value
        return found if self.decode is None or found is None else self.decode(found)

    def text(self, *names: str) -> str | None:
        """The first value as text."""
        return values.text(self.take(*names))

    def number(self, *names: str) -> float | None:
        """The first value as a finite number."""
        return values.number(self.take(*names))

    def structured(self, *names: str) -> Any:
        """The first value, with JSON text parsed."""
        return values.structured(self.take(*names))

    def mapping(self, *names: str) -> dict[str, Any]:
        """The first value as a mapping."""
        return values.mapping(self.take(*names))

    def under(self, prefix: str) -> dict[str, Any]:
        """All values whose name starts with the prefix, by the rest of their name; they are removed."""
        if self._names is None:
            self._names = "\n" + "\n".join(self.rest)
        if f"\n{prefix}" not in self._names:
            return {}
        names = [name for name in self.rest if name.startswith(prefix)]
        found = {name[len(prefix) :]: self.rest.pop(name) for name in names}
        return found if self.decode is None else {name: self.decode(value) for name, value in found.items()}

    def indexed(self, prefix: str) -> list[dict[str, Any]]:
        """`<prefix><n>.<rest>` as one mapping per n, in numeric order; they are removed."""
        return indexed(self.under(prefix))


def indexed(flat: dict[str, Any]) -> list[dict[str, Any]]:
    """`<n>.<rest>: value` as one mapping per n, in numeric order; `<n>: value` is kept under the empty name."""
    rows: Indexed = {}
    for name, value in flat.items():
        index, _, rest = name.partition(".")
        if index.isdecimal() and len(index) < 10:
            rows.setdefault(int(index), {})[rest] = value
    return [rows[index] for index in sorted(rows)]


def nested(flat: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The rows of an index inside one row: `<prefix><m>.<rest>`."""
    return indexed({name[len(prefix) :]: value for name, value in flat.items() if name.startswith(prefix)})
