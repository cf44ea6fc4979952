"""The `Analyzer` of the redactor: screens texts here, asks the analysing process about the rest."""

from collections.abc import Sequence
from typing import Any, Final

from turntrace.integrations.presidio.fold import Folded
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
        self._has_model = bool(order.get("ner_model"))
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
            if signs or self._has_model:
                asked.append(index)
                questions.append((text, signs))
        for index, answer in zip(asked, self._process.ask(questions), strict=True):
            answers[index] = answer
        return answers


def _signs(text: str) -> int:
    if len(text) > _LONGEST_READ:
        return Sign.UNREAD
    return read_signs(text if text.isascii() else Folded(text).text)
