"""Reading a JSON object of options: every value checked, every refusal names its place."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from turntrace.errors import InvalidInput


class Options:
    """The members of one JSON object, taken one by one; `finish` refuses those that nobody took."""

    def __init__(self, values: Any, place: str) -> None:
        if not isinstance(values, Mapping):
            raise InvalidInput(f"{place}: expected an object", field=place)
        self._values, self.place = dict(values), place
        self._known: list[str] = []

    def refuse(self, name: str, what: str) -> InvalidInput:
        """The error for one member."""
        place = f"{self.place}.{name}" if name else self.place
        return InvalidInput(f"{place}: {what}", field=place)

    def raw(self, name: str, default: Any = None) -> Any:
        """A member as it is; None counts as absent."""
        self._known.append(name)
        value = self._values.pop(name, None)
        return default if value is None else value

    def text(self, name: str, default: str | None = None, *, most: int = 500) -> str:
        """A text that is not empty."""
        value = self.raw(name, default)
        if not isinstance(value, str) or not 0 < len(value.strip()) <= most or "\x00" in value:
            raise self.refuse(name, f"expected a text of 1 to {most:,} characters")
        return value

    def maybe_text(self, name: str, *, most: int = 500) -> str | None:
        """A text, or None."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > most or "\x00" in value:
            raise self.refuse(name, f"expected a text of at most {most:,} characters")
        return value.strip() or None

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of some words."""
        value = self.raw(name, default)
        if value not in choices:
            raise self.refuse(name, f"expected one of {', '.join(choices)}")
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, "expected true or false")
        return value

    def number(self, name: str, default: float | None = None, *, low: float = 0, high: float = 1e12) -> float:
        """A finite number between bounds."""
        found = self.maybe_number(name, low=low, high=high)
        if found is None:
            found = default
        if found is None:
            raise self.refuse(name, "expected a number")
        return found

    def maybe_number(self, name: str, *, low: float = -1e12, high: float = 1e12) -> float | None:
        """A finite number between bounds, or None."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.refuse(name, "expected a number")
        if not low <= value <= high:
            raise self.refuse(name, f"expected {low:g} to {high:g}")
        return float(value)

    def texts(self, name: str, *, most: int = 200, is_required: bool = True) -> tuple[str, ...]:
        """A list of different texts."""
        value = self.raw(name, [])
        if not isinstance(value, list) or any(not isinstance(item, str) or not item.strip() for item in value):
            raise self.refuse(name, "expected a list of texts")
        if (is_required and not value) or len(value) > most or len(set(value)) != len(value):
            raise self.refuse(name, f"expected 1 to {most} different texts")
        return tuple(value)

    def finish(self) -> None:
        """Refuse what is left.

        Raises:
            InvalidInput: a member that nobody knows.
        """
        for name in self._values:
            raise self.refuse(str(name)[:60], f"unknown; known here: {', '.join(self._known)}")
