"""Facts that feed the roll-ups: additive, counted before sampling."""

import re
from dataclasses import dataclass
from typing import Final

from turntrace.records.construct import quick

_PLACEHOLDER: Final = re.compile(r"<([A-Z][A-Z0-9_]{0,39})_(?:k[0-9a-f]{8}|h[0-9a-f]{16})>")


def group_name(text: str) -> str:
    """A route or tag as sums are kept by it: what was redacted in it is of one kind, not of one value, or every turn
    would have a group of its own."""
    return _PLACEHOLDER.sub(r"<\1>", text) if "<" in text else text


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RollupFact:
    """What one turn (or one model call of it) adds to the sums.

    A *turn* fact has `turns=1` and no model; a *call* fact has `calls=1` and the model's names. Signs may be negative
    where a late row replaces an earlier one.
    """

    at_us: int
    environment: str = "default"
    feature: str = ""
    model: str = ""
    provider: str = ""
    route: str = ""
    release: str = ""
    experiment: str = ""
    prompt: str = ""  # "name@version"
    user_id: str = ""
    session_id: str = ""
    tags: tuple[str, ...] = ()  # "key:value" of declared keys
    price_version: str = ""
    tier: str = ""
    turns: int = 0
    calls: int = 0
    errors: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_input_nano: int = 0
    cost_output_nano: int = 0
    cost_total_nano: int = 0
    duration_us: int | None = None
    ttft_us: int | None = None
