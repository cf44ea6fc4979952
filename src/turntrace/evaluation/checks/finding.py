"""What a check is and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turntrace.evaluation.options import Options

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check says, in each form that it offers: `flag` for boolean scores, `number` and `label` for others."""

    reason: str
    flag: bool | None = None
    number: float | None = None
    label: str | None = None


# None: there is nothing here that could be checked.
Check = Callable[[Document], Finding | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckKind:
    """A kind of check: what makes one of options, and which data types of scores it can give, the usual one first.

    `better` says which end of its scale is the good one; `options` is an example that works.
    """

    name: str
    help: str
    make: Callable[[Options], Check]
    data_types: tuple[str, ...] = ("boolean",)
    better: str = "high"
    options: Mapping[str, Any]
    targets: tuple[str, ...] = ("observation", "trace", "session")
