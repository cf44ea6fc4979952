"""Groundedness without a model: which words of an answer stand in what it was given.

It is lexical: it follows names, numbers and terms, not meaning. It suits answers that quote; a paraphrase counts as
unsupported, and a wrong claim made of the source's own words as supported. `docs/quality.md` has its agreement with
labels.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from turntrace.evaluation.checks.finding import Check, CheckKind, Document, Finding
from turntrace.evaluation.options import Options

_WORD: Final = re.compile(r"[^\W_]+")
_CITATION: Final = re.compile(r"\[[\w.:/-]{1,80}\]")
_STOP: Final = frozenset(
    word
    for line in (
        "a an the is are was were be been being am do does did has have had of in on at by for from to with and or",
        "but not no it its he she they him her his hers them their theirs this that these those as who whom which",
        "what when where why how there here i you we our your my me us so if than then also both either neither such",
        "some any all into about over under between during after before can could will would shall should may might",
        "must s t",
    )
    for word in line.split()
)
_ENDINGS: Final = ("ing", "ed", "es", "ly", "s")
DEFAULT_THRESHOLD: Final = 0.9


def content_words(text: str) -> list[str]:
    """The words that carry meaning, lower case, without the commonest endings."""
    return [_stem(word) for word in _words(text) if word not in _STOP]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_CITATION.sub(" ", text))]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def supported(answer: str, context: Iterable[str]) -> tuple[float, Sequence[str]] | None:
    """The share of an answer's content words that the context has, and the words it has not; None without words."""
    words = [word for word in _words(answer) if word not in _STOP]
    if not words:
        return None
    known = {word for text in context for word in content_words(text)}
    missing = [word for word in words if _stem(word) not in known]
    return 1 - len(missing) / len(words), missing


def _groundedness(options: Options) -> Check:
    threshold = options.number("threshold", DEFAULT_THRESHOLD, low=0, high=1)

    def check(document: Document) -> Finding | None:
        context = [str(text) for text in document.get("context") or ()]
        found = supported(str(document.get("answer") or ""), context) if context else None
        if found is None:
            return None
        share, missing = found
        named = f"; not there: {', '.join(dict.fromkeys(missing[:12]))}" if missing else ""
        return Finding(
            flag=share >= threshold, number=share, reason=f"{share:.0%} of its words are in the sources{named}"
        )

    return check


def _hallucination(options: Options) -> Check:
    grounded = _groundedness(options)

    def check(document: Document) -> Finding | None:
        found = grounded(document)
        if found is None or found.number is None:
            return None
        return Finding(flag=not found.flag, number=1 - found.number, reason=found.reason)

    return check


KINDS: Final = (
    CheckKind(
        name="groundedness",
        help="the words of the answer stand in its sources (lexical)",
        make=_groundedness,
        data_types=("numeric", "boolean"),
        options={"threshold": DEFAULT_THRESHOLD},
    ),
    CheckKind(
        name="hallucination",
        help="words of the answer stand in none of its sources (lexical)",
        make=_hallucination,
        data_types=("boolean", "numeric"),
        better="low",
        options={"threshold": DEFAULT_THRESHOLD},
    ),
)
