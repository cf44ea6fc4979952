"""The scheduled report on spending: one period as HTML with charts that mail programs show, and as CSV."""

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, Template
from sqlalchemy import Connection

from turntrace.errors import IntegrationMissing, TurntraceError
from turntrace.jobs import spending
from turntrace.jobs.spending import Summary
from turntrace.pipeline.price import Pricer
from turntrace.records.filter import Except, TraceFilter
from turntrace.records.usage import to_decimal
from turntrace.storage import switches
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import CostRow, costs

EVERY: Final = ("day", "week", "month")
SENT: Final = "report_sent"  # the end of the period that was reported last
REACHED: Final = "report_reached"  # JSON: a period, and the addresses that have its report, as keyed digests
ADDRESS_PURPOSE: Final = b"turntrace report addresses"
SHOWN: Final = 10
GROUPS: Final = {"feature": "Feature", "model": "Model", "user": "User", "route": "Route"}
DAY_US: Final = 86_400_000_000
_FILTERS: Final = {"user": "user_id"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report that can be sent: subject, HTML, and the table as CSV."""

    title: str
    html: str
    csv: str


Deliver = Callable[[Report], None]


def period(every: str, now_us: int) -> tuple[int, int]:
    """The last whole day, week (from Monday) or month in UTC, as start and end."""
    midnight = (_EPOCH + timedelta(microseconds=now_us)).replace(hour=0, minute=0, second=0, microsecond=0)
    if every == "day":
        start, end = midnight - timedelta(days=1), midnight
    elif every == "week":
        end = midnight - timedelta(days=midnight.weekday())
        start = end - timedelta(days=7)
    else:
        end = midnight.replace(day=1)
        start = (end - timedelta(days=1)).replace(day=1)
    return _us(start), _us(end)


def make(
    c: Connection,
    pricer: Pricer,
    *,
    every: str,
    now_us: int,
    panel_url: str | None = None,
    success: str | None = None,
) -> Report:
    """The report of the last whole period.

    Args:
        panel_url: public address of the panel: every name leads to its turns there; none: no links.
        success: the setting `success_score`.
    """
    start, end = period(every, now_us)
    wanted = TraceFilter(from_us=start, to_us=end, environment=Except(spending.JUDGES))
    found = spending.summarise(c, pricer, wanted, group="feature", now_us=end, success=success)
    days = costs(c, interval="day", filter=wanted)
    tables = [(label, name, costs(c, group_by=(name,), filter=wanted)) for name, label in GROUPS.items()]
    title = f"Spending {_date(start)}" + ("" if every == "day" else f" to {_date(end - DAY_US)}")
    html = _template().render(
        title=title,
        found=found,
        total=found.total,
        each=_each,
        days=_bars(days, start, end),
        tables=[(label, _rows(rows, name, start, end, panel_url)) for label, name, rows in tables],
        movers=[(each, _href(panel_url, "feature", each.value, start, end)) for each in found.movers],
        money=_money,
        panel_url=panel_url,
    )
    return Report(title=f"{title}: {_money(found.total.cost_total_nano)}", html=html, csv=_csv(found))


def send_due(
    database: Database,
    *,
    every: str,
    open_pricer: Callable[[Connection], Pricer],
    deliver: Mapping[str, Deliver],
    now_us: Callable[[], int],
    panel_url: str | None = None,
    success: str | None = None,
) -> Mapping[str, int]:
    """Send the report of the last period to who has not got it. The others are tried again at the next run.

    Args:
        deliver: what sends to each address, by `address_key`.

    Returns:
        Counts: reports sent.

    Raises:
        TurntraceError: an address could not be reached.
    """
    now = now_us()
    this = _name(every, now)
    if not is_due(database, every=every, now_us=now_us):
        return {"sent": 0}
    with database.read() as connection:
        pricer = open_pricer(connection)
        report = make(connection, pricer, every=every, now_us=now, panel_url=panel_url, success=success)
        reached = _reached(connection, this)
    failed: list[TurntraceError] = []
    for key in deliver.keys() - reached:
        try:
            deliver[key](report)
        except TurntraceError as error:
            failed.append(error)
        else:
            reached.add(key)
            # At once: whoever has it must not get it again when this process ends here.
            value = json.dumps({"period": this, "reached": sorted(reached)})
            database.transact(switches.put, REACHED, value, now_us=now)
    if failed:
        raise _first(failed)
    database.transact(switches.put, SENT, this, now_us=now)
    return {"sent": 1}


def address_key(key: bytes, address: str) -> str:
    """What is kept of an address, which may hold credentials: a keyed digest, 32 hex digits."""
    return hmac.digest(key, address.encode(), "sha256")[:16].hex()


def _reached(connection: Connection, this: str) -> set[str]:
    """The addresses that have the report of this period."""
    known = json.loads(switches.get(connection, REACHED) or "{}")
    return set(known["reached"]) if known.get("period") == this else set()


def _first(failed: Sequence[TurntraceError]) -> TurntraceError:
    """What to say of several failures: that something is not installed comes first."""
    missing = [error for error in failed if isinstance(error, IntegrationMissing)]
    return missing[0] if missing else TurntraceError(f"{len(failed)} addresses of the report could not be reached")


def _name(every: str, now_us: int) -> str:
    """A period's name in settings."""
    return f"{every} {period(every, now_us)[1]}"


def is_due(database: Database, *, every: str, now_us: Callable[[], int]) -> bool:
    """Whether the last period has not been reported."""
    with database.read() as connection:
        sent = switches.get(connection, SENT)
    return sent != _name(every, now_us())


# --- figures --------------------------------------------------------------------------------------------------------


def _bars(days: Sequence[CostRow], start: int, end: int) -> list[tuple[str, int, int]]:
    """Each day's name, nano-dollars and width (per cent of the costliest)."""
    spent = {row.start_at_us: row.cost_total_nano or 0 for row in days}
    most = max(spent.values(), default=0)
    return [
        (_date(at), spent.get(at, 0), round(100 * spent.get(at, 0) / most) if most else 0)
        for at in range(start, end, DAY_US)
    ]


def _rows(rows: Sequence[CostRow], name: str, start: int, end: int, panel_url: str | None) -> list[dict[str, Any]]:
    most = max((row.cost_total_nano or 0 for row in rows), default=0)
    return [
        {
            "value": row.keys[name] or "none",
            "href": _href(panel_url, name, row.keys[name], start, end),
            "requests": row.requests,
            "cost_nano": row.cost_total_nano,
            "width": round(100 * (row.cost_total_nano or 0) / most) if most else 0,
        }
        for row in rows[:SHOWN]
    ]


def _href(panel_url: str | None, name: str, value: str, start: int, end: int) -> str | None:
    if not panel_url or not value:
        return None
    named = {_FILTERS.get(name, name): value, "from": _instant(start), "to": _instant(end)}
    return f"{panel_url.rstrip('/')}/traces?{urlencode(named)}"


def _csv(found: Summary) -> str:
    return spending.as_table("feature", found.rows)


def _each(total_nano: int | None, number: int) -> int | None:
    return None if total_nano is None or not number else total_nano // number


def _money(nano_dollars: int | None) -> str:
    amount = to_decimal(nano_dollars)
    if amount is None:
        return "–"
    sign, size = ("−" if amount < 0 else ""), abs(amount)
    digits = 2 if size >= 1 or not size else max(4, 2 - size.adjusted())
    whole, _, decimals = f"{size.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN):,f}".partition(".")
    return f"{sign}${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _date(at_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%d}"


def _instant(at_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%dT%H:%M}"


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=1)
def _template() -> Template:
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_TEXT)


