"""Token counts of any habit to ours: input includes cached tokens, output includes reasoning, absent is not zero."""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

from turntrace.pipeline.draft import Draft
from turntrace.records.usage import Cost, Usage

# More than this in one call is not a count of tokens (and would not fit the sums).
MOST_TOKENS: Final = 1_000_000_000
MOST_DOLLARS: Final = Decimal(10_000)
_NANO: Final = Decimal(1_000_000_000)

_FIELDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
# Spellings in our own `usage` argument, the short names of the REST API and provider objects included.
ALIASES: Final[Mapping[str, str]] = {
    **{name: name for name in _FIELDS},
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
}
# Nested parts of a provider's own usage object: (object, key) -> field.
_PARTS: Final[Mapping[tuple[str, str], str]] = {
    (whole, part): field
    for wholes, part, field in (
        (("prompt_tokens_details", "input_tokens_details"), "cached_tokens", "cache_read_tokens"),
        (("prompt_tokens_details", "input_tokens_details"), "audio_tokens", "input_audio_tokens"),
        (("completion_tokens_details", "output_tokens_details"), "reasoning_tokens", "reasoning_tokens"),
        (("completion_tokens_details", "output_tokens_details"), "audio_tokens", "output_audio_tokens"),
    )
    for whole in wholes
}
_IGNORED: Final = frozenset({"total_tokens", "total", "is_estimated"})


def set_usage(draft: Draft, stated: Mapping[str, Any], *, is_estimated: bool = False) -> None:
    """Give the draft its usage; counts that cannot be are kept raw in the metadata and flagged `usage_invalid`."""
    present = {name: value for name, value in stated.items() if value is not None}
    if not present:
        return
    usage = build(present, is_estimated=is_estimated)
    if usage is None:
        draft.metadata = {**draft.metadata, "usage_raw": dict(present)}
        draft.flag("usage_invalid")
    else:
        draft.usage = usage


def build(stated: Mapping[str, Any], *, is_estimated: bool = False) -> Usage | None:
    """The usage of counts by their names in `Usage` (others go to `details`); None when they cannot be counts."""
    counts: dict[str, int] = {}
    for name, value in stated.items():
        count = _count(value)
        if count is None:
            return None
        counts[name] = count
    known: dict[str, int] = {name: counts.pop(name) for name in _FIELDS if name in counts}
    if "cache_write_1h_tokens" in known:
        known.setdefault("cache_write_tokens", known["cache_write_1h_tokens"])
    known = _inclusive(known)
    if not _adds_up(known):
        return None
    return Usage(**known, details=counts, is_estimated=is_estimated)


def from_object(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Counts by our names from a provider's usage object or from our own `usage` argument."""
    counts: dict[str, Any] = {}
    for name, value in stated.items():
        if isinstance(value, dict):
            for part, inner in value.items():
                target = _PARTS.get((name, part))
                if target is not None and inner is not None:
                    counts.setdefault(target, inner)
        elif name in ALIASES:
            if value is not None:
                counts.setdefault(ALIASES[name], value)
        elif name not in _IGNORED and _count(value):
            # Provider objects hold times, places and prices too: of names that are not ours only counts are taken.
            counts.setdefault(name, value)
    return counts


def _count(value: Any) -> int | None:
    if type(value) is int:
        return value if 0 <= value <= MOST_TOKENS else None
    if isinstance(value, str) and value.isdecimal() and len(value) <= 10:
        return _count(int(value))
    if isinstance(value, float) and value.is_integer():
        return _count(int(value))
    return None


def _inclusive(known: dict[str, int]) -> dict[str, int]:
    """Cached tokens beyond the input mean a source that leaves them out of it: add them."""
    cached = known.get("cache_read_tokens", 0) + known.get("cache_write_tokens", 0)
    if cached and cached > known.get("input_tokens", 0) and "input_tokens" in known:
        return {**known, "input_tokens": known["input_tokens"] + cached}
    return known


def _adds_up(known: dict[str, int]) -> bool:
    whole_in, whole_out = known.get("input_tokens"), known.get("output_tokens")
    if whole_in is not None and known.get("input_audio_tokens", 0) > whole_in:
        return False
    if whole_out is not None and known.get("output_audio_tokens", 0) > whole_out:
        return False
    return known.get("cache_write_1h_tokens", 0) <= known.get("cache_write_tokens", MOST_TOKENS)


def set_cost(draft: Draft, *, total: Any, input: Any = None, output: Any = None) -> None:
    """Give the draft a cost that the instrumentation states, in US dollars; nonsense is flagged `cost_invalid`."""
    if total is None and (input is None or output is None):
        return
    parts = nano_dollars(input), nano_dollars(output)
    whole = nano_dollars(total) if total is not None else None
    if total is None and parts[0] is not None and parts[1] is not None:
        whole = parts[0] + parts[1]
    if whole is None:
        draft.flag("cost_invalid")
        return
    draft.cost = Cost(
        input_nano=parts[0], output_nano=parts[1], total_nano=whole, source="provider", price_version="provider"
    )


def nano_dollars(value: Any) -> int | None:
    """Integer nano-dollars of a stated amount of US dollars, rounded half-even; None if it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        dollars = Decimal(str(value))
    except InvalidOperation:
        return None
    if not dollars.is_finite() or not 0 <= dollars <= MOST_DOLLARS:
        return None
    return int((dollars * _NANO).to_integral_value(ROUND_HALF_EVEN))
