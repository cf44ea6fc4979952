"""What a score of an evaluator may be: its name, data type, range or categories, and which end is the good one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from turntrace.errors import EvaluationFailed, InvalidInput
from turntrace.evaluation.checks.finding import CheckKind, Finding
from turntrace.evaluation.options import Options
from turntrace.records.evaluator import Verdict

DATA_TYPES: Final = ("boolean", "numeric", "categorical")
_MOST_REASON: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreShape:
    """`minimum` and `maximum` are inclusive; `good` are the categories that count as good."""

    name: str
    data_type: str
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    better: str = "high"
    good: tuple[str, ...] = ()

    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of a judge's answer: the reason comes before the score."""
        return {
            "type": "object",
            "properties": {
                "reason": {"type": "string", "description": "why, in one or two sentences, before the score"},
                "score": self._score_schema(),
            },
            "required": ["reason", "score"],
            "additionalProperties": False,
        }

    def _score_schema(self) -> Mapping[str, Any]:
        if self.data_type == "boolean":
            return {"type": "boolean"}
        if self.data_type == "categorical":
            return {"type": "string", "enum": list(self.categories)}
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {"type": "number", **{name: value for name, value in bounds.items() if value is not None}}

    def wanted(self) -> str:
        """What the score must be, in words."""
        if self.data_type == "boolean":
            return "true or false"
        if self.data_type == "categorical":
            return "one of " + ", ".join(f'"{category}"' for category in self.categories)
        if self.minimum is not None and self.maximum is not None:
            return f"a number from {self.minimum:g} to {self.maximum:g}"
        return "a number"

    def value(self, given: Any) -> float | bool | str:
        """The value that an evaluator gave, brought to the data type.

        Raises:
            EvaluationFailed: it is none of this shape. Nothing is made up.
        """
        found = {"boolean": _boolean, "numeric": _number, "categorical": self._category}[self.data_type](given)
        is_low = isinstance(found, float) and self.minimum is not None and found < self.minimum
        is_high = isinstance(found, float) and self.maximum is not None and found > self.maximum
        if found is None or is_low or is_high:
            raise EvaluationFailed("not_in_range" if is_low or is_high else "wrong_type")
        return found

    def _category(self, given: Any) -> str | None:
        folded = {category.casefold(): category for category in self.categories}
        if not isinstance(given, str):
            return None
        return folded.get(given.strip().casefold()) if self.categories else given.strip()[:200] or None

    def verdict_of(self, finding: Finding) -> Verdict | None:
        """A finding of a check as this score; None where the check has nothing of this type to say."""
        given: Any = {"boolean": finding.flag, "numeric": finding.number, "categorical": finding.label}[self.data_type]
        if given is None:
            return None
        return Verdict(value=self.value(given), reason=finding.reason[:_MOST_REASON])


def _boolean(given: Any) -> bool | None:
    if isinstance(given, str):
        return {"true": True, "false": False}.get(given.strip().lower())
    return given if isinstance(given, bool) else None


def _number(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_shape(values: Any, *, name: str, check: CheckKind | None) -> ScoreShape:
    """The shape that a definition states; what it leaves out follows from the evaluator.

    Raises:
        InvalidInput: unusable; `field` says where.
    """
    options = Options({} if values is None else values, "$.score")
    offered = check.data_types if check is not None else DATA_TYPES
    data_type = options.choice("data_type", DATA_TYPES, offered[0])
    if data_type not in offered:
        raise options.refuse("data_type", f"the check {check.name if check else ''} gives {' or '.join(offered)}")
    low, high = options.maybe_number("min"), options.maybe_number("max")
    categories = options.texts("categories", is_required=data_type == "categorical" and check is None)
    if data_type != "numeric" and (low is not None or high is not None):
        raise options.refuse("min", "only numeric scores have a range")
    if low is not None and high is not None and low >= high:
        raise options.refuse("max", "expected more than min")
    if data_type != "categorical" and categories:
        raise options.refuse("categories", "only categorical scores have categories")
    good = options.texts("good", is_required=False)
    if any(category not in categories for category in good):
        raise options.refuse("good", "expected some of the categories")
    found = ScoreShape(
        name=options.text("name", name, most=100),
        data_type=data_type,
        minimum=low,
        maximum=high,
        categories=categories,
        better=options.choice("better", ("high", "low"), check.better if check is not None else "high"),
        good=good,
    )
    options.finish()
    return found


def shape_of(values: Mapping[str, Any]) -> ScoreShape | None:
    """The shape of a stored definition's `score` where it can be read on its own."""
    try:
        return read_shape(values.get("score"), name=str(values.get("name") or "score"), check=None)
    except InvalidInput:
        return None
