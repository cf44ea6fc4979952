"""Checks: evaluators that need no model. `CHECKS` has them all by name."""

from collections.abc import Mapping
from typing import Final

from turntrace.evaluation.checks import grounding, limit, retrieval, safety, text
from turntrace.evaluation.checks.finding import Check, CheckKind, Finding
from turntrace.evaluation.options import Options

CHECKS: Final[Mapping[str, CheckKind]] = {
    kind.name: kind for module in (text, limit, safety, grounding, retrieval) for kind in module.KINDS
}

__all__ = ["CHECKS", "Check", "CheckKind", "Finding", "make"]


def make(values: object, *, place: str = "$.check") -> tuple[CheckKind, Check]:
    """The check that an object `{name, …options}` describes.

    Raises:
        InvalidInput: an unknown check or option; `field` of the error says where.
    """
    options = Options(values, place)
    kind = CHECKS[options.choice("name", tuple(CHECKS))]
    check = kind.make(options)
    options.finish()
    return kind, check
