"""Texts about turns (comments, corrections, labels, evaluators' reasons): redacted as the turns themselves are."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from turntrace.pipeline import Redactor
from turntrace.records.evaluator import Verdict
from turntrace.records.score import Score
from turntrace.records.trace import Trace

TAG_PURPOSE: Final = b"redaction tags"


def redacted_text(redactor: Redactor, text: str, *, scope: str) -> str:
    """One text, redacted; `scope` is the turn whose placeholders it shares."""
    return str(redactor.redact([_as_trace(scope, text)])[0].name)


def redacted_scores(redactor: Redactor | None, scores: Sequence[Score]) -> tuple[Score, ...]:
    """The scores with every text in them redacted: comments, values that are words, what came with them."""
    if redactor is None:
        return tuple(scores)
    return tuple(_redacted(redactor, score) for score in scores)


def _redacted(redactor: Redactor, score: Score) -> Score:
    scope = score.turn_id or score.trace_id or score.session_id or score.id
    return replace(
        score,
        comment=redacted_text(redactor, score.comment, scope=scope) if score.comment else score.comment,
        value=redacted_text(redactor, score.value, scope=scope) if isinstance(score.value, str) else score.value,
        metadata=_redacted_mapping(redactor, score.metadata, scope),
    )


class VerdictRedactor:
    """Redacts what evaluators say. For several threads, one at a time."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._lock = redactor, threading.Lock()

    def __call__(self, verdict: Verdict, scope: str) -> Verdict:
        """The verdict without what is personal in its reason, its value (where that is text) and its metadata.

        Args:
            scope: the turn or session that was judged.
        """
        value, reason = verdict.value, verdict.reason
        with self._lock:
            return replace(
                verdict,
                value=redacted_text(self._redactor, value, scope=scope) if isinstance(value, str) else value,
                reason=redacted_text(self._redactor, reason, scope=scope) if reason else reason,
                metadata=_redacted_mapping(self._redactor, verdict.metadata, scope),
            )


_WITHHELD: Final = "withheld"  # key of the marker that stands for metadata that could not be redacted


def _redacted_mapping(redactor: Redactor, found: Mapping[str, Any], scope: str) -> Mapping[str, Any]:
    if not found:
        return found
    text = redacted_text(redactor, json.dumps(found, default=str), scope=scope)
    try:
        read = json.loads(text)
    except ValueError:
        read = text
    return read if isinstance(read, dict) else {_WITHHELD: str(read)}


def _as_trace(scope: str, text: str) -> Trace:
    # In a field that no rule of the operator is about.
    return Trace(id=scope, trace_id=scope, span_id="", name=text)
