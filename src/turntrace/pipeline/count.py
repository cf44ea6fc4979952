"""Counted once: of several spans that describe one model call, one stays the call (span-mapping section 2)."""

from turntrace.pipeline.assemble import Tree
from turntrace.pipeline.draft import MODEL_CALLS, Draft
from turntrace.pipeline.duplicate import drop_duplicates

_TRANSPARENT = frozenset({"span", "chain"})


def count_once(tree: Tree, drafts: list[Draft]) -> list[Draft]:
    """The drafts without duplicates, wrappers turned to chains, sums kept apart from usage, parents set anew."""
    calls = [draft for draft in drafts if draft.type in MODEL_CALLS]
    if len(calls) > 1:
        dropped = drop_duplicates(tree, drafts)
        if dropped:
            drafts = [draft for draft in drafts if draft.span.span_id not in dropped]
            _adopt(tree, drafts, dropped)
        _unwrap(drafts)
    for draft in drafts:
        _set_sum_apart(draft)
    return drafts


def _adopt(tree: Tree, drafts: list[Draft], dropped: set[str]) -> None:
    tree.drop(dropped)
    for draft in drafts:
        draft.parent_span_id = tree.kept_parent(draft.span.span_id)


def _unwrap(drafts: list[Draft]) -> None:
    """A call with a call of its type below it, and only spans and chains between, wraps it."""
    by_id = {draft.span.span_id: draft for draft in drafts}
    nearest: dict[str, Draft | None] = {}
    wrapped: dict[str, list[Draft]] = {}
    for draft in drafts:
        if draft.type in MODEL_CALLS:
            above = _above(draft, by_id, nearest)
            if above is not None and above.type == draft.type:
                wrapped.setdefault(above.span.span_id, []).append(draft)
    # From the outside inwards, so that what an outer one hands down reaches the innermost.
    for span_id in sorted(wrapped, key=lambda wrapper: by_id[wrapper].started_at_us):
        _turn_to_chain(by_id[span_id], wrapped[span_id])


def _above(draft: Draft, by_id: dict[str, Draft], nearest: dict[str, Draft | None]) -> Draft | None:
    """The nearest ancestor that is neither span nor chain; each run of those is walked once."""
    path: list[str] = []
    above = by_id.get(draft.parent_span_id or "")
    while above is not None and above.type in _TRANSPARENT and above.span.span_id not in nearest:
        path.append(above.span.span_id)
        above = by_id.get(above.parent_span_id or "")
    found = nearest.get(above.span.span_id, above) if above is not None else None
    for span_id in path:
        nearest[span_id] = found
    return found


def _turn_to_chain(wrapper: Draft, inner: list[Draft]) -> None:
    """Usage and cost of a wrapper are said twice; only what its single call lacks is handed down to it.

    An instrumentation's own wrapper is not believed beyond its call, but what the application states itself is.
    """
    if wrapper.span.own is not None and len(inner) == 1:
        call = inner[0]
        call.prompt = call.prompt or wrapper.prompt
        if call.usage is None and "usage_invalid" not in call.flags:
            call.usage = wrapper.usage
        call.cost = call.cost or wrapper.cost
    wrapper.type = "chain"
    wrapper.usage = wrapper.cost = None
    wrapper.flags = tuple(flag for flag in wrapper.flags if flag != "usage_invalid")


def _set_sum_apart(draft: Draft) -> None:
    """Usage of any other type is a sum over its children, and its cost with it."""
    if draft.type not in MODEL_CALLS:
        if draft.usage is not None and draft.usage_aggregate is None:
            draft.usage_aggregate = draft.usage
        draft.usage = draft.cost = None
