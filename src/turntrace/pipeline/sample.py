"""Whether a turn is kept: decided once for the whole turn, by its id, so that every frame of it answers alike."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from turntrace.pipeline.draft import Work
from turntrace.records.fragment import FrameKind
from turntrace.records.usage import to_decimal
from turntrace.settings import Settings

log = logging.getLogger("turntrace.pipeline")

HELD: Final = "held"  # left out, unless a score or a flag comes in time
ECONOMICAL_RATE: Final = 0.1
MAX_RELEASES: Final = 200
_WHOLE = 1 << 64
_DECIDED: Final = frozenset({FrameKind.END, FrameKind.OTLP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a sampler of the host's own is told of a turn: names and numbers, as they would be stored."""

    name: str
    route: str | None
    feature: str | None
    user_id: str | None
    environment: str
    release: str | None
    tags: tuple[str, ...]
    models: tuple[str, ...]
    duration_ms: float | None
    tokens: int
    cost_usd: Decimal | None


Hook = Callable[[Candidate], float | None]


class Sampler:
    """The stage `sample`.

    Args:
        rate: share of ordinary turns that is kept, 0..1.
        keep_slow_ms: turns at least this long are always kept.
        keep_cost_usd: turns at least this costly are always kept.
        keep_tokens: turns with at least so many tokens are always kept.
        keep_release_turns: so many first turns of every release are always kept.
        rates: `kind:value=rate`, kind being feature, route or tenant; of those that fit the highest counts.
        hook: asked first; None leaves it to the rates. What it raises counts as None.
        is_holding: turns that are left out are held for a time.
    """

    def __init__(
        self,
        rate: float,
        *,
        keep_slow_ms: int,
        keep_cost_usd: Decimal,
        keep_tokens: int = 1 << 62,
        keep_release_turns: int = 0,
        rates: Sequence[str] = (),
        hook: Hook | None = None,
        is_holding: bool = False,
    ) -> None:
        self._rate = rate
        self._slow_us = keep_slow_ms * 1000
        self._costly_nano = int(keep_cost_usd * 1_000_000_000)
        self._keep_tokens = keep_tokens
        self._releases = _Releases(keep_release_turns)
        self._rates = _rates(rates)
        self._hook = hook
        self._is_holding = is_holding
        self._keeps_all = rate >= 1 and not self._rates and hook is None

    @classmethod
    def of(cls, settings: Settings, hook: Hook | None = None) -> "Sampler":
        """The sampler of these settings."""
        rate = settings.sample_rate
        return cls(
            min(rate, ECONOMICAL_RATE) if settings.sample_preset == "economical" else rate,
            keep_slow_ms=settings.keep_slow_ms,
            keep_cost_usd=settings.keep_cost_usd,
            keep_tokens=settings.keep_tokens,
            keep_release_turns=settings.keep_release_turns,
            rates=settings.sample_rates,
            hook=hook,
            is_holding=settings.sample_hold_hours > 0,
        )

    def __call__(self, work: Work) -> None:
        """Set `is_kept` and `keep_reason`. Running turns and late fragments are kept: storage knows what they join."""
        if self._keeps_all or work.fragment.kind not in _DECIDED:
            work.keep_reason = "all"
            return
        reason = self._reason(work)
        work.is_kept = reason is not None or self._is_holding
        work.keep_reason = reason or (HELD if self._is_holding else "sampled")

    def _reason(self, work: Work) -> str | None:
        turn = work.fragment.turn
        is_first = self._releases.is_first(work.release, turn.id)
        if work.status == "error" or any(draft.status == "error" for draft in work.drafts):
            return "error"
        if turn.outcome == "interrupted":
            return "interrupted"
        if turn.duration_us is not None and turn.duration_us >= self._slow_us:
            return "slow"
        if work.cost_total_nano is not None and work.cost_total_nano >= self._costly_nano:
            return "costly"
        if _tokens(work) >= self._keep_tokens:
            return "tokens"
        if "keep" in turn.flags:
            return "flagged"
        if is_first:
            return "release"
        return "rate" if share_of(turn.id) < self._rate_of(work) else None

    def _rate_of(self, work: Work) -> float:
        stated = self._asked(work) if self._hook is not None else None
        if stated is not None:
            return stated
        if not self._rates:
            return self._rate
        names = [("feature", work.feature), ("route", work.fragment.turn.route)]
        names += [("tenant", tag.removeprefix("tenant:")) for tag in work.tags if tag.startswith("tenant:")]
        found = [self._rates[name] for name in names if name in self._rates]
        return max(found, default=self._rate)

    def _asked(self, work: Work) -> float | None:
        assert self._hook is not None
        try:
            stated = self._hook(_candidate(work))
            return None if stated is None else min(1.0, max(0.0, float(stated)))
        except Exception as error:
            log.warning("the sampler failed, the setting sample_rate counts: %s", type(error).__name__)
            return None


class _Releases:
    """The first turns of every release, by id: a turn that is worked on again is judged alike."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[str, set[str]] = {}

    def is_first(self, release: str | None, turn_id: str) -> bool:
        if not release or not self._most:
            return False
        seen = self._seen.get(release)
        if seen is None:
            if len(self._seen) >= MAX_RELEASES:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[release] = set()
        if turn_id in seen:
            return True
        if len(seen) >= self._most:
            return False
        seen.add(turn_id)
        return True


def _rates(stated: Sequence[str]) -> Mapping[tuple[str, str | None], float]:
    found: dict[tuple[str, str | None], float] = {}
    for text in stated:
        name, _, rate = text.rpartition("=")
        kind, _, value = name.partition(":")
        found[kind, value] = float(rate)
    return found


def _tokens(work: Work) -> int:
    usage = work.usage
    return 0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0)


def _candidate(work: Work) -> Candidate:
    turn = work.fragment.turn
    return Candidate(
        name=work.name,
        route=turn.route,
        feature=work.feature,
        user_id=work.user_id,
        environment=work.environment,
        release=work.release,
        tags=work.tags,
        models=work.models,
        duration_ms=None if turn.duration_us is None else turn.duration_us / 1000,
        tokens=_tokens(work),
        cost_usd=to_decimal(work.cost_total_nano),
    )


def share_of(turn_id: str) -> float:
    """A number in [0, 1) that depends on the id only, evenly spread."""
    digest = hashlib.sha256(turn_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / _WHOLE
