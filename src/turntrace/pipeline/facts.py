"""What a turn adds to the roll-ups: taken before sampling, so that sums stay true whatever is kept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from turntrace.pipeline.draft import Draft, Work
from turntrace.pipeline.identify import bounded
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import Observation, PromptLink
from turntrace.records.rollup import RollupFact, group_name, own_times, step_name
from turntrace.records.usage import Usage

_NOTHING = Usage()


class FactTaker:
    """The stage `facts`: one turn fact, and a fact of each step in the order of the steps.

    Args:
        rollup_tags: declared tag keys; of tags written `key:value` those count.
    """

    def __init__(self, rollup_tags: Sequence[str] = ()) -> None:
        self._prefixes = tuple(f"{key}:" for key in rollup_tags)

    def __call__(self, work: Work) -> None:
        """Set the facts; a turn that is still running has none, a late fragment has only its steps'."""
        kind = work.fragment.kind
        if kind in (FrameKind.START, FrameKind.DELTA):
            return
        shared = self._shared(work)
        drafts = work.drafts
        own = own_times(
            (each.span.span_id, each.parent_span_id, each.started_at_us, each.duration_us) for each in drafts
        )
        steps = tuple(_step_fact(draft, shared, own[draft.span.span_id]) for draft in drafts)
        work.facts = steps if kind is FrameKind.AMEND else (_turn_fact(work, shared), *steps)

    def _shared(self, work: Work) -> dict[str, Any]:
        return {
            "environment": work.environment,
            "feature": work.feature or "",
            "route": group_name(bounded(work.fragment.turn.route) or ""),
            "release": work.release or "",
            "experiment": work.experiment or "",
            "user_id": work.user_id or "",
            "session_id": work.session_id or "",
            "tags": self._declared(work.tags),
        }

    def _declared(self, tags: Sequence[str]) -> tuple[str, ...]:
        return tuple(group_name(tag) for tag in tags if tag.startswith(self._prefixes)) if self._prefixes else ()

    def may_be_personal(self, facts: Sequence[RollupFact]) -> bool:
        """Whether there is text that sums of a turn are kept by: what is personal in it, redaction alone can tell."""
        return any(fact.route or fact.tags or fact.step for fact in facts)

    def redacted(
        self, facts: Sequence[RollupFact], route: str | None, tags: Sequence[str], steps: Sequence[Observation]
    ) -> tuple[RollupFact, ...]:
        """The facts with route, tags and names of their turn as redaction left them: sums hold no raw text either.

        Args:
            steps: all of the turn's, in the order of the facts.
        """
        shared = (group_name(route or ""), self._declared(tags))
        names = (step_name(step.type, step.name) for step in steps)
        return tuple(_renamed(fact, *shared, next(names) if fact.step else "") for fact in facts)


def _renamed(fact: RollupFact, route: str, tags: tuple[str, ...], step: str) -> RollupFact:
    if fact.route == route and fact.tags == tags and fact.step == step:
        return fact
    return replace(fact, route=route, tags=tags, step=step)


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


def _step_fact(draft: Draft, shared: dict[str, Any], own_us: int) -> RollupFact:
    step = step_name(draft.type, draft.name)
    if _is_call(draft):
        return _call_fact(draft, shared, step, own_us)
    return RollupFact(
        at_us=draft.started_at_us,
        errors=1 if draft.status == "error" else 0,
        duration_us=draft.duration_us,
        step=step,
        own_us=own_us,
        is_open=draft.span.duration_us is None,
        **shared,
    )


def _call_fact(draft: Draft, shared: dict[str, Any], step: str, own_us: int) -> RollupFact:
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
        step=step,
        own_us=own_us,
        is_open=draft.span.duration_us is None,
        **shared,
    )


def prompt_name(prompt: PromptLink | None) -> str:
    """`name@version`, or the name alone, or nothing: a version of what has no name groups nothing."""
    if prompt is None or not prompt.name:
        return ""
    return prompt.name if prompt.version is None else f"{prompt.name}@{prompt.version}"
