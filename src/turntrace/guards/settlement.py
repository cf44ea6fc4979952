"""What the model calls inside a hold cost, from the spans that ended in it: read and priced as the worker does it."""

import os
import threading
from collections.abc import Sequence
from typing import Final

from turntrace.errors import FrameInvalid
from turntrace.pipeline.assemble import assemble
from turntrace.pipeline.convert import convert
from turntrace.pipeline.count import count_once
from turntrace.pipeline.decode import decode
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.price import Pricer
from turntrace.records.fragment import FrameKind, RawSpan
from turntrace.records.usage import Usage
from turntrace.tracing.payload import payload
from turntrace.tracing.turn import Turn
from turntrace.tracing.watched import Watched

_NO_SPAN: Final = "0" * 16


_lock = threading.RLock()  # a finaliser may leave a hold while another is entered


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def watch(turn: Turn | None) -> int:
    """Begin to keep the turn's spans as they end; answers the place to be given to `ended_since`, which must follow."""
    if turn is None:
        return 0
    with _lock:
        watched = turn.watched
        if watched is None:
            watched = turn.watched = Watched()
        watched.count += 1
        return len(watched)


def ended_since(turn: Turn | None, mark: int, *, is_wanted: bool = True) -> bytes | None:
    """The spans that ended since a place and that no other hold was given, as a frame; None where there are none.

    Args:
        is_wanted: otherwise they are left to other holds.
    """
    watched = turn.watched if turn is not None else None
    if turn is None or watched is None:
        return None
    with _lock:
        spans = watched.take(mark) if is_wanted else []
        watched.count -= 1
        if not watched.count:
            turn.watched = None
    if not spans:
        return None
    header = {"id": turn.id, "trace_id": turn.trace_id, "span_id": turn.span_id}
    return payload({**header, "started_at_us": turn.started_at_us}, spans)


def calls_in(frame: bytes) -> list[Draft] | None:
    """The model calls in a frame; None where it cannot be read."""
    try:
        fragment = decode(FrameKind.END, frame)
    except FrameInvalid:
        return None
    tree = assemble(fragment, frozenset())
    return [draft for draft in count_once(tree, convert(tree)) if draft.is_model_call]


def cost_of(calls: Sequence[Draft], pricer: Pricer) -> int | None:
    """Nano-dollars of model calls; None where there is none with a known price."""
    total: int | None = None
    for draft in calls:
        pricer.price(draft)
        if draft.cost is not None:
            total = (total or 0) + draft.cost.total_nano
    return total


def estimate(
    pricer: Pricer, *, model: str, provider: str | None, input_tokens: int, output_tokens: int, at_us: int
) -> int | None:
    """Nano-dollars of a call with so many tokens; None without a known price."""
    draft = Draft(
        span=RawSpan(span_id=_NO_SPAN), type="generation", model=model, provider=provider, started_at_us=at_us
    )
    draft.usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    pricer.price(draft)
    return None if draft.cost is None else draft.cost.total_nano
