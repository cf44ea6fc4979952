"""Query parameters: declared once, read by the parser and written into the OpenAPI document."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from starlette.datastructures import QueryParams

from turntrace.api.problem import Problem, bad_parameter
from turntrace.api.schema import Schema
from turntrace.storage.queries.cursor import DEFAULT_LIMIT, MAX_LIMIT

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+\- ]\d{2}:\d{2})?)?", re.ASCII
)
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter: its name, what it means, its JSON Schema and how its text is read.

    `read` raises ValueError with what was expected.
    """

    name: str
    description: str
    schema: Schema
    read: Callable[[str], Any]
    is_repeatable: bool = False


def parse(query: QueryParams, declared: Sequence[Parameter]) -> dict[str, Any]:
    """Values by parameter name; those not given are left out, repeatable ones are lists.

    Raises:
        Problem: 400 for unknown, repeated, empty or unreadable parameters.
    """
    known = {parameter.name: parameter for parameter in declared}
    values: dict[str, Any] = {}
    for name, text in query.multi_items():
        if name not in known:
            raise _unknown(name, tuple(known))
        value = _read(known[name], text)
        if known[name].is_repeatable:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise bad_parameter(name, f"`{name}` is given twice: give it once.")
        else:
            values[name] = value
    return values


def _unknown(name: str, known: tuple[str, ...]) -> Problem:
    what = f"Allowed here: {', '.join(known)}." if known else "This call takes none."
    return bad_parameter(name[:100], f"`{name[:100]}` is not a parameter of this call. {what}", allowed=list(known))


def _read(parameter: Parameter, text: str) -> Any:
    if not text:
        raise bad_parameter(parameter.name, f"`{parameter.name}` is empty: give a value or leave it out.")
    if len(text) > _LONGEST or "\x00" in text:
        raise bad_parameter(parameter.name, f"`{parameter.name}`: expected at most {_LONGEST} printable characters.")
    try:
        return parameter.read(text)
    except ValueError as error:
        raise bad_parameter(parameter.name, f"`{parameter.name}`: {error}.") from None


def text(name: str, description: str, *, is_repeatable: bool = False) -> Parameter:
    """Any text."""
    return Parameter(name, description, {"type": "string", "maxLength": _LONGEST}, str, is_repeatable)


def choice(name: str, description: str, values: Sequence[str]) -> Parameter:
    """One of some words."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"expected one of {', '.join(values)}")
        return value

    return Parameter(name, description, {"type": "string", "enum": list(values)}, read)


def time(name: str, description: str) -> Parameter:
    """A time in RFC 3339 or a date (UTC), read as microseconds since the epoch."""
    return Parameter(name, description, {"type": "string", "format": "date-time"}, read_time)


def decimal(name: str, description: str) -> Parameter:
    """A decimal number that is not negative."""
    return Parameter(name, description, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}, _decimal)


def number(name: str, description: str) -> Parameter:
    """A number that is not negative."""
    schema = {"type": "number", "minimum": 0}
    return Parameter(name, description, schema, lambda value: float(_decimal(value)))


def paging(default: int = DEFAULT_LIMIT) -> tuple[Parameter, ...]:
    """`limit` and `cursor`."""

    def read_limit(value: str) -> int:
        if not re.fullmatch(r"\d{1,6}", value, re.ASCII) or not 1 <= int(value) <= MAX_LIMIT:
            raise ValueError(f"expected a whole number, 1..{MAX_LIMIT}")
        return int(value)

    limit: Mapping[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": default}
    return (
        Parameter("limit", "rows on a page", limit, read_limit),
        text("cursor", "`next_cursor` of the page before"),
    )


def read_time(value: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time or a date; without an offset it is UTC.

    Raises:
        ValueError: another form.
    """
    if not _TIME.fullmatch(value):
        raise ValueError("expected a time such as 2026-11-21T09:30:00Z, or a date such as 2026-11-21")
    if value[10:11] == " ":
        value = value[:10] + "T" + value[11:]
    value = value.replace(" ", "+")  # a "+" that nobody escaped arrives as a space
    value = re.sub(r"(\.\d{6})\d+", r"\1", value)
    try:
        moment = datetime.fromisoformat(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise ValueError("there is no such time") from None


def _decimal(value: str) -> Decimal:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= 10**12:
        raise ValueError("expected a number such as 0.05, not negative")
    return amount
