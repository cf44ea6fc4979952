"""Usage to money, exactly: the bundled table of genai-prices, and prices of the operator's own before it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from turntrace.errors import InvalidInput
from turntrace.pipeline.convert.usage import MOST_DOLLARS
from turntrace.pipeline.convert.vocabulary import provider as canonical_provider
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.rate import Rates, Tiers, rates_of
from turntrace.records.usage import NANO, Cost, Price, Usage

if TYPE_CHECKING:
    from genai_prices import types as table

# Our provider names where the table has another; the rest it knows, or recognises by a part of the name.
_TABLE_NAMES: Final[Mapping[str, str]] = {
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
}
# What providers call the ordinary way of serving.
_STANDARD_TIERS: Final = frozenset({"", "default", "standard", "auto", "on_demand", "standard_only"})
# What the column of a cost holds.
MOST_TIER: Final = 40
_MINUTE_US: Final = 60_000_000
_MOST_CACHED: Final = 4096
_MOST_NANO: Final = int(MOST_DOLLARS * NANO)

Key = tuple[str | None, str, str, int]


class Pricer:
    """Prices model calls. Not thread-safe in its cache's bookkeeping, but never wrong: entries are immutable.

    Args:
        overrides: prices of the operator's own; they win over the table from their `effective_from_us` on.

    Raises:
        InvalidInput: a rate of an override is unusable.
    """

    def __init__(self, overrides: Sequence[Price] = ()) -> None:
        self._overrides = _Overrides(overrides)
        self._models: dict[tuple[str | None, str], _TableModel | None] = {}
        self._rates: dict[Key, tuple[Rates, bool] | None] = {}
        self._version: str | None = None

    @property
    def version(self) -> str:
        """Name and version of the table."""
        if self._version is None:
            # genai-prices is 3 MB of Python and takes 0.3 s to import: only where something is priced.
            import genai_prices

            self._version = f"genai-prices {genai_prices.__version__}"
        return self._version

    def price(self, draft: Draft) -> None:
        """Set the draft's cost; without a known price it stays None. A cost stated by the provider is kept."""
        if not draft.is_model_call:
            draft.cost = None
            return
        if draft.cost is not None:
            return
        usage = draft.usage
        if usage is None or (usage.input_tokens is None and usage.output_tokens is None and not usage.details):
            return
        names = [name for name in (draft.model, draft.model_requested) if name]
        draft.cost = self._by_override(draft, usage, names) or self._by_table(draft, usage, names)

    def _by_override(self, draft: Draft, usage: Usage, names: Sequence[str]) -> Cost | None:
        for name in names:
            found = self._overrides.find(draft.provider, name, draft.started_at_us)
            if found is not None:
                price_id, rates = found
                tier = _tier(draft.service_tier)
                return _cost(draft, rates, usage, source="override", version=f"override {price_id}", tier=tier)
        return None

    def _by_table(self, draft: Draft, usage: Usage, names: Sequence[str]) -> Cost | None:
        tier = _tier(draft.service_tier)
        for name in names:
            found = self._table_rates(draft.provider, name, tier, draft.started_at_us)
            if found is not None:
                rates, knows_tier = found
                if not knows_tier:
                    draft.flag("tier_at_base_price")
                return _cost(draft, rates, usage, source="computed", version=self.version, tier=tier)
        return None

    def _table_rates(self, provider: str | None, name: str, tier: str, at_us: int) -> tuple[Rates, bool] | None:
        model = self._model(provider, name)
        if model is None:
            return None
        key = (provider, name, tier, at_us // _MINUTE_US if model.is_dated else 0)
        if key not in self._rates:
            if len(self._rates) >= _MOST_CACHED:
                self._rates.clear()
            self._rates[key] = model.rates(tier, at_us)
        return self._rates[key]

    def _model(self, provider: str | None, name: str) -> "_TableModel | None":
        key = (provider, name)
        if key not in self._models:
            if len(self._models) >= _MOST_CACHED:
                self._models.clear()
            self._models[key] = _look_up(provider, name)
        return self._models[key]


def _tier(stated: str | None) -> str:
    tier = (stated or "").strip().lower()[:MOST_TIER]
    return "" if tier in _STANDARD_TIERS else tier


def _cost(draft: Draft, rates: Rates, usage: Usage, *, source: str, version: str, tier: str) -> Cost | None:
    amounts = rates.amounts(usage)
    if amounts is None or sum(amounts) > _MOST_NANO:
        draft.flag("usage_invalid")
        return None
    into, out, other = amounts
    return Cost(
        input_nano=into,
        output_nano=out,
        total_nano=into + out + other,
        source=source,
        price_version=version,
        tier=tier,
    )


class _TableModel:
    """A model of the table, of which the rates of a moment and tier can be asked."""

    __slots__ = ("_model", "_variants", "is_dated")

    def __init__(self, provider: "table.Provider", model: "table.ModelInfo") -> None:
        self._model = model
        # A reseller's prices fall back on those of the maker's models; tiers are the maker's alone.
        is_makers = any(model is own for own in provider.models)
        self._variants = tuple(model.price_variants or ()) if is_makers else ()
        is_changing = any(variant.constraint is not None for variant in self._variants)
        self.is_dated = isinstance(model.prices, list) or is_changing

    def rates(self, tier: str, at_us: int) -> tuple[Rates, bool]:
        """The rates, and whether the tier is one that the table has a price for at that moment."""
        at = datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)
        context = self._context(tier, at)
        return rates_of(self._model.get_prices(at, context or None).__dict__), bool(context) or not tier

    def _context(self, tier: str, at: datetime) -> dict[str, str]:
        """What the table calls this tier, as far as it has a price for it."""
        wanted = {"processing": "batch"} if tier == "batch" else {"service_tier": tier, "speed": tier}
        return {
            key: value
            for key, value in wanted.items()
            if any(
                variant.when == {key: value} and (variant.constraint is None or variant.constraint.active(at))
                for variant in self._variants
            )
        }


