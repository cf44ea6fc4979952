"""Work for human reviewers: a queue with its questions, and the turns that wait in it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from turntrace.errors import InvalidInput

MOST_QUESTIONS: Final = 12
MOST_CATEGORIES: Final = 9  # one key each
MOST_REVIEWERS: Final = 9
READY: Final = "verdict: good | bad | unsure"
_RANGE: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*to\s*(-?\d+(?:\.\d+)?)")
_PLAIN: Final = {"yes/no": "boolean", "text": "text", "correction": "correction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What reviewers are asked: the name, kind and allowed values of the score that the answer becomes."""

    name: str
    data_type: str
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @classmethod
    def read(cls, line: str) -> "Question":
        """A question as people write it.

        `name: good | bad`, `name: yes/no`, `name: 1 to 5`, `name: text` or `name: correction`.

        Raises:
            InvalidInput: it is written in another way.
        """
        name, colon, form = (part.strip() for part in line.partition(":"))
        if not colon or not 0 < len(name) <= 100:
            raise InvalidInput(f"questions: {line[:60]!r} is not “name: good | bad”", field="questions")
        if form in _PLAIN:
            return cls(name=name, data_type=_PLAIN[form])
        if found := _RANGE.fullmatch(form):
            low, high = float(found[1]), float(found[2])
            if low >= high:
                raise InvalidInput(f"questions: {name}: {form!r} has nothing in it", field="questions")
            return cls(name=name, data_type="numeric", minimum=low, maximum=high)
        categories = tuple(part.strip() for part in form.split("|"))
        if len(set(categories)) != len(categories) or not 2 <= len(categories) <= MOST_CATEGORIES:
            wanted = f"2 to {MOST_CATEGORIES} different words with | between, yes/no, 1 to 5, text or correction"
            raise InvalidInput(f"questions: {name}: expected {wanted}", field="questions")
        if not all(0 < len(word) <= 200 for word in categories):
            raise InvalidInput(f"questions: {name}: a word is empty or over 200 characters", field="questions")
        return cls(name=name, data_type="categorical", categories=categories)

    def written(self) -> str:
        """The line that `read` reads."""
        if self.data_type == "categorical":
            return f"{self.name}: {' | '.join(self.categories)}"
        if self.data_type == "numeric":
            return f"{self.name}: {self.minimum:g} to {self.maximum:g}"
        return f"{self.name}: {'yes/no' if self.data_type == 'boolean' else self.data_type}"

    def value(self, answer: str) -> Any:
        """An answer as the value of a score.

        Raises:
            InvalidInput: it is none of those allowed.
        """
        if self.data_type == "boolean":
            if answer not in ("yes", "no"):
                raise InvalidInput(f"{self.name}: yes or no", field=self.name)
            return answer == "yes"
        if self.data_type == "categorical" and answer not in self.categories:
            raise InvalidInput(f"{self.name}: one of {', '.join(self.categories)}", field=self.name)
        return self._number(answer) if self.data_type == "numeric" else answer

    def _number(self, answer: str) -> float:
        try:
            number = float(answer)
        except ValueError:
            number = float("nan")
        low, high = self.minimum, self.maximum
        if low is None or high is None or not low <= number <= high:
            raise InvalidInput(f"{self.name}: a number from {low:g} to {high:g}", field=self.name)
        return number

    @property
    def choices(self) -> tuple[str, ...]:
        """Answers that one key each stands for; none where the answer is written."""
        if self.data_type == "boolean":
            return ("yes", "no")
        if self.data_type == "numeric" and self.minimum is not None and self.maximum is not None:
            low, high = self.minimum, self.maximum
            is_short = low == int(low) and high == int(high) and high - low < MOST_CATEGORIES
            return tuple(str(number) for number in range(int(low), int(high) + 1)) if is_short else ()
        return self.categories


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue. `reviewers` people review each turn; `assignees`: they only (none: every annotator).

    `daily`: so many turns of each past UTC day are put in by themselves, at random among those of `filter` (parameters
    of the trace list).
    """

    id: str
    name: str
    instructions: str = ""
    questions: tuple[Question, ...] = ()
    reviewers: int = 1
    assignees: tuple[str, ...] = ()
    daily: int = 0
    filter: Mapping[str, str] | None = None
    is_archived: bool = False
    created_at_us: int = 0

    def is_for(self, name: str) -> bool:
        """Whether this person reviews here."""
        return not self.assignees or name in self.assignees


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """One review of one turn: `status` is pending, claimed, done or skipped."""

    id: str
    queue_id: str
    turn_id: str
    status: str
    reviewer: str | None = None
    lease_until_us: int | None = None
    created_at_us: int = 0
    finished_at_us: int | None = None


def read_questions(lines: Iterable[str]) -> tuple[Question, ...]:
    """The questions of a queue, one a line; empty lines are passed over.

    Raises:
        InvalidInput: one cannot be read, there are none or too many, or two have one name.
    """
    found = tuple(Question.read(line) for line in lines if line.strip())
    if not 0 < len(found) <= MOST_QUESTIONS:
        raise InvalidInput(f"questions: 1 to {MOST_QUESTIONS} are allowed", field="questions")
    if len({question.name for question in found}) != len(found):
        raise InvalidInput("questions: two have the same name", field="questions")
    return found


def written(questions: Sequence[Question]) -> str:
    """Questions as people write them, one a line."""
    return "\n".join(question.written() for question in questions)
