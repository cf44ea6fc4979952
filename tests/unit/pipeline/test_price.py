"""Money, to the last digit."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from turntrace.errors import InvalidInput
from turntrace.pipeline.convert.usage import MOST_TOKENS, build, from_object, nano_dollars
from turntrace.pipeline.convert.vocabulary import provider
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.price import Pricer
from turntrace.records.fragment import RawSpan
from turntrace.records.usage import Cost, Price, Usage, to_decimal

CASES = json.loads((Path(__file__).parents[2] / "fixtures" / "pricing" / "cases.json").read_text())["cases"]
AUGUST_2026_US = 1_787_313_600_000_000  # 2026-08-21T12:00Z
MINI = Usage(input_tokens=580, output_tokens=84, cache_read_tokens=512)


def call(usage: Usage | None = MINI, **fields: Any) -> Draft:
    values: dict[str, Any] = {
        "type": "generation",
        "model": "gpt-4o-mini",
        "provider": "openai",
        "started_at_us": AUGUST_2026_US,
        **fields,
    }
    return Draft(span=RawSpan(span_id="a" * 16), usage=usage, **values)


def priced(draft: Draft, *overrides: Price) -> Cost | None:
    Pricer(overrides).price(draft)
    return draft.cost


def override(**fields: Any) -> Price:
    values: dict[str, Any] = {"id": "p1", "provider": "openai", "model": "gpt-4o-mini", "effective_from_us": 0}
    rates = {"input_mtok": "1", "output_mtok": "2"}
    return Price(**{**values, "rates_per_mtok": rates, **fields})


def amounts(cost: Cost | None) -> tuple[Decimal | None, ...]:
    assert cost is not None
    return to_decimal(cost.input_nano), to_decimal(cost.output_nano), to_decimal(cost.total_nano)


def expected(case: dict[str, Any]) -> tuple[Decimal, ...]:
    return tuple(Decimal(case["expected"][part]) for part in ("input", "output", "total"))


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_bundled_table_gives_the_worked_example_exactly(case: dict[str, Any]) -> None:
    usage = build(from_object(case["usage"]))
    cost = priced(call(usage, model=case["model"], provider=provider(case["provider"])))
    assert amounts(cost) == expected(case)
    assert cost is not None
    assert cost.price_version.startswith("genai-prices ")


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_an_own_price_with_the_stated_rates_gives_the_worked_example_exactly(case: dict[str, Any]) -> None:
    own = override(provider=case["provider"], model="mine", rates_per_mtok=case["rates_per_mtok"])
    cost = priced(call(build(from_object(case["usage"])), model="mine", provider=provider(case["provider"])), own)
    assert amounts(cost) == expected(case)
    assert cost is not None
    assert (cost.source, cost.price_version) == ("override", "override p1")


@pytest.mark.parametrize(
    ("model", "of"),
    [
        ("llama3:8b", "ollama"),
        ("offline-extractive-1", "openai"),
        ("gpt-4o", "my-own-gateway"),
        ("", "openai"),
        (None, None),
    ],
)
def test_a_model_nobody_knows_has_no_cost_instead_of_zero(model: str | None, of: str | None) -> None:
    assert priced(call(model=model, provider=of)) is None


@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/gpt-4o-mini", "ft:gpt-4o-mini-2024-07-18:acme::x1"])
def test_a_call_without_a_provider_is_priced_by_its_model(model: str) -> None:
    assert priced(call(model=model, provider=None)) is not None


@pytest.mark.parametrize("name", ["azure.ai.openai", "openai"])
def test_canonical_provider_names_find_the_table(name: str) -> None:
    assert priced(call(provider=name)) is not None


def test_the_requested_model_is_tried_where_the_answered_one_is_unknown() -> None:
    assert priced(call(model="gpt-4o-mini-nobody", model_requested="gpt-4o-mini")) is not None


def test_the_price_is_that_of_the_day_of_the_call() -> None:
    million = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    before = priced(call(million, model="o3", started_at_us=1_748_779_200_000_000))  # 2025-06-01
    after = priced(call(million, model="o3", started_at_us=1_780_315_200_000_000))  # 2026-06-01
    assert amounts(before)[2] == 50
    assert amounts(after)[2] == 10


def test_the_newest_own_price_that_is_in_force_wins() -> None:
    old = override(id="old", effective_from_us=AUGUST_2026_US - 20)
    new = override(id="new", effective_from_us=AUGUST_2026_US, rates_per_mtok={"input_mtok": "3"})
    future = override(id="future", effective_from_us=AUGUST_2026_US + 1)
    cost = priced(call(Usage(input_tokens=1_000_000)), old, new, future)
    assert amounts(cost) == (3, 0, 3)
    earlier = priced(call(Usage(input_tokens=1_000_000), started_at_us=AUGUST_2026_US - 1), old, new, future)
    assert earlier is not None
    assert earlier.price_version == "override old"


def test_an_own_price_that_is_not_yet_in_force_leaves_the_table() -> None:
    cost = priced(call(), override(effective_from_us=AUGUST_2026_US + 1))
    assert cost is not None
    assert cost.source == "computed"


def test_an_own_price_of_another_provider_is_not_used() -> None:
    assert priced(call(model="llama", provider="groq"), override(model="llama", provider="together")) is None
    assert priced(call(model="llama", provider=None), override(model="llama", provider="together")) is not None


def test_cached_tokens_without_a_rate_of_their_own_cost_what_input_costs() -> None:
    assert amounts(priced(call(), override()))[0] == Decimal("0.00058")


def test_a_cost_that_the_provider_states_is_kept() -> None:
    stated = Cost(total_nano=7, source="provider")
    assert priced(call(cost=stated)) is stated


def test_components_are_rounded_half_even_once() -> None:
    own = override(rates_per_mtok={"input_mtok": "0.0005", "output_mtok": "0.0005"})
    assert amounts(priced(call(Usage(input_tokens=1, output_tokens=3)), own)) == (
        Decimal(0),
        Decimal("0.000000002"),
        Decimal("0.000000002"),
    )


def test_only_model_calls_cost_anything() -> None:
    assert priced(call(type="agent", cost=Cost(total_nano=5))) is None


def test_usage_that_is_absent_has_no_cost() -> None:
    assert priced(call(None)) is None
    assert priced(call(Usage(reasoning_tokens=5))) is None


def test_a_tier_the_table_knows_has_its_own_price() -> None:
    november = AUGUST_2026_US + 92 * 86_400_000_000
    million = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    base, flex, batch = (
        call(million, model="o3", started_at_us=november, service_tier=t) for t in (None, "flex", "batch")
    )
    assert [amounts(priced(draft))[2] for draft in (base, flex)] == [10, 5]
    assert flex.cost is not None
    assert (flex.cost.tier, flex.flags) == ("flex", ())
    assert amounts(priced(batch))[2] == 5


def test_a_tier_is_flagged_before_the_day_the_table_knows_it_from() -> None:
    draft = call(model="o3", service_tier="flex")
    assert amounts(priced(draft)) == amounts(priced(call(model="o3")))
    assert draft.flags == ("tier_at_base_price",)


@pytest.mark.parametrize("tier", ["default", "standard", "auto", None, ""])
def test_the_ordinary_tier_goes_by_no_name(tier: str | None) -> None:
    draft = call(service_tier=tier)
    cost = priced(draft)
    assert cost is not None
    assert (cost.tier, draft.flags) == ("", ())


def test_a_tier_without_a_price_is_charged_at_the_base_and_flagged() -> None:
    draft = call(service_tier="express")
    cost = priced(draft)
    assert cost is not None
    assert (cost.tier, draft.flags) == ("express", ("tier_at_base_price",))


@pytest.mark.parametrize(
    "rates",
    [
        {"input_mtok": "cheap"},
        {"input_mtok": "-1"},
        {"input_mtok": "NaN"},
        {"input_mtok": {"tiers": []}},
        {"input_mtok": {"base": "1", "tiers": [{"above_tokens": "many", "price": "1"}]}},
        {"input_mtok": {"base": "1", "tiers": "none"}},
    ],
)
def test_an_unusable_rate_is_refused(rates: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Pricer([override(rates_per_mtok=rates)])


@pytest.mark.parametrize(
    "stated",
    [
        {"input_tokens": -1},
        {"input_tokens": 10**12},
        {"input_tokens": 10**30},
        {"input_tokens": "many"},
        {"input_tokens": 1.5},
        {"input_tokens": float("nan")},
        {"input_tokens": True},
        {"input_tokens": [1]},
        {"input_tokens": 5, "input_audio_tokens": 6},
        {"output_tokens": 5, "output_audio_tokens": 6},
    ],
)
def test_counts_that_cannot_be_are_no_usage(stated: dict[str, Any]) -> None:
    assert build(stated) is None


def test_input_that_leaves_cached_tokens_out_is_made_inclusive() -> None:
    usage = build({"input_tokens": 10, "cache_read_tokens": 40, "cache_write_tokens": 5})
    assert usage == Usage(input_tokens=55, cache_read_tokens=40, cache_write_tokens=5)


def test_whole_numbers_in_other_types_are_counts() -> None:
    assert build({"input_tokens": "12", "output_tokens": 3.0}) == Usage(input_tokens=12, output_tokens=3)


@pytest.mark.parametrize(("value", "nano"), [("0.000375", 375_000), (3e-05, 30_000), (0, 0), (1.5e-9, 2), (2.5e-9, 2)])
def test_a_stated_amount_is_taken_to_the_nano_dollar(value: object, nano: int) -> None:
    assert nano_dollars(value) == nano


@pytest.mark.parametrize("value", [-1, "free", float("nan"), float("inf"), 10**9, True, None, [1]])
def test_a_stated_amount_that_is_none_is_not_taken(value: object) -> None:
    assert nano_dollars(value) is None


@pytest.mark.parametrize(
    "draft",
    [
        call(Usage(input_tokens=MOST_TOKENS, output_tokens=MOST_TOKENS), model="o1-pro"),
        call(Usage(input_tokens=MOST_TOKENS), cost=Cost(total_nano=nano_dollars("1000000") or 0)),
    ],
)
def test_half_a_million_calls_fit_a_sum_whatever_they_say(draft: Draft) -> None:
    cost = priced(draft)
    assert (cost.total_nano if cost else 0) * 500_000 < 2**63
