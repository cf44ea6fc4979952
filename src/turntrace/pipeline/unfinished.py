"""Observations that were not brought to their end: said to be so, and given the length that is known of them. No length
is longer than can be."""

from typing import Final

from turntrace.pipeline.draft import Draft, Work
from turntrace.records.fragment import FrameKind

INCOMPLETE: Final = "incomplete"
# More than 30 days is a clock that was wrong, and a thousand spans of centuries would not fit the sums.
MOST_US: Final = 30 * 24 * 3_600_000_000
# What a running turn has shown so far: everything in it may still go on.
_RUNNING: Final = frozenset({FrameKind.START, FrameKind.DELTA})


def settle(work: Work) -> None:
    """Flag what had not ended when its turn was over, and what was left alone before its end.

    Its length is the time to its last sign of life. One that still ends later replaces this form.
    """
    if work.fragment.kind in _RUNNING:
        return
    for draft in work.drafts:
        span = draft.span
        if span.duration_us is None and draft.duration_us is None:
            draft.duration_us = span.seen_us if span.seen_us is not None else _until_turns_end(draft, work)
            draft.flag(INCOMPLETE)
        elif span.seen_us is not None:
            draft.flag(INCOMPLETE)
        _bound(draft)


def _bound(draft: Draft) -> None:
    if draft.duration_us is not None:
        draft.duration_us = min(draft.duration_us, MOST_US)
    if draft.ttft_us is not None and draft.ttft_us > MOST_US:
        draft.ttft_us = None


def _until_turns_end(draft: Draft, work: Work) -> int | None:
    turn = work.fragment.turn
    if turn.duration_us is None or not draft.started_at_us:
        return None
    return max(0, turn.started_at_us + turn.duration_us - draft.started_at_us)