# Tables and inline styles: what mail programs leave standing.
_TEXT: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title></head>
{% set cell = "padding:6px 5px;border-bottom:1px solid #e3e4ea;font-size:14px;word-break:break-word" %}
{% set right = cell ~ ";text-align:right;width:78px" %}
{% set small = cell ~ ";text-align:right;width:70px;white-space:nowrap" %}
{% macro bar(width) %}
<div style="background:#ececf2;height:8px"><div style="background:#4b50d0;height:8px;width:{{ width }}%"></div></div>
{% endmacro %}
{% macro name(text, href) %}
{% if href %}<a href="{{ href }}" style="color:#3d41b8">{{ text }}</a>{% else %}{{ text }}{% endif %}
{% endmacro %}
<body style="margin:0;padding:24px 12px;background:#f6f6f9;color:#17181f;font-family:system-ui,Arial,sans-serif">
<div style="max-width:640px;margin:0 auto;background:#fff;border:1px solid #e3e4ea;padding:16px">
<h1 style="font-size:20px;margin:0 0 4px">{{ title }}</h1>
<p style="font-size:32px;font-weight:600;margin:8px 0 0">{{ money(total.cost_total_nano) }}</p>
<p style="color:#565866;font-size:14px;margin:4px 0 16px">
{% if found.previous and found.previous.cost_total_nano is not none %}
{{ money(found.previous.cost_total_nano) }} in the period before.
{% endif %}
{{ "{:,}".format(total.turns or 0) }} requests, {{ "{:,}".format(total.errors) }} failed;
{{ money(each(total.cost_total_nano, total.turns or 0)) }} a request,
{{ money(each(total.cost_total_nano, found.active_users)) }} for each of
{{ "{:,}".format(found.active_users) }} active users,
{{ money(each(total.cost_total_nano, found.sessions)) }} for each of {{ "{:,}".format(found.sessions) }} sessions
{%- if found.successes is not none %},
{{ money(each(total.cost_total_nano, found.successes)) }} for each of {{ "{:,}".format(found.successes) }} turns that
succeeded{% endif %}.
{{ "Evaluators spent " ~ money(found.judges_nano) ~ " besides." if found.judges_nano }}
{{ "The cache saved about " ~ money(found.savings_nano) ~ "." if found.savings_nano is not none }}
</p>
{% if total.unpriced %}
<p style="background:#fdf1dc;color:#7a4b00;padding:8px 10px;font-size:14px">{{ "{:,}".format(total.unpriced) }} model
{{ "call has" if total.unpriced == 1 else "calls have" }} no price and
{{ "is" if total.unpriced == 1 else "are" }} not in these sums:
{{ found.unpriced | map(attribute="model") | join(", ") }}.</p>
{% endif %}
{% if days | length > 1 %}
<h2 style="font-size:16px;margin:20px 0 6px">By day</h2>
<table role="presentation" style="width:100%;border-collapse:collapse">
{% for day, spent, width in days %}
<tr><td style="{{ cell }};white-space:nowrap;width:90px">{{ day }}</td><td style="{{ cell }}">{{ bar(width) }}</td>
<td style="{{ right }}">{{ money(spent) }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% if movers %}
<h2 style="font-size:16px;margin:20px 0 6px">What changed most</h2>
<table style="width:100%;border-collapse:collapse">
<tr><th scope="col" style="{{ cell }};text-align:left">Feature</th>
<th scope="col" style="{{ small }}">Before</th>
<th scope="col" style="{{ small }}">Now</th>
<th scope="col" style="{{ small }}">Change</th></tr>
{% for mover, href in movers %}
<tr><td style="{{ cell }}">{{ name(mover.value or "none", href) }}</td>
<td style="{{ small }}">{{ money(mover.before_nano) }}</td>
<td style="{{ small }}">{{ money(mover.now_nano) }}</td>
<td style="{{ small }}">{{ "+" if mover.difference_nano > 0 }}{{ money(mover.difference_nano) }}</td>
</tr>
{% endfor %}
</table>
{% endif %}
{% for label, rows in tables if rows %}
<h2 style="font-size:16px;margin:20px 0 6px">By {{ label | lower }}</h2>
<table style="width:100%;border-collapse:collapse">
<tr><th scope="col" style="{{ cell }};text-align:left">{{ label }}</th>
<th scope="col" style="{{ right }}">{{ "Calls" if label == "Model" else "Requests" }}</th>
<th scope="col" style="{{ right }}">Cost</th></tr>
{% for row in rows %}
<tr><td style="{{ cell }}">{{ name(row.value, row.href) }}{{ bar(row.width) }}</td>
<td style="{{ right }}">{{ "{:,}".format(row.requests) }}</td>
<td style="{{ right }}">{{ money(row.cost_nano) }}</td></tr>
{% endfor %}
</table>
{% endfor %}
<p style="color:#565866;font-size:13px;margin:20px 0 0">Times are UTC; sums are counted before sampling.
{% if panel_url %}<a href="{{ panel_url }}" style="color:#3d41b8">Open the panel</a>{% endif %}</p>
</div></body></html>
"""
