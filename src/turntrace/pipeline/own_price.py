"""A price of the operator's own as it is stated in JSON, by API, panel or file."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from turntrace.errors import InvalidInput
from turntrace.pipeline.price import Pricer
from turntrace.records.usage import Price

FIELDS: Final = frozenset({"provider", "model", "effective_from", "rates_per_mtok"})


def price_id(provider: str, model: str, effective_from_us: int) -> str:
    """The id of a price: the same model at the same moment has one price."""
    return hashlib.sha256(json.dumps([provider, model, effective_from_us]).encode()).hexdigest()[:32]


def parse(stated: Mapping[str, Any], *, now_us: int = 0) -> Price:
    """A price from its JSON form `{provider, model, effective_from, rates_per_mtok}` (times are RFC 3339).

    Raises:
        InvalidInput: something is missing, unknown or unusable; the message says what.
    """
    unknown, missing = sorted(set(stated) - FIELDS), sorted(FIELDS - set(stated))
    if unknown or missing:
        what = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise InvalidInput(f"a price has {', '.join(sorted(FIELDS))}: {what}", field=(unknown or missing)[0])
    provider, model = _name(stated, "provider"), _name(stated, "model")
    effective_from_us = _instant(stated["effective_from"])
    rates = stated["rates_per_mtok"]
    if not isinstance(rates, Mapping) or not rates:
        raise InvalidInput("rates_per_mtok is an object of rates by name", field="rates_per_mtok")
    price = Price(
        id=price_id(provider, model, effective_from_us),
        provider=provider,
        model=model,
        effective_from_us=effective_from_us,
        rates_per_mtok=dict(rates),
        created_at_us=now_us,
    )
    Pricer((price,))  # refuses rates that cannot be used
    return price


def _name(stated: Mapping[str, Any], field: str) -> str:
    text = stated[field]
    if not isinstance(text, str) or not text.strip() or len(text) > 200:
        raise InvalidInput(f"{field} is a text of 1 to 200 characters", field=field)
    return text.strip()


def _instant(text: Any) -> int:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise InvalidInput(f"effective_from is an RFC 3339 time, not {text!r}", field="effective_from") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
