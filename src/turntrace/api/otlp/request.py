"""The content of a request: frames for the spool, and how many of its spans or records were rejected, and why."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from turntrace.api.otlp import document, evaluation, protobuf
from turntrace.api.otlp.answer import Encoding
from turntrace.api.otlp.fault import Refusal, Unreadable
from turntrace.api.otlp.frames import FrameMaker
from turntrace.pipeline.convert.otlp import attributes, hex_id, microseconds, read_log, read_span
from turntrace.records.fragment import RawSpan
from turntrace.tracing.encode import dump

MAX_ENTRIES: Final = 50_000
_LOOKED_AT: Final = 4096
_MALFORMED: Final = "malformed, or larger than a span can be"
_UNNAMED: Final = "without a valid trace id, span id or start time"
_NO_SPAN: Final = "without a valid trace id and span id"
_NO_VERDICT: Final = "evaluation results without a trace id, a name or a verdict"
_CONTENT_PREFIX: Final = "gen_ai."

Entry = tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]


class Contents:
    """What one request holds.

    Args:
        sender: id of the key that was presented.
    """

    def __init__(self, sender: str) -> None:
        self.frames = FrameMaker(sender)
        self.scores: list[bytes] = []
        self.rejected: Counter[str] = Counter()
        self._resource: tuple[dict[str, Any], dict[str, Any]] = ({}, {})  # as it came, and its attributes

    def read(self, body: memoryview, encoding: Encoding, *, are_logs: bool) -> None:
        """Take all that can be taken.

        Raises:
            Refusal: 400 where the body is not what its media type says, 413 where it holds too many spans.
        """
        take = self._take_record if are_logs else self._take_span
        for number, (resource, scope, raw) in enumerate(_entries(body, encoding, are_logs)):
            if number >= MAX_ENTRIES:
                raise Refusal(413, f"It holds more than {MAX_ENTRIES:,} spans or records: export fewer at once.")
            if raw is None:
                self.rejected[_MALFORMED] += 1
            else:
                take(resource, scope, raw)

    @property
    def reason(self) -> str:
        """Why some were rejected."""
        return "; ".join(f"{n} {reason}" for reason, n in self.rejected.items())

    def _take_span(self, resource: dict[str, Any], scope: dict[str, Any], raw: dict[str, Any]) -> None:
        if self._resource[0] is not resource:
            self._resource = resource, attributes(resource.get("attributes"))
        span = read_span(raw, self._resource[1], scope)
        if span is None:
            self.rejected[_UNNAMED] += 1
            return
        self.frames.add_span(span)
        self._take_verdicts(span)

    def _take_verdicts(self, span: RawSpan) -> None:
        """Results of evaluations that stand as events on the span itself."""
        for event in span.events:
            if event.name == evaluation.EVENT and span.trace_id is not None:
                self._add_score(event.attributes, span.trace_id, span.span_id, event.at_us)

    def _take_record(self, resource: dict[str, Any], scope: dict[str, Any], raw: dict[str, Any]) -> None:
        """Content of model calls and results of evaluations; other log records are no business of ours."""
        named = attributes(raw.get("attributes"))
        name = raw.get("eventName") or named.get("event.name")
        if not isinstance(name, str) or not name.startswith(_CONTENT_PREFIX):
            return
        if name == evaluation.EVENT:
            self._take_verdict(raw, named)
            return
        record = read_log(raw)
        if record is None:
            self.rejected[_NO_SPAN] += 1
        else:
            self.frames.add_record(record)

    def _take_verdict(self, raw: dict[str, Any], named: dict[str, Any]) -> None:
        trace_id = hex_id(raw.get("traceId"), 32)
        at_us = microseconds(raw.get("timeUnixNano")) or microseconds(raw.get("observedTimeUnixNano")) or 0
        if trace_id is None or not self._add_score(named, trace_id, hex_id(raw.get("spanId"), 16), at_us):
            self.rejected[_NO_VERDICT] += 1

    def _add_score(self, named: dict[str, Any], trace_id: str, span_id: str | None, at_us: int) -> bool:
        identity = self.frames.identity(trace_id)
        found = evaluation.score(named, identity=identity, trace_id=trace_id, span_id=span_id, at_us=at_us)
        if found is not None:
            self.scores.append(dump({"score": found}))
        return found is not None


def _entries(body: memoryview, encoding: Encoding, are_logs: bool) -> Iterator[Entry]:
    """Entries in the stated encoding, or where it is plainly the other one in that."""
    is_binary = _looks_like_protobuf(body) if encoding is Encoding.JSON else not _looks_like_json(body)
    try:
        if is_binary:
            yield from protobuf.entries(body, protobuf.LOG_RECORD if are_logs else protobuf.SPAN)
        else:
            yield from document.entries(body, are_logs=are_logs)
    except Unreadable as error:
        raise Refusal(400, f"The body cannot be read as {encoding.value}: {error}.") from None


def _looks_like_json(body: memoryview) -> bool:
    """An opening brace is no field that a request has."""
    return bytes(body[:1]) == b"{"


def _looks_like_protobuf(body: memoryview) -> bool:
    """The first field of a request has the number of a line feed; JSON goes on with more space or a brace."""
    start = bytes(body[:_LOOKED_AT])
    return start.startswith(b"\n") and not start.lstrip().startswith((b"{", b"["))
