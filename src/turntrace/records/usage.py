"""Tokens and money of one model call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from turntrace.records.construct import quick

NANO = 1_000_000_000


def to_decimal(nano_dollars: int | None) -> Decimal | None:
    """Exact US dollars of an integer of nano-dollars (1e-9 USD); None stays None."""
    return None if nano_dollars is None else Decimal(nano_dollars).scaleb(-9)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as the provider states them. None means absent, which is not zero.

    `input_tokens` counts everything that went in, `output_tokens` everything that came out;
    the other fields are parts of those two and never added to them. `details` holds further counts by the name
    the price table gives them (`cache_audio_read_tokens`, `web_searches`, …): rare ones that some prices depend on.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    details: Mapping[str, int] = field(default_factory=dict)
    is_estimated: bool = False


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Money in integer nano-dollars, rounded half-even once per component; total is their sum, and of what is
    charged per call (web searches).

    `source` is `computed` (price table), `override` (a price of the operator's own) or `provider`
    (stated by the instrumentation). `price_version` names the table and its date; `tier` the service tier.
    """

    input_nano: int | None = None
    output_nano: int | None = None
    total_nano: int
    source: str = "computed"
    price_version: str = ""
    tier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price of the operator's own: dollars per million tokens by bucket, valid from a moment on.

    `rates_per_mtok` maps rate names (`input_mtok`, `output_mtok`, `cache_read_mtok`, `cache_write_mtok`,
    `input_audio_mtok`, `output_audio_mtok`, `cache_audio_read_mtok`, `requests_kcount`) to a decimal string or to
    `{"base": …, "tiers": [{"above_tokens": n, "price": …}]}`.
    """

    id: str
    provider: str
    model: str
    effective_from_us: int
    rates_per_mtok: Mapping[str, object] = field(default_factory=dict)
    created_at_us: int = 0
