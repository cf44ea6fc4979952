"""Redacts whole traces: every text of a turn is analysed once, and nothing that failed to be analysed goes on."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from turntrace.pipeline.redact.analysis import Analyzer, Entity, Failure, settle
from turntrace.pipeline.redact.memory import Known, Memory
from turntrace.pipeline.redact.rule import Rule, ruled
from turntrace.pipeline.redact.stream import Replacement, Stream, is_stream
from turntrace.pipeline.redact.tag import Tagger
from turntrace.pipeline.redact.walk import TooDeep, walk
from turntrace.records.observation import ErrorInfo, PromptLink
from turntrace.records.trace import Trace
from turntrace.settings import Settings

# Fields that hold text of people. Ids, models, roles, enums and times are not among them.
TRACE_FIELDS: Final = (
    "name", "route", "tags", "metadata", "feature_flags", "input", "output", "received", "input_preview",
    "output_preview", "error",
)  # fmt: skip
OBSERVATION_FIELDS: Final = (
    "name", "status_message", "error", "tags", "prompt", "parameters", "input", "output", "tool_calls",
    "tool_definitions", "query", "retrieval", "documents", "input_documents", "metadata",
)  # fmt: skip
_SETTLED: Final = re.compile(
    r"(?:<[A-Z][A-Z0-9_]*_(?:k[0-9a-f]{8}|h[0-9a-f]{16})>|\[redaction failed: [a-z0-9 ]+\]|\*+)\Z"
)
_NEEDS_DIGIT: Final = frozenset(
    {"PHONE_NUMBER", "BANK_ACCOUNT", "IBAN_CODE", "CREDIT_CARD", "US_SSN", "PASSPORT_NUMBER", "DATE_OF_BIRTH"}
)
_CLASS: Final = re.compile(r"[A-Za-z0-9_]{1,80}\Z")  # of an error; some instrumentations write a sentence there
_REASON: Final = re.compile(r"[a-z0-9 ]{1,60}\Z")

Findings = dict[str, Known]


def marker(reason: str) -> str:
    """What stands where a text was withheld."""
    return f"[redaction failed: {reason if _REASON.match(reason) else 'error'}]"


class TraceRedactor:
    """Implements `redact(traces)`, the last stage that sees raw text.

    Args:
        analyzer: finds personal data; None (setting `redaction=off`) leaves every trace as it is.
        key: secret of this application (`keyring.derive`), so that placeholders of one turn agree wherever and
            whenever its parts are worked on; without it they agree within this process only.
        rules: of the operator, for single fields.
        tags_everywhere: one value gives one placeholder in all traces, to correlate by.
        capacity: texts whose findings are remembered (offsets under keyed hashes, never text).
    """

    def __init__(
        self,
        analyzer: Analyzer | None,
        *,
        key: bytes | None = None,
        rules: Sequence[Rule] = (),
        tags_everywhere: bool = False,
        capacity: int = 50_000,
    ) -> None:
        self._analyzer = analyzer
        self._key = key or secrets.token_bytes(32)
        self._rules = tuple(rules)
        self._tags_everywhere = tags_everywhere
        self._memory = Memory(capacity)

    @classmethod
    def of(cls, settings: Settings, analyzer: Analyzer | None, *, key: bytes) -> "TraceRedactor":
        """The redactor that the settings ask for."""
        rules = [Rule.of(text) for text in settings.redaction_rules]
        return cls(analyzer, key=key, rules=rules, tags_everywhere=settings.redaction_tags == "everywhere")

    def redact(self, traces: Sequence[Trace]) -> list[Trace]:
        """The traces in their order, personal data replaced by placeholders; `redaction_failed` counts texts withheld.

        Never raises for what a trace holds: what cannot be walked or analysed is withheld.
        """
        if self._analyzer is None:
            return list(traces)
        if self._rules:
            traces = [ruled(trace, self._rules, partial(self._tagger(trace).tag, "VALUE")) for trace in traces]
        texts: dict[str, None] = {}
        collected = [_collect(trace, texts) for trace in traces]
        findings = self._find(texts)
        return [
            self._rewrite(trace, findings) if is_dirty or _concerns(own, findings) else trace
            for trace, (own, is_dirty) in zip(traces, collected, strict=True)
        ]

    def _find(self, texts: Iterable[str]) -> Findings:
        """The findings of each text that has any."""
        findings: Findings = {}
        fresh: list[tuple[str, bytes]] = []
        for text in texts:
            name = self._memory.name(text)
            known = self._memory.get(name)
            if known is None:
                fresh.append((text, name))
            elif known != ():
                findings[text] = known
        for (text, name), found in zip(fresh, self._analyze([text for text, _ in fresh]), strict=True):
            if not isinstance(found, Failure) or found.is_lasting:
                self._memory.put(name, found)
            if found != ():
                findings[text] = found
        return findings

    def _analyze(self, texts: Sequence[str]) -> list[Known]:
        """Like the analyser, but whatever goes wrong in it withholds the text it goes wrong with."""
        if not texts or self._analyzer is None:
            return []
        try:
            results = list(self._analyzer.analyze(texts))
            return [_checked(found, text) for found, text in zip(results, texts, strict=True)]
        except Exception:  # its message may quote the text: it is neither logged nor kept
            if len(texts) == 1:
                return [Failure("error")]
        middle = len(texts) // 2  # one bad text must not withhold the others of its batch
        return self._analyze(texts[:middle]) + self._analyze(texts[middle:])

    def _tagger(self, trace: Trace) -> Tagger:
        return Tagger(self._key, trace.id, is_everywhere=self._tags_everywhere)

    def _rewrite(self, trace: Trace, findings: Findings) -> Trace:
        replacer = _Replacer(findings, self._tagger(trace))
        observations = tuple(_changed(item, OBSERVATION_FIELDS, replacer) for item in trace.observations)
        redacted: Trace = _changed(trace, TRACE_FIELDS, replacer)
        return replace(redacted, observations=observations, redaction_failed=trace.redaction_failed + replacer.failed)


def _checked(found: Any, text: str) -> Known:
    if isinstance(found, Failure):
        return found
    entities = settle(found)
    if any(item.start < 0 or item.end > len(text) for item in entities):
        return Failure("error")
    return entities


def _concerns(own: Iterable[str], findings: Findings) -> bool:
    return bool(findings) and any(text in findings for text in own)


class _Collector:
    """Gathers the texts of one trace; `is_dirty` once something changes whatever the analysis says."""

    __slots__ = ("is_dirty", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.is_dirty = False

    def text(self, text: str, prefix: str = "") -> str:
        self.texts.append(prefix + text if prefix else text)
        return text

    def known(self, text: str, entity_type: str) -> str:
        self.is_dirty = True
        self.texts.append(text)
        return text

    def spans(self, text: str) -> list[Replacement]:
        self.texts.append(text)
        return []

    def withheld(self, value: Any, reason: str) -> Any:
        self.is_dirty = True
        return value


class _Replacer:
    """Puts placeholders and markers into one trace."""

    __slots__ = ("_findings", "_tagger", "failed")

    def __init__(self, findings: Findings, tagger: Tagger) -> None:
        self._findings = findings
        self._tagger = tagger
        self.failed = 0

    def text(self, text: str, prefix: str = "") -> str:
        replacements = self._replacements(prefix + text, len(prefix))
        return _put(text, replacements) if replacements else text

    def known(self, text: str, entity_type: str) -> str:
        if _SETTLED.match(text) or (entity_type in _NEEDS_DIGIT and not any(c.isdigit() for c in text)):
            return self.text(text)
        return self._tagger.tag(entity_type, text)

    def spans(self, text: str) -> list[Replacement]:
        return self._replacements(text)

    def withheld(self, value: Any, reason: str) -> Any:
        self.failed += 1
        return _withheld(value, marker(reason))

    def _replacements(self, text: str, offset: int = 0) -> list[Replacement]:
        found = self._findings.get(text, ())
        if isinstance(found, Failure):
            self.failed += 1
            return [(0, len(text) - offset, marker(found.reason))]
        return [
            (max(item.start - offset, 0), item.end - offset, self._tag(item, text, offset))
            for item in found
            if item.end > offset
        ]

    def _tag(self, entity: Entity, text: str, offset: int) -> str:
        return self._tagger.tag(entity.type, text[max(entity.start, offset) : entity.end])


_Visitor = _Collector | _Replacer


def _put(text: str, replacements: Iterable[Replacement]) -> str:
    parts: list[str] = []
    at = 0
    for start, end, instead in replacements:
        parts += (text[at:start], instead)
        at = end
    parts.append(text[at:])
    return "".join(parts)


def _withheld(value: Any, sign: str) -> Any:
    """`sign` in the shape of the field, so that what reads the field need not expect anything new."""
    if isinstance(value, Mapping):
        return {"withheld": sign}
    if isinstance(value, ErrorInfo):
        return ErrorInfo(type=value.type if _CLASS.match(value.type) else "Error", message=sign)
    if isinstance(value, PromptLink):
        return replace(value, variables={"withheld": sign})
    if isinstance(value, tuple):
        return ({"content": sign},) if any(isinstance(item, Mapping) for item in value) else (sign,)
    return sign


def _collect(trace: Trace, texts: dict[str, None]) -> tuple[list[str], bool]:
    collector = _Collector()
    changed = [_changed(item, OBSERVATION_FIELDS, collector) for item in trace.observations]
    is_same = _changed(trace, TRACE_FIELDS, collector) is trace
    is_same = is_same and all(new is old for new, old in zip(changed, trace.observations, strict=True))
    texts.update(dict.fromkeys(collector.texts))
    return collector.texts, collector.is_dirty or not is_same


def _changed(record: Any, names: Sequence[str], visitor: _Visitor) -> Any:
    """The record with its text fields visited; the same object where nothing changed."""
    changes: dict[str, Any] = {}
    for name in names:
        value = getattr(record, name)
        if not value:
            continue
        new = _visited(value, visitor, name)
        if new is not value:
            changes[name] = new
    return replace(record, **changes) if changes else record


def _visited(value: Any, visitor: _Visitor, name: str) -> Any:
    try:
        if isinstance(value, ErrorInfo):
            return _error(value, visitor)
        if isinstance(value, PromptLink):
            new = walk(value.variables, visitor)
            return value if new is value.variables else replace(value, variables=new)
        if name == "received" and type(value) is str and is_stream(value):  # what a rule keeps is of another type
            return Stream(value).rewrite(visitor) or value
        return walk(value, visitor)
    except (TooDeep, RecursionError):
        return visitor.withheld(value, "nested too deeply")
    except Exception:  # a value of a kind nobody expected: withheld rather than let through
        return visitor.withheld(value, "error")


def _error(value: ErrorInfo, visitor: _Visitor) -> ErrorInfo:
    kind = value.type if _CLASS.match(value.type) else visitor.text(value.type)
    message = visitor.text(value.message) if value.message else value.message
    stack = visitor.text(value.stack) if value.stack else value.stack
    if kind is value.type and message is value.message and stack is value.stack:
        return value
    return replace(value, type=kind, message=message, stack=stack)