def _look_up(provider: str | None, name: str) -> _TableModel | None:
    # Lazy for the same reason as in `Pricer.version`; the snapshot is the bundled one, nothing goes to the network.
    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    for provider_id, model in _candidates(provider, name):
        try:
            return _TableModel(*snapshot.find_provider_model(model, None, provider_id, None))
        except LookupError:
            continue
    return None


def _candidates(provider: str | None, name: str) -> list[tuple[str | None, str]]:
    """Names under which the table may know the model: as stated, and with `provider/` in the model's name."""
    if provider is not None:
        return [(_TABLE_NAMES.get(provider, provider), name)]
    prefix, slash, rest = name.partition("/")
    stated: list[tuple[str | None, str]] = [(None, name)]
    if slash:
        canonical = canonical_provider(prefix) or prefix
        stated.insert(0, (_TABLE_NAMES.get(canonical, prefix), rest))
    elif name.startswith("ft:gpt-"):
        stated.insert(0, ("openai", name))
    return stated


class _Overrides:
    """Own prices by model, newest first."""

    def __init__(self, prices: Sequence[Price]) -> None:
        self._by_model: dict[str, list[tuple[Price, Rates]]] = {}
        for price in sorted(prices, key=lambda item: (item.effective_from_us, item.created_at_us), reverse=True):
            row = (price, rates_of(parse_rates(price.rates_per_mtok)))
            self._by_model.setdefault(price.model.strip().lower(), []).append(row)

    def find(self, provider: str | None, model: str, at_us: int) -> tuple[str, Rates] | None:
        """Id and rates of the newest price that is in force; a call without a provider matches any."""
        for price, rates in self._by_model.get(model.strip().lower(), ()):
            if price.effective_from_us <= at_us and _same_provider(price.provider, provider):
                return price.id, rates
        return None


def _same_provider(of_price: str, stated: str | None) -> bool:
    if stated is None or of_price in ("", "*"):
        return True
    wanted = canonical_provider(of_price)
    return wanted == stated or _TABLE_NAMES.get(stated) == of_price.strip().lower()


def parse_rates(stated: Mapping[str, object]) -> dict[str, Decimal | Tiers]:
    """Rates by name from decimal strings and `{"base", "tiers": [{"above_tokens", "price"}]}`.

    Raises:
        InvalidInput: a rate that is no non-negative decimal, or tiers that are not well formed.
    """
    return {name: _rate(name, value) for name, value in stated.items() if value is not None}


def _rate(name: str, value: object) -> "Decimal | Tiers":
    if not isinstance(value, Mapping):
        return _dollars(name, value)
    tiers = value.get("tiers", ())
    if not isinstance(tiers, (list, tuple)) or not all(isinstance(tier, Mapping) for tier in tiers):
        raise InvalidInput(f"{name}: tiers must be a list of {{above_tokens, price}}", field=name)
    steps = sorted((_above(name, tier), _dollars(name, tier.get("price"))) for tier in tiers)
    return Tiers(base=_dollars(name, value.get("base")), steps=tuple(steps))


def _above(name: str, tier: Mapping[str, Any]) -> int:
    above = tier.get("above_tokens")
    if type(above) is not int or above < 0:
        raise InvalidInput(f"{name}: above_tokens must be a whole number of tokens", field=name)
    return above


def _dollars(name: str, value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InvalidInput(f"{name}: expected a decimal string, got {value!r}", field=name) from None
    if not amount.is_finite() or not 0 <= amount <= 1_000_000:
        raise InvalidInput(f"{name}: expected 0 to 1000000 US dollars, got {value!r}", field=name)
    return amount
