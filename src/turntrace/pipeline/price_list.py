"""Lists of prices as text: our own JSON (as `POST /prices` takes it), or the models that Langfuse exports.

A price that cannot be used is named by its line, and then none of the list is taken.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from turntrace.errors import InvalidInput
from turntrace.pipeline.own_price import parse
from turntrace.records.usage import Price

EPOCH: Final = "1970-01-01T00:00:00Z"
ANY: Final = "*"  # the provider of prices that name none
MOST: Final = 5000
_SPACE: Final = re.compile(r"[\s,]*")
_MILLION: Final = Decimal(1_000_000)
# Langfuse's names of usage, in dollars a token, and ours, in dollars a million.
_USAGE: Final[Mapping[str, str]] = {
    "input": "input_mtok",
    "output": "output_mtok",
    "input_cached_tokens": "cache_read_mtok",
    "cache_read_input_tokens": "cache_read_mtok",
    "input_cache_read": "cache_read_mtok",
    "cache_creation_input_tokens": "cache_write_mtok",
    "input_cache_creation": "cache_write_mtok",
    "input_audio_tokens": "input_audio_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio_tokens": "output_audio_mtok",
    "output_audio": "output_audio_mtok",
}
_EXPORTED: Final[Mapping[str, str]] = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "input_cached_tokens",
    "cache_write_mtok": "cache_creation_input_tokens",
    "input_audio_mtok": "input_audio_tokens",
    "output_audio_mtok": "output_audio_tokens",
}


def read_list(text: str, *, now_us: int = 0) -> tuple[Price, ...]:
    """The prices of a JSON text: a list, or an object with a list under `data`.

    Raises:
        InvalidInput: it is no such text, a price cannot be used, or two are for one model from one moment on; the
            message names the line.
    """
    found: dict[str, tuple[int, Price]] = {}
    for line, item in _items(text):
        try:
            price = _price(item, now_us)
        except InvalidInput as error:
            raise InvalidInput(f"line {line}: {error}", field=error.field) from None
        if price.id in found:
            raise InvalidInput(
                f"line {line}: {price.model} has a price from this moment on already, in line {found[price.id][0]}: "
                "the dates overlap",
                field="effective_from",
            )
        found[price.id] = (line, price)
        if len(found) > MOST:
            raise InvalidInput(f"line {line}: more than {MOST} prices")
    return tuple(price for _, price in found.values())


def _items(text: str) -> Iterator[tuple[int, Any]]:
    """The members of the list, each with the line it begins in."""
    try:
        whole = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise InvalidInput(f"line {line or 1}: this is no JSON: {getattr(error, 'msg', 'unreadable')}") from None
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        place = re.search(r'"data"\s*:\s*\[', text)
        start = place.end() if place else len(text)
        whole = whole["data"]
    elif isinstance(whole, list):
        start = text.index("[") + 1
    else:
        raise InvalidInput("line 1: expected a list of prices")
    decoder = json.JSONDecoder()
    for _ in whole:
        space = _SPACE.match(text, start)
        start = space.end() if space else start
        item, end = decoder.raw_decode(text, start)
        yield text.count("\n", 0, start) + 1, item
        start = end


def _price(item: Any, now_us: int) -> Price:
    if not isinstance(item, Mapping):
        raise InvalidInput("a price is an object")
    return parse(_own(item) if "modelName" in item else _without_additions(item), now_us=now_us)


def _without_additions(item: Mapping[str, Any]) -> dict[str, Any]:
    """What our own lists add to a price: the API answers them, and takes them back."""
    return {name: value for name, value in item.items() if name not in ("id", "created_at")}


def _own(item: Mapping[str, Any]) -> dict[str, Any]:
    """A model as Langfuse states it, as a price of ours."""
    unit = item.get("unit") or "TOKENS"
    if unit != "TOKENS":
        raise InvalidInput(f"unit: only TOKENS can be priced, not {unit!r}", field="unit")
    stated = {name: item.get(f"{name}Price") for name in ("input", "output")}
    prices = item.get("prices")
    for name, price in prices.items() if isinstance(prices, Mapping) else ():
        stated[name] = price.get("price") if isinstance(price, Mapping) else price
    unknown = sorted(name for name, price in stated.items() if price is not None and name not in _USAGE)
    if unknown:
        raise InvalidInput(f"prices: {', '.join(unknown)} cannot be priced", field="prices")
    rates = {_USAGE[name]: _per_million(name, price) for name, price in stated.items() if price is not None}
    return {
        "provider": item.get("provider") or ANY,
        "model": item["modelName"],
        "effective_from": item.get("startDate") or EPOCH,
        "rates_per_mtok": rates,
    }


def _per_million(name: str, price: Any) -> str:
    try:
        amount = Decimal(str(price)) * _MILLION
    except InvalidOperation:
        raise InvalidInput(f"{name}: expected dollars a token, got {price!r}", field=name) from None
    return f"{amount.normalize():f}" if amount.is_finite() else str(amount)


def to_langfuse(prices: Iterable[Price]) -> tuple[list[dict[str, Any]], Sequence[str]]:
    """Models as Langfuse's API takes them, and the names of those that it cannot express (tiers, per request)."""
    found: list[dict[str, Any]] = []
    left_out: list[str] = []
    for price in prices:
        rates = {name: rate for name, rate in price.rates_per_mtok.items() if rate is not None}
        if any(name not in _EXPORTED or isinstance(rate, Mapping) for name, rate in rates.items()):
            left_out.append(price.model)
            continue
        each = {_EXPORTED[name]: float(Decimal(str(rate)) / _MILLION) for name, rate in rates.items()}
        found.append(
            {
                "modelName": price.model,
                "matchPattern": f"(?i)^({re.escape(price.model)})$",
                "startDate": instant(price.effective_from_us),
                "unit": "TOKENS",
                "inputPrice": each.get("input"),
                "outputPrice": each.get("output"),
                "prices": {name: {"price": amount} for name, amount in each.items()},
                "provider": price.provider,
            }
        )
    return found, tuple(left_out)


def to_own(prices: Iterable[Price]) -> list[dict[str, Any]]:
    """Prices as `POST /prices` takes them."""
    return [
        {
            "provider": price.provider,
            "model": price.model,
            "effective_from": instant(price.effective_from_us),
            "rates_per_mtok": dict(price.rates_per_mtok),
        }
        for price in prices
    ]


def instant(at_us: int) -> str:
    """An instant in RFC 3339."""
    seconds, rest = divmod(at_us, 1_000_000)
    text = datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:06d}Z" if rest else f"{text}Z"
