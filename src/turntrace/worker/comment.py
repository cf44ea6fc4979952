"""Texts of people about turns (comments, corrections): redacted as the turns themselves are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from turntrace.pipeline import Redactor
from turntrace.records.score import Score
from turntrace.records.trace import Trace

TAG_PURPOSE: Final = b"redaction tags"
_FREE_TEXT: Final = frozenset({"text", "correction"})


def redacted_text(redactor: Redactor, text: str, *, scope: str) -> str:
    """One text, redacted; `scope` is the turn whose placeholders it shares."""
    return str(redactor.redact([_as_trace(scope, text)])[0].name)


def redacted_scores(redactor: Redactor | None, scores: Sequence[Score]) -> tuple[Score, ...]:
    """The scores with comments and free-text values redacted."""
    if redactor is None:
        return tuple(scores)
    return tuple(_redacted(redactor, score) for score in scores)


def _redacted(redactor: Redactor, score: Score) -> Score:
    scope = score.turn_id or score.trace_id or score.session_id or score.id
    if score.comment:
        score = replace(score, comment=redacted_text(redactor, score.comment, scope=scope))
    if score.data_type in _FREE_TEXT:
        score = replace(score, value=redacted_text(redactor, str(score.value), scope=scope))
    return score


def _as_trace(scope: str, text: str) -> Trace:
    # In a field that no rule of the operator is about.
    return Trace(id=scope, trace_id=scope, span_id="", name=text)
