"""How a measurement is printed: Markdown for people, JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {key: median(r[key] for r in rounds) for key in rounds[0]}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with the keys of the first row as its head."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(row.get(key)) for key in head) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str("" if value is None else value)


def publish(name: str, rows: Sequence[Mapping[str, Any]], out: Path | None = None) -> None:
    """Print the table, and write JSON and Markdown to `out` when it is given."""
    print(f"## {name}\n\n{table(rows)}\n")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps(list(rows), indent=1))
        (out / f"{name}.md").write_text(f"## {name}\n\n{table(rows)}\n")
