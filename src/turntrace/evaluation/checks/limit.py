"""Checks of what it took: time and money."""

from typing import Final

from turntrace.evaluation.checks.finding import Check, CheckKind, Document, Finding
from turntrace.evaluation.options import Options


def _latency(options: Options) -> Check:
    name = {"duration": "duration_ms", "ttft": "ttft_ms"}[options.choice("of", ("duration", "ttft"), "duration")]
    most = options.number("max_ms")

    def check(document: Document) -> Finding | None:
        took = document.get(name)
        if took is None:
            return None
        return Finding(flag=took <= most, number=float(took), reason=f"{took:,.0f} ms")

    return check


def _cost(options: Options) -> Check:
    most = options.number("max_usd")

    def check(document: Document) -> Finding | None:
        cost = document.get("cost")
        if cost is None:
            return None
        return Finding(flag=cost <= most, number=float(cost), reason=f"${cost:.6f}")

    return check


_TYPES: Final = ("boolean", "numeric")
_TARGETS: Final = ("observation", "trace")
KINDS: Final = (
    CheckKind(
        name="latency",
        help="took no longer than",
        make=_latency,
        data_types=_TYPES,
        options={"max_ms": 5000},
        targets=_TARGETS,
    ),
    CheckKind(
        name="cost",
        help="cost no more than",
        make=_cost,
        data_types=_TYPES,
        options={"max_usd": 0.05},
        targets=_TARGETS,
    ),
)
