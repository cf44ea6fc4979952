"""Whether a turn is kept: decided once for the whole turn, by its id, so that every frame of it answers alike."""

import hashlib
from decimal import Decimal

from turntrace.pipeline.draft import Work
from turntrace.records.fragment import FrameKind

_WHOLE = 1 << 64


class Sampler:
    """The stage `sample`.

    Args:
        rate: share of ordinary turns that is kept, 0..1.
        keep_slow_ms: turns at least this long are always kept.
        keep_cost_usd: turns at least this costly are always kept.
    """

    def __init__(self, rate: float, *, keep_slow_ms: int, keep_cost_usd: Decimal) -> None:
        self._rate = rate
        self._slow_us = keep_slow_ms * 1000
        self._costly_nano = int(keep_cost_usd * 1_000_000_000)

    def __call__(self, work: Work) -> None:
        """Set `is_kept` and `keep_reason`. Running turns and late fragments are kept: storage knows what they join."""
        if work.fragment.kind is not FrameKind.END and work.fragment.kind is not FrameKind.OTLP:
            work.keep_reason = "all"
            return
        reason = "all" if self._rate >= 1 else self._reason(work)
        work.is_kept = reason is not None
        work.keep_reason = reason or "sampled"

    def _reason(self, work: Work) -> str | None:
        turn = work.fragment.turn
        if work.status == "error" or any(draft.status == "error" for draft in work.drafts):
            return "error"
        if turn.outcome == "interrupted":
            return "interrupted"
        if turn.duration_us is not None and turn.duration_us >= self._slow_us:
            return "slow"
        if work.cost_total_nano is not None and work.cost_total_nano >= self._costly_nano:
            return "costly"
        if "keep" in turn.flags:
            return "flagged"
        return "rate" if share_of(turn.id) < self._rate else None


def share_of(turn_id: str) -> float:
    """A number in [0, 1) that depends on the id only, evenly spread."""
    digest = hashlib.sha256(turn_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / _WHOLE
