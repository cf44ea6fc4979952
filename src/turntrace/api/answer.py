"""JSON out: times, money and lengths as the contract writes them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import orjson

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONS: Final = orjson.OPT_NON_STR_KEYS


def render(value: Any) -> bytes:
    """`value` as JSON text.

    orjson refuses lone surrogates, which hosts do send (cut emoji); the standard library escapes them.
    """
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def time(at_us: int | None) -> str | None:
    """RFC 3339 in UTC with microseconds."""
    if at_us is None:
        return None
    moment = _EPOCH + timedelta(microseconds=at_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}Z"


def milliseconds(length_us: int | None) -> float | None:
    """Milliseconds with the precision of microseconds."""
    return None if length_us is None else length_us / 1000


def money(nano_dollars: int | None) -> str | None:
    """US dollars as an exact decimal string without an exponent or trailing zeros."""
    if nano_dollars is None:
        return None
    text = format(Decimal(nano_dollars).scaleb(-9), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
