"""W3C Trace Context level 2: reading `traceparent` and `tracestate`, writing them for outgoing calls.

Pure: no turn, no clock, no settings. Baggage is in `baggage.py`, whom to believe in `trust.py`.
"""

import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
TRACERESPONSE: Final = "traceresponse"
SAMPLED: Final = 0x01
RANDOM: Final = 0x02  # level 2: the right-most 7 bytes of the trace id are random
MAX_MEMBERS: Final = 32
MAX_TRACESTATE: Final = 4096  # characters sent on; the specification asks for 512 at least
_LARGE_MEMBER: Final = 128  # members longer than this are cut first
_OWS: Final = " \t"

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?")
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)


class ExactTraceState(TraceState):
    """A `TraceState` that keeps what level 2 allows.

    The one of the OpenTelemetry API knows the key grammar of level 1 only, and loses keys such as `foo@@bar`.
    """

    def __init__(self, members: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        for key, value in members:
            self._dict.setdefault(key, value)


EMPTY_TRACESTATE: Final = ExactTraceState()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteContext:
    """The caller's place in a trace, as its headers told it."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits: the caller's span
    flags: int = SAMPLED  # bits of level 2 only
    tracestate: TraceState = field(default_factory=ExactTraceState)

    def span_context(self) -> SpanContext:
        """The same for the OpenTelemetry API."""
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), True, TraceFlags(self.flags), self.tracestate)


def read_context(traceparents: Sequence[str], tracestates: Sequence[str] = ()) -> RemoteContext | None:
    """The caller's context from all values of both headers, in the order they came.

    Returns:
        None where a new trace is to be started: no `traceparent`, several, or a malformed one. A malformed
        `tracestate` is discarded whole and does not touch the trace.
    """
    if len(traceparents) != 1:
        return None
    match = _TRACEPARENT.fullmatch(traceparents[0].strip(_OWS))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if trace_id.count("0") == 32 or span_id.count("0") == 16:
        return None
    known_flags = int(flags, 16) & (SAMPLED | RANDOM)
    return RemoteContext(trace_id=trace_id, span_id=span_id, flags=known_flags, tracestate=read_tracestate(tracestates))


def read_tracestate(values: Sequence[str]) -> TraceState:
    """Members of all `tracestate` headers together; empty where any member is malformed or there are more than 32.

    Of members with the same key the first (most recent) stays. Empty members are skipped and not counted.
    """
    members: list[tuple[str, str]] = []
    for part in ",".join(values).split(","):
        text = part.strip(_OWS)
        if not text:
            continue
        match = _MEMBER.fullmatch(text)
        if match is None or len(members) == MAX_MEMBERS:
            return EMPTY_TRACESTATE
        members.append((match[1], match[2]))
    return ExactTraceState(members) if members else EMPTY_TRACESTATE


def format_traceparent(trace_id: str, span_id: str, flags: int) -> str:
    """Value of `traceparent` and of `traceresponse`; both ids in hex."""
    return f"00-{trace_id}-{span_id}-0{flags & (SAMPLED | RANDOM)}"


def format_tracestate(state: Mapping[str, str]) -> str:
    """Value of `tracestate`, cut to whole members as the specification says: large ones first, then from the end."""
    members = [f"{key}={value}" for key, value in state.items()]
    if _joined_length(members) > MAX_TRACESTATE:
        members = _without_large_members(members)
    while _joined_length(members) > MAX_TRACESTATE:
        members.pop()
    return ",".join(members)


def _joined_length(members: Sequence[str]) -> int:
    return sum(map(len, members)) + len(members) - 1


def _without_large_members(members: list[str]) -> list[str]:
    excess = _joined_length(members) - MAX_TRACESTATE
    kept = []
    for member in reversed(members):
        if excess > 0 and len(member) > _LARGE_MEMBER:
            excess -= len(member) + 1
        else:
            kept.append(member)
    return kept[::-1]


def inject_context(headers: MutableMapping[str, str], context: SpanContext, *, span_id: int | None = None) -> None:
    """Write `traceparent` and, where there is one, `tracestate` into headers, over what stood there in any case.

    Args:
        span_id: the id of the outgoing call itself where it has no span of its own; else the context's.
    """
    if not context.is_valid:
        return
    remove_header(headers, TRACEPARENT)
    remove_header(headers, TRACESTATE)
    headers[TRACEPARENT] = format_traceparent(
        f"{context.trace_id:032x}", f"{span_id or context.span_id:016x}", context.trace_flags
    )
    if context.trace_state:
        headers[TRACESTATE] = format_tracestate(context.trace_state)


def remove_header(headers: MutableMapping[str, str], name: str) -> None:
    """Delete a header whatever its case; `headers` may be a plain dict or case-insensitive."""
    for key in [key for key in headers if key.lower() == name]:
        headers.pop(key, None)


def header_values(carrier: Mapping[str, str | Sequence[str]], name: str) -> tuple[str, ...]:
    """All values of a header in a carrier, whatever the case of its key; text of other types is ignored."""
    values: list[str] = []
    for key, value in carrier.items():
        if isinstance(key, str) and key.lower() == name:
            values += [value] if isinstance(value, str) else [item for item in value if isinstance(item, str)]
    return tuple(values)


def extract_context(carrier: Mapping[str, str | Sequence[str]]) -> RemoteContext | None:
    """The caller's context from a mapping of headers (what `continue_trace` takes)."""
    return read_context(header_values(carrier, TRACEPARENT), header_values(carrier, TRACESTATE))
