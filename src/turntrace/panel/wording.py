"""How numbers, money and times read on the panel. Pure: no markup, no clock."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from turntrace.records.score import Score
from turntrace.records.usage import to_decimal

ABSENT: Final = "–"
_SECOND: Final = 1_000_000
_UNITS: Final = ("B", "KB", "MB", "GB", "TB")


def money(nano_dollars: int | None) -> str:
    """US dollars with enough digits not to read as zero: $12.40, $0.0312, $0.000142; absent is a dash."""
    amount = to_decimal(nano_dollars)
    if amount is None:
        return ABSENT
    if amount == 0:
        return "$0"
    sign, amount = ("−" if amount < 0 else ""), abs(amount)
    if amount >= 1:
        return f"{sign}${amount.quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"
    digits = max(4, 2 - amount.adjusted())
    text = f"{amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN):f}"
    return f"{sign}${_without_zeros(text)}"


def _without_zeros(text: str) -> str:
    """Trailing zeros off, but never fewer than two decimals."""
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def duration(us: int | None) -> str:
    """A length of time, given in microseconds, as people say it: 840 µs, 12 ms, 1.24 s, 2 m 05 s."""
    if us is None:
        return ABSENT
    if us < 1000:
        return f"{us} µs"
    if us < 999_500:
        return f"{us / 1000:.1f} ms" if us < 9_950 else f"{us / 1000:.0f} ms"
    if us < 60 * _SECOND:
        return f"{us / _SECOND:.2f} s" if us < 9_995_000 else f"{us / _SECOND:.1f} s"
    seconds = round(us / _SECOND)
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60:02d} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def count(number: int | None) -> str:
    """A whole number with its thousands grouped."""
    return ABSENT if number is None else f"{number:,}"


def short_count(number: int | None) -> str:
    """A whole number in few characters: 940, 12.5k, 3.1M."""
    if number is None:
        return ABSENT
    for limit, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (10_000, "k")):
        if abs(number) >= limit:
            unit = 1000 if letter == "k" else limit
            return f"{number / unit:.1f}".removesuffix(".0") + letter
    return f"{number:,}"


def size(number: int | None) -> str:
    """Bytes as people say them, in steps of 1,024."""
    if number is None:
        return ABSENT
    value = float(number)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit ends the loop")


def percent(part: float | None, whole: float | None) -> str:
    """Share of a whole; a dash where there is no whole."""
    if part is None or not whole:
        return ABSENT
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.1f} %"


def change(now: float | None, before: float | None) -> str:
    """Relative change against a period before, signed; empty where either is unknown or nothing was before."""
    if now is None or not before:
        return ""
    share = 100 * (now - before) / before
    return "±0 %" if abs(share) < 0.5 else f"{share:+.0f} %".replace("-", "−")


def moment(at_us: int) -> datetime:
    """The aware UTC time of microseconds since the epoch."""
    return datetime.fromtimestamp(at_us / _SECOND, UTC)


def iso(at_us: int) -> str:
    """RFC 3339, UTC, milliseconds."""
    return moment(at_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(at_us: int, now_us: int) -> str:
    """How long ago, coarsely: 5 s ago, 3 min ago, 2 h ago, 4 d ago."""
    seconds = max(0, (now_us - at_us) // _SECOND)
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {name} ago"
    return f"{seconds // 86_400} d ago"


def score_value(score: Score) -> str:
    """The value of a score in a few characters."""
    if isinstance(score.value, bool):
        return "yes" if score.value else "no"
    if isinstance(score.value, (int, float)):
        return f"{score.value:.3g}"
    return score.value if len(score.value) <= 40 else score.value[:39] + "…"


def number_text(value: Any) -> str:
    """A retrieval score or other bare number, three significant digits; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


FILTERS: Final[Mapping[str, Any]] = {
    "money": money,
    "duration": duration,
    "count": count,
    "short_count": short_count,
    "size": size,
    "iso": iso,
    "score_value": score_value,
    "number_text": number_text,
}
