"""Pattern recognisers written as rows of a table. Imports Presidio: only the analysing process does.

Every pattern is linear: repetitions are bounded or cannot give back, and `\\K` cuts the words that announce a value off
the finding, so that they stay readable.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import regex
from presidio_analyzer import Pattern, PatternRecognizer, RecognizerResult

Accept = Callable[[str], bool]
FLAGS = regex.MULTILINE | regex.IGNORECASE


TIMEOUT_SECONDS = 1.0


class ListedRecognizer(PatternRecognizer):
    """A `PatternRecognizer` that is refused a match by a function, and that raises when a pattern runs out of time.

    Args:
        entity: Presidio's name of what it finds.
        patterns: (regular expression, score) each.
        context: words that raise the score where they are near.
        accept: whether a match is a finding.
    """

    def __init__(
        self,
        entity: str,
        patterns: Sequence[tuple[str, float]],
        *,
        context: Sequence[str] = (),
        accept: Accept | None = None,
        flags: int = FLAGS,
        name: str | None = None,
    ) -> None:
        named = name or f"Listed{entity.title().replace('_', '')}"
        super().__init__(
            supported_entity=entity,
            name=named,
            patterns=[Pattern(f"{named} {index}", text, score) for index, (text, score) in enumerate(patterns)],
            context=list(context),
            global_regex_flags=flags,
        )
        self._accept = accept
        self._compiled = [(regex.compile(text, flags=flags), score) for text, score in patterns]

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None, regex_flags: int | None = None
    ) -> list[RecognizerResult]:
        """Every accepted match.

        Raises:
            TimeoutError: a pattern took longer than a second; Presidio would log it and go on without.
        """
        return [
            found_by(self, start, end, score)
            for pattern, score in self._compiled
            for start, end in self._matches(pattern, text)
        ]

    def invalidate_result(self, pattern_text: str) -> bool:
        """Whether the check refuses a match."""
        return self._accept is not None and not self._accept(pattern_text)

    def _matches(self, pattern: Any, text: str) -> Iterator[tuple[int, int]]:
        for match in pattern.finditer(text, timeout=TIMEOUT_SECONDS):
            start, end = match.span()
            if start < end and (self._accept is None or self._accept(text[start:end])):
                yield start, end


def name_of(recognizer: Any) -> str:
    """The name of a recogniser."""
    return str(recognizer.name)


def found_by(recognizer: Any, start: int, end: int, score: float) -> RecognizerResult:
    """A result as Presidio's recognisers make it."""
    return RecognizerResult(
        entity_type=recognizer.supported_entities[0],
        start=start,
        end=end,
        score=score,
        recognition_metadata={
            RecognizerResult.RECOGNIZER_NAME_KEY: recognizer.name,
            RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: recognizer.id,
        },
    )


def digits_in(text: str) -> str:
    """The digits of a text."""
    return "".join(c for c in text if c.isdigit())


def is_luhn(text: str) -> bool:
    """Whether the digits of a text pass the Luhn check of payment cards."""
    digits = [int(c) for c in digits_in(text)]
    doubled = (2 * digit - 9 if digit > 4 else 2 * digit for digit in digits[-2::-2])
    return len(digits) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
