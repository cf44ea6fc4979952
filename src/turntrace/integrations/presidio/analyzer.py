"""The `Analyzer` of the redactor: screens texts here, asks the analysing process about the rest."""

import re
from collections.abc import Sequence
from typing import Any, Final

from turntrace.integrations.presidio.fold import Folded, Unescaped, is_escaped
from turntrace.integrations.presidio.process import AnalyzerProcess, Question
from turntrace.integrations.presidio.screen import Sign, read_signs
from turntrace.pipeline.redact import Entity, Failure

MAX_CHARACTERS: Final = 1_000_000
_LONGEST_READ: Final = 16_384  # characters; the rest is for the process that can be killed


class PresidioAnalyzer:
    """Finds personal data with Presidio in a killable process; see `AnalyzerProcess` for its limits.

    Texts that show no sign of anything (most of a chat) are answered here without asking. With a model every text
    that has a letter is asked about.
    """

    def __init__(self, order: dict[str, Any], *, seconds: float) -> None:
        # What a recogniser of somebody else's looks for, no sign of ours tells.
        self._asks_always = bool(order.get("ner_model") or order.get("asks_always"))
        self._asks_digits = bool(order.get("national_ids"))
        self._denied = _any_of(order.get("denied", ()))
        self._process = AnalyzerProcess(order, seconds=seconds)

    @property
    def process(self) -> AnalyzerProcess:
        """The handle of the analysing process."""
        return self._process

    def warm(self) -> None:
        """Start the analysing process now, so that the first turn need not wait for it."""
        self._process.start()

    def close(self) -> None:
        """End the analysing process."""
        self._process.close()

    def analyze(self, texts: Sequence[str]) -> list[list[Entity] | Failure]:
        """The findings of each text; never raises for what a text holds."""
        answers: list[list[Entity] | Failure] = [[] for _ in texts]
        asked: list[int] = []
        questions: list[Question] = []
        for index, text in enumerate(texts):
            if len(text) > MAX_CHARACTERS:
                answers[index] = Failure("too long", is_lasting=True)
                continue
            signs = _signs(text)
            if signs or self._asks_always or self._concerns(text):
                asked.append(index)
                questions.append((text, signs))
        for index, answer in zip(asked, self._process.ask(questions), strict=True):
            answers[index] = answer
        return answers

    def _concerns(self, text: str) -> bool:
        """Whether a recogniser of the operator's choice could find something."""
        if self._asks_digits and any(character.isdigit() for character in text):
            return True
        if self._denied is None:
            return False
        plain = Folded(text).text
        if self._denied.search(plain) is not None:
            return True
        return is_escaped(plain) and self._denied.search(Unescaped(plain).text) is not None


def _any_of(words: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(re.escape(Folded(word).text) for word in words), re.IGNORECASE) if words else None


def _signs(text: str) -> int:
    if len(text) > _LONGEST_READ:
        return Sign.UNREAD
    plain = text if text.isascii() else Folded(text).text
    return read_signs(plain) | (read_signs(Unescaped(plain).text) if is_escaped(plain) else 0)
