"""Facts that feed the roll-ups: additive, counted before sampling."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from turntrace.records.construct import quick

_PLACEHOLDER: Final = re.compile(r"<([A-Z][A-Z0-9_]{0,39})_(?:k[0-9a-f]{8}|h[0-9a-f]{16})>")


# Upper ends (input tokens) of the buckets that sums and lengths of calls are kept by, and their names.
SIZES: Final = (
    (1_000, "up to 1k"),
    (4_000, "1k to 4k"),
    (16_000, "4k to 16k"),
    (64_000, "16k to 64k"),
    (256_000, "64k to 256k"),
)
LARGEST: Final = "over 256k"
_MOST_CHARACTERS: Final = 200

Piece = tuple[str, str | None, int, int | None]  # id, id of the parent, start and duration (µs)


def size_of(input_tokens: int) -> str:
    """The bucket of a call's input; "" where it stated none."""
    if input_tokens <= 0:
        return ""
    return next((name for end, name in SIZES if input_tokens <= end), LARGEST)


def step_name(type: str, name: str) -> str:
    """The name that sums of one kind of step are kept by: `type:name`."""
    return group_name(f"{type}:{name}")[:_MOST_CHARACTERS]


def own_times(pieces: Iterable[Piece]) -> dict[str, int]:
    """Microseconds that each piece took without what its children took meanwhile, by id.

    Children that run at once count once; what they do before their parent begins or after it has ended is not its time.
    """
    known = {piece[0]: piece for piece in pieces}
    children: dict[str, list[tuple[int, int]]] = {}
    for _, parent, start, duration in known.values():
        if parent is not None and duration and parent in known:
            children.setdefault(parent, []).append((start, start + duration))
    own = {}
    for name, _, start, duration in known.values():
        whole, under = duration or 0, children.get(name)
        own[name] = whole - _covered(under, start, start + whole) if under and whole else whole
    return own


def _covered(spans: list[tuple[int, int]], start: int, end: int) -> int:
    """How much of start to end lies in any of these."""
    covered, reached = 0, start
    for first, last in sorted(spans):
        begin, stop = max(first, reached), min(last, end)
        if stop > begin:
            covered += stop - begin
            reached = stop
    return covered


def group_name(text: str) -> str:
    """A route or tag as sums are kept by it: what was redacted in it is of one kind, not of one value, or every turn
    would have a group of its own."""
    return _PLACEHOLDER.sub(r"<\1>", text) if "<" in text else text


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RollupFact:
    """What one turn (or one step of it) adds to the sums.

    A *turn* fact has `turns=1` and no model; a *call* fact has `calls=1` and the model's names; a fact of any other
    step has neither. Facts of steps have `step` (`step_name`) and the time that they took themselves. Signs may be
    negative where a late row replaces an earlier one.
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
    step: str = ""
    own_us: int = 0
    is_open: bool = False  # the step had not ended; what it became follows
