"""A text tried out: what would be stored of it, and why. Nothing of it is kept anywhere."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from turntrace.pipeline.redact.analysis import Analyzer, Entity, Failure, Finding, settle
from turntrace.pipeline.redact.redactor import TraceRedactor
from turntrace.pipeline.redact.tag import number_tags
from turntrace.records.trace import Trace
from turntrace.settings import Settings

_TURN: Final = "0" * 32
_PLACEHOLDER: Final = re.compile(r"<([A-Z][A-Z0-9_]{0,39})_(?:k[0-9a-f]{8}|h[0-9a-f]{16})>")
_SHOWN: Final = 80  # characters of a finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that would not be stored: its text (begin of it), what took its place, and who found it how surely.

    `recognizer` is "" where the name of its field tells what it is.
    """

    text: str
    type: str
    recognizer: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What would be stored of a text, placeholders numbered as they are shown; `failures`: why texts were withheld."""

    stored: str
    reasons: tuple[Reason, ...] = ()
    failures: tuple[str, ...] = ()
    mode: str = "redacted"


class _Listening:
    """An analyser that remembers what was asked and answered."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self.heard: list[tuple[str, Finding]] = []

    def analyze(self, texts: Sequence[str]) -> Sequence[Finding]:
        found = self._analyzer.analyze(texts)
        self.heard += zip(texts, found, strict=True)
        return found


def try_text(settings: Settings, analyzer: Analyzer | None, text: str, *, key: bytes, route: str = "") -> Trial:
    """What these settings would store of a text that stands as the input of a turn.

    Args:
        analyzer: None where redaction is off.
        route: of the turn, for rules that ask for it.
    """
    if settings.content == "metadata":
        return Trial(stored="", mode="metadata")
    if analyzer is None:
        return Trial(stored=text, mode="full")
    listening = _Listening(analyzer)
    trace = Trace(id=_TURN, trace_id=_TURN, span_id=_TURN[:16], route=route or None, input=_value(text))
    (redacted,) = TraceRedactor.of(settings, listening, key=key).redact([trace])
    failures = tuple(item.reason for _, item in listening.heard if isinstance(item, Failure))
    reasons = [
        _reason(asked, item)
        for asked, found in listening.heard
        if not isinstance(found, Failure)
        for item in settle(found)
    ]
    kept = redacted.input
    stored = kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False, indent=2)
    named = _PLACEHOLDER.findall(stored)
    reasons += [Reason(text="", type=kind, recognizer="", score=1.0) for kind in named[len(reasons) :]]
    return Trial(stored=str(_numbered(stored)), reasons=tuple(reasons), failures=failures)


def _value(text: str) -> Any:
    """What the text says where it is a JSON object or array, else the text."""
    try:
        return json.loads(text) if text.lstrip()[:1] in ("{", "[") else text
    except (ValueError, RecursionError):
        return text


def _numbered(text: str) -> Any:
    return number_tags(text, {})


def _reason(text: str, item: Entity) -> Reason:
    found = text[item.start : item.end]
    shown = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}…"
    return Reason(text=shown, type=item.type, recognizer=item.source, score=item.score)
