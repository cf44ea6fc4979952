"""Price lists as text: ours and Langfuse's, and what is said of a bad line."""

import json
from typing import Any

import pytest

from turntrace.errors import InvalidInput, SettingsError
from turntrace.integrations.pricefile import read_file
from turntrace.pipeline.price_list import read_list, to_langfuse, to_own

OWN = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "effective_from": "2026-01-01T00:00:00Z",
    "rates_per_mtok": {"input_mtok": "0.15", "output_mtok": "0.6", "cache_read_mtok": "0.075"},
}
LANGFUSE = {
    "id": "cm1",
    "modelName": "my-model",
    "matchPattern": "(?i)^(my-model)$",
    "startDate": "2026-02-01T00:00:00.000Z",
    "unit": "TOKENS",
    "inputPrice": 1.5e-07,
    "outputPrice": 6e-07,
    "totalPrice": None,
    "prices": {"input": {"price": 1.5e-07}, "output": {"price": 6e-07}, "input_cached_tokens": {"price": 7.5e-08}},
    "isLangfuseManaged": False,
}


def _text(*items: Any) -> str:
    return json.dumps(items, indent=1)


def test_our_own_list_comes_back_as_it_went() -> None:
    prices = read_list(_text(OWN))
    assert to_own(prices) == [OWN]
    assert read_list(json.dumps({"data": to_own(prices), "next_cursor": None})) == prices


def test_models_of_langfuse_are_priced_by_the_million() -> None:
    (price,) = read_list(json.dumps({"data": [LANGFUSE], "meta": {"page": 1}}))
    assert (price.provider, price.model, price.effective_from_us) == ("*", "my-model", 1_769_904_000_000_000)
    assert price.rates_per_mtok == {"input_mtok": "0.15", "output_mtok": "0.6", "cache_read_mtok": "0.075"}


def test_what_is_exported_for_langfuse_can_be_imported() -> None:
    prices = read_list(_text(OWN, LANGFUSE))
    models, left_out = to_langfuse(prices)
    assert (left_out, [model["modelName"] for model in models]) == ((), ["gpt-4o-mini", "my-model"])
    assert models[1]["inputPrice"] == 1.5e-07
    assert read_list(json.dumps(models)) == prices


def test_what_langfuse_cannot_express_is_named() -> None:
    tiers = {"base": "1", "tiers": [{"above_tokens": 200_000, "price": "2"}]}
    prices = read_list(_text({**OWN, "rates_per_mtok": {"input_mtok": tiers}}))
    assert to_langfuse(prices) == ([], ("gpt-4o-mini",))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[\n{},\n]", 3, "JSON"),
        ("{}", 1, "list"),
        ("[\n 1\n]", 2, "object"),
        (_text(OWN).replace('"0.15"', '"lots"'), 2, "input_mtok"),
        ("[" + json.dumps(OWN) + ",\n\n" + json.dumps({**OWN, "model": ""}) + "]", 3, "model"),
        ("[" + json.dumps(OWN) + ",\n" + json.dumps(OWN) + "]", 2, "overlap"),
        ("[" + json.dumps({**LANGFUSE, "unit": "IMAGES"}) + "]", 1, "IMAGES"),
        ("[\n" + json.dumps({**LANGFUSE, "prices": {"images": {"price": 1}}}) + "]", 2, "images"),
        ("[\n" + json.dumps({**LANGFUSE, "inputPrice": "x", "prices": None}) + "]", 2, "input"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(text: str, line: int, what: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^line {line}: .*{what}"):
        read_list(text)


def test_a_file_names_itself_too(tmp_path: Any) -> None:
    path = tmp_path / "prices.json"
    with pytest.raises(SettingsError, match="cannot be read"):
        read_file(path)
    path.write_text(_text({**OWN, "model": ""}))
    with pytest.raises(SettingsError, match=r"prices\.json, line 2: model"):
        read_file(path)
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="UTF-8"):
        read_file(path)
    path.write_text(_text(OWN))
    assert len(read_file(path)) == 1
