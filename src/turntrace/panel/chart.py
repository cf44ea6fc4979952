"""Time series as the browser draws them, with the same numbers for a table; small lines drawn on the server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from turntrace.panel import wording
from turntrace.records.usage import to_decimal

SPARK_WIDTH: Final = 100
SPARK_HEIGHT: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series; None is a gap. `dashed` where lines must differ by more than their colour.

    `colour` is one of the panel's six series colours, by default that of the line's place.
    """

    label: str
    values: Sequence[float | None]
    dashed: bool = False
    colour: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines over the same times (seconds since the epoch). `unit` is count, number, money, seconds or share.

    `bands` are filled between two lines each, named by their places.
    """

    title: str
    unit: str
    times: Sequence[int]
    lines: Sequence[Line]
    kind: str = "lines"
    bands: Sequence[tuple[int, int]] = ()

    @property
    def data(self) -> dict[str, Any]:
        """What the script in the page reads."""
        series = [
            {"label": line.label, "values": list(line.values), "dashed": line.dashed, "colour": line.colour}
            for line in self.lines
        ]
        found = {"unit": self.unit, "kind": self.kind, "times": list(self.times), "series": series}
        return {**found, "bands": [list(pair) for pair in self.bands]}

    @property
    def rows(self) -> list[tuple[int, list[str]]]:
        """Time in microseconds and each line's value as text, oldest first, for the table."""
        say = _SAY[self.unit]
        return [
            (
                at * 1_000_000,
                [wording.ABSENT if line.values[index] is None else say(line.values[index]) for line in self.lines],
            )
            for index, at in enumerate(self.times)
        ]


def dollars(nano_dollars: int | None) -> float | None:
    """For drawing only: money is shown from the exact integer."""
    amount = to_decimal(nano_dollars)
    return None if amount is None else float(amount)


def seconds(us: int | None) -> float | None:
    """Seconds of microseconds."""
    return None if us is None else us / 1_000_000


def _money(value: Any) -> str:
    return wording.money(int(Decimal(str(value)).scaleb(9)))


_SAY: Final[dict[str, Callable[[Any], str]]] = {
    "count": lambda value: f"{value:,.0f}",
    "number": lambda value: f"{value:.3g}",
    "money": _money,
    "seconds": lambda value: wording.duration(round(value * 1_000_000)),
    "share": lambda value: wording.percent(value, 1),
}


def spark(values: Sequence[float | None]) -> tuple[str, str] | None:
    """SVG path data of a small line and of the area under it (100 × 30), or None where there is nothing to draw."""
    numbers = [value or 0 for value in values]
    highest = max(numbers, default=0)
    if len(numbers) < 2 or highest <= 0:
        return None
    step = SPARK_WIDTH / (len(numbers) - 1)
    points = [
        f"{index * step:.1f} {SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * n / highest:.1f}"
        for index, n in enumerate(numbers)
    ]
    line = "M" + "L".join(points)
    return line, f"{line}L{SPARK_WIDTH} {SPARK_HEIGHT}L0 {SPARK_HEIGHT}Z"
