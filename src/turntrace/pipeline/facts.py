"""What a turn adds to the roll-ups: taken before sampling, so that sums stay true whatever is kept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from turntrace.pipeline.draft import Draft, Work
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import PromptLink
from turntrace.records.rollup import RollupFact, group_name
from turntrace.records.usage import Usage

_NOTHING = Usage()


class FactTaker:
    """The stage `facts`: one turn fact, and a call fact per generation, embedding and reranker.

    Args:
        rollup_tags: declared tag keys; of tags written `key:value` those count.
    """

    def __init__(self, rollup_tags: Sequence[str] = ()) -> None:
        self._prefixes = tuple(f"{key}:" for key in rollup_tags)

    def __call__(self, work: Work) -> None:
        """Set the facts; a turn that is still running has none, a late fragment has only its calls'."""
        kind = work.fragment.kind
        if kind in (FrameKind.START, FrameKind.DELTA):
            return
        shared = self._shared(work)
        calls = tuple(_call_fact(draft, shared) for draft in work.drafts if _is_call(draft))
        work.facts = calls if kind is FrameKind.AMEND else (_turn_fact(work, shared), *calls)

    def _shared(self, work: Work) -> dict[str, Any]:
        return {
            "environment": work.environment,
            "feature": work.feature or "",
            "route": work.fragment.turn.route or "",
            "release": work.release or "",
            "experiment": work.experiment or "",
            "user_id": work.user_id or "",
            "session_id": work.session_id or "",
            "tags": tuple(tag for tag in work.tags if tag.startswith(self._prefixes)) if self._prefixes else (),
        }

    def redacted(self, facts: Sequence[RollupFact], route: str | None, tags: Sequence[str]) -> tuple[RollupFact, ...]:
        """The facts with the route and tags of their turn as redaction left them: sums hold no raw text either."""
        wanted = tuple(group_name(tag) for tag in tags if tag.startswith(self._prefixes)) if self._prefixes else ()
        shared: dict[str, Any] = {"route": group_name(route or ""), "tags": wanted}
        return tuple(
            fact if (fact.route, fact.tags) == (shared["route"], wanted) else replace(fact, **shared) for fact in facts
        )


def _is_call(draft: Draft) -> bool:
    """Whether a model was called: a reranker may be a few lines of the host's own."""
    return draft.is_model_call and (draft.type != "reranker" or bool(draft.model or draft.usage))


def _turn_fact(work: Work, shared: dict[str, Any]) -> RollupFact:
    turn = work.fragment.turn
    return RollupFact(
        at_us=turn.started_at_us,
        turns=1,
        errors=1 if work.status == "error" else 0,
        duration_us=turn.duration_us,
        ttft_us=turn.ttft_us if turn.is_streamed else None,
        **shared,
    )


def _call_fact(draft: Draft, shared: dict[str, Any]) -> RollupFact:
    usage, cost = draft.usage or _NOTHING, draft.cost
    return RollupFact(
        at_us=draft.started_at_us,
        model=draft.model or "",
        provider=draft.provider or "",
        prompt=prompt_name(draft.prompt),
        price_version=cost.price_version if cost else "",
        tier=cost.tier if cost else "",
        calls=1,
        errors=1 if draft.status == "error" else 0,
        unpriced=1 if draft.usage is not None and cost is None else 0,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cache_read_tokens or 0,
        cache_write_tokens=usage.cache_write_tokens or 0,
        reasoning_tokens=usage.reasoning_tokens or 0,
        cost_input_nano=(cost.input_nano or 0) if cost else 0,
        cost_output_nano=(cost.output_nano or 0) if cost else 0,
        cost_total_nano=cost.total_nano if cost else 0,
        duration_us=draft.duration_us,
        ttft_us=draft.ttft_us,
        **shared,
    )


def prompt_name(prompt: PromptLink | None) -> str:
    """`name@version`, or the name alone, or nothing: a version of what has no name groups nothing."""
    if prompt is None or not prompt.name:
        return ""
    return prompt.name if prompt.version is None else f"{prompt.name}@{prompt.version}"
