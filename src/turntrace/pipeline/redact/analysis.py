"""What the redactor asks of whoever finds personal data, and how overlapping findings are settled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entity:
    """One finding: `text[start:end]` is personal data of kind `type` (Presidio's names), sure by `score` (0..1).

    `source` names the recogniser that found it.
    """

    start: int
    end: int
    type: str
    score: float = 1.0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A text that could not be analysed. `reason` is shown in place of the text and never quotes it.

    `is_lasting`: the same text would fail again, so it need not be tried a second time.
    """

    reason: str
    is_lasting: bool = False


Finding = Sequence[Entity] | Failure


class Analyzer(Protocol):
    """Finds personal data. Implemented by `turntrace.integrations.presidio`."""

    def analyze(self, texts: Sequence[str]) -> Sequence[Finding]:
        """The findings of each text, in the order given; a text that could not be analysed gives a `Failure`."""
        ...


def settle(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """Entities in order and without overlap.

    Overlapping ones become one that covers them all, so that nothing found is left standing; it takes the type of the
    surest, then of the longest.
    """
    settled: list[tuple[Entity, Entity]] = []  # (extent, the one that names the type)
    for entity in sorted(entities, key=lambda item: (item.start, -item.end)):
        if entity.start >= entity.end:
            continue
        if not settled or entity.start >= settled[-1][0].end:
            settled.append((entity, entity))
            continue
        extent, best = settled[-1]
        best = max(best, entity, key=lambda item: (item.score, item.end - item.start))
        settled[-1] = (Entity(extent.start, max(extent.end, entity.end), best.type, best.score, best.source), best)
    return tuple(Entity(extent.start, extent.end, best.type, best.score, best.source) for extent, best in settled)
