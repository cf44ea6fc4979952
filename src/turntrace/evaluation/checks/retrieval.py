"""Checks of what was found, where labels say what should have been; and of questions asked again."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from turntrace.evaluation.checks.finding import Check, CheckKind, Document, Finding
from turntrace.evaluation.checks.grounding import content_words
from turntrace.evaluation.options import Options
from turntrace.evaluation.template import compile_path, select

Hits = Sequence[bool]


def _ndcg(hits: Hits, wanted: int, k: int) -> float:
    """Järvelin and Kekäläinen (2002): the best that `k` places could hold, not those that were filled, is 1."""
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(wanted, k)))
    return gain / ideal if ideal else 0.0


_METRICS: Final[Mapping[str, Callable[[Hits, int, int], float]]] = {
    "hit_rate": lambda hits, wanted, k: float(any(hits)),
    "precision": lambda hits, wanted, k: sum(hits) / len(hits) if hits else 0.0,
    "recall": lambda hits, wanted, k: sum(hits) / wanted,
    "mrr": lambda hits, wanted, k: next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0),
    "ndcg": _ndcg,
}


def _retrieval(options: Options) -> Check:
    metric = options.choice("metric", tuple(_METRICS), "hit_rate")
    found_path = compile_path(options.text("documents", "$.documents"), field=f"{options.place}.documents")
    wanted_path = compile_path(options.text("relevant", "$.expected.documents"), field=f"{options.place}.relevant")
    k = int(options.number("k", 10, low=1, high=1000))

    def check(document: Document) -> Finding | None:
        wanted = set(_ids(select(wanted_path, document)))
        if not wanted:
            return None
        ids = list(dict.fromkeys(_ids(select(found_path, document))))[:k]
        value = _METRICS[metric]([item in wanted for item in ids], len(wanted), k)
        reason = f"{len(wanted & set(ids))} of {len(wanted)} relevant documents among the first {k}"
        return Finding(number=value, reason=reason)

    return check


def _ids(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [str(item.get("id")) if isinstance(item, Mapping) else str(item) for item in items]


def _repeated(options: Options) -> Check:
    least = options.number("similarity", 0.7, low=0, high=1)

    def check(document: Document) -> Finding | None:
        turns = (document.get("session") or {}).get("turns") or ()
        asked = [set(content_words(str(turn.get("question") or ""))) for turn in turns]
        if len(asked) < 2:
            return None
        pairs = [(i, j) for j in range(len(asked)) for i in range(j) if _alike(asked[i], asked[j]) >= least]
        reason = f"turn {pairs[0][1] + 1} asks what turn {pairs[0][0] + 1} asked" if pairs else "no question came again"
        return Finding(flag=bool(pairs), number=float(len({j for _, j in pairs})), reason=reason)

    return check


def _alike(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0


KINDS: Final = (
    CheckKind(
        name="retrieval",
        help="relevant documents were found (needs labels)",
        make=_retrieval,
        data_types=("numeric",),
        options={"metric": "hit_rate", "k": 5},
        targets=("observation", "trace"),
    ),
    CheckKind(
        name="repeated_question",
        help="the user had to ask the same again",
        make=_repeated,
        data_types=("boolean", "numeric"),
        better="low",
        options={"similarity": 0.7},
        targets=("session",),
    ),
)
