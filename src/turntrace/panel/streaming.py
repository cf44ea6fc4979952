"""A streamed answer from both ends: what the provider sent, what the client was given, and what came after it left.

Pure: times are microseconds from the turn's start, `x` thousandths of the drawing's width.
"""

from dataclasses import dataclass
from typing import Final

from turntrace.panel.conversation import said
from turntrace.pipeline.received import text_of
from turntrace.pipeline.unfinished import INCOMPLETE
from turntrace.records.observation import Observation
from turntrace.records.trace import Trace

WIDTH: Final = 1000
_MIN_BAR: Final = 3
# Types that a provider is paid for.
_CALLS: Final = frozenset({"generation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One model call as the provider sent it. `after_nano` is what of its cost came after the client had left; where
    the call straddles that moment, its output's share of the time since the first token, so about that."""

    observation: Observation
    started_us: int
    first_token_us: int | None
    ended_us: int | None
    per_token_us: int | None
    characters: int | None
    is_incomplete: bool
    after_us: int
    after_nano: int | None
    x: float = 0
    width: float = 0
    first_x: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """Both ends of one answer. `host_us` is what the application took to hand on the first token."""

    sent: tuple[Sent, ...]
    per_chunk_us: int | None
    host_us: int | None
    sent_characters: int | None
    given_characters: int | None
    after_us: int
    after_nano: int | None
    given_x: float
    given_width: float
    left_x: float | None


def streaming(trace: Trace) -> Streaming | None:
    """Both ends of a streamed turn; None for an answer in one piece that its client waited for."""
    if not trace.is_streamed and trace.client_left_us is None:
        return None
    sent = [_sent(item, trace) for item in trace.observations if item.type in _CALLS and item.started_at_us]
    scale = WIDTH / _length(trace, sent)
    drawn = tuple(_drawn(call, scale) for call in sent)
    first, last = trace.ttft_us or 0, trace.last_byte_us or trace.ttft_us or 0
    costs = [call.after_nano for call in drawn if call.after_nano is not None]
    left_us = trace.client_left_us
    return Streaming(
        sent=drawn,
        per_chunk_us=_pace(last - first, trace.chunk_count),
        host_us=_host_us(trace, drawn),
        sent_characters=_characters(drawn),
        given_characters=_given(trace),
        after_us=max((call.after_us for call in drawn), default=0),
        after_nano=sum(costs) if costs else None,
        given_x=round(min(WIDTH - _MIN_BAR, first * scale), 2),
        given_width=round(max(_MIN_BAR, min((last - first) * scale, WIDTH - first * scale)), 2),
        left_x=None if left_us is None else round(min(WIDTH - 1, left_us * scale), 2),
    )


def per_token_us(item: Observation) -> int | None:
    """Time per output token after the first; None where the call was not streamed, or not to its end."""
    tokens = item.usage.output_tokens if item.usage else None
    if item.ttft_us is None or item.duration_us is None or item.is_open or INCOMPLETE in item.flags:
        return None
    return _pace(item.duration_us - item.ttft_us, tokens)


def _pace(length_us: int, count: int | None) -> int | None:
    return None if count is None or count < 2 else round(length_us / (count - 1))


def _sent(item: Observation, trace: Trace) -> Sent:
    started = item.started_at_us - trace.started_at_us
    ended = None if item.duration_us is None else started + item.duration_us
    first = None if item.ttft_us is None else started + item.ttft_us
    text = said(item.output, "assistant") if item.output is not None else None
    after_us = 0
    if trace.client_left_us is not None and ended is not None:
        after_us = max(0, ended - max(trace.client_left_us, started))
    return Sent(
        observation=item,
        started_us=started,
        first_token_us=first,
        ended_us=ended,
        per_token_us=per_token_us(item),
        characters=None if text is None else len(text),
        is_incomplete=item.is_open or INCOMPLETE in item.flags,
        after_us=after_us,
        after_nano=_after_nano(item, started if first is None else first, ended, trace.client_left_us),
    )


def _after_nano(item: Observation, first: int, ended: int | None, left_us: int | None) -> int | None:
    """The cost of what was generated after the client had left."""
    if item.cost is None or left_us is None or ended is None or ended <= left_us:
        return None
    if ended - (item.duration_us or 0) >= left_us:
        return item.cost.total_nano
    if item.cost.output_nano is None:
        return None
    share = (ended - max(first, left_us)) / max(1, ended - first)
    return round(item.cost.output_nano * min(1.0, max(0.0, share)))


def _length(trace: Trace, sent: list[Sent]) -> int:
    ends = [call.ended_us for call in sent if call.ended_us is not None]
    turn = max(trace.duration_us or 0, trace.last_byte_us or 0, trace.client_left_us or 0)
    return max(1, min(max([turn, *ends]), 2 * turn) if turn else max(ends, default=1))


def _drawn(call: Sent, scale: float) -> Sent:
    x = max(0.0, min(WIDTH - _MIN_BAR, call.started_us * scale))
    end = WIDTH if call.ended_us is None else min(WIDTH, call.ended_us * scale)
    first_x = None if call.first_token_us is None else round(min(WIDTH, call.first_token_us * scale), 2)
    return Sent(
        **{name: getattr(call, name) for name in Sent.__slots__ if name not in ("x", "width", "first_x")},
        x=round(x, 2),
        width=round(max(_MIN_BAR, end - x), 2),
        first_x=first_x,
    )


def _host_us(trace: Trace, sent: tuple[Sent, ...]) -> int | None:
    """From the first token that anybody sent to the first byte that the client was given."""
    firsts = [call.first_token_us for call in sent if call.first_token_us is not None]
    if not firsts or trace.ttft_us is None or trace.ttft_us < min(firsts):
        return None
    return trace.ttft_us - min(firsts)


def _characters(sent: tuple[Sent, ...]) -> int | None:
    """Of the last call that was streamed: what came before it was not the answer."""
    told = [call.characters for call in sent if call.first_token_us is not None and call.characters is not None]
    return told[-1] if told else None


def _given(trace: Trace) -> int | None:
    if trace.received is None:
        return None
    return len(text_of(trace.received) or "")
