"""Commands about money: `prices`, `reprice` and `rollups`."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from turntrace.deferred import Deferred
from turntrace.errors import InvalidInput, TurntraceError
from turntrace.records.usage import to_decimal
from turntrace.settings import Settings
from turntrace.storage import audit
from turntrace.storage.database import Database

if TYPE_CHECKING:
    from turntrace.integrations import pricefile
    from turntrace.jobs import report as periods
    from turntrace.jobs import reprice
    from turntrace.pipeline import price_list
    from turntrace.pipeline.price import Pricer
    from turntrace.storage import prices, recount
else:
    pricefile = Deferred("turntrace.integrations.pricefile")
    periods, reprice = Deferred("turntrace.jobs.report"), Deferred("turntrace.jobs.reprice")
    price_list = Deferred("turntrace.pipeline.price_list")
    prices, recount = Deferred("turntrace.storage.prices"), Deferred("turntrace.storage.recount")

Leaf = Callable[..., argparse.ArgumentParser]
OpenSettings = Callable[[argparse.Namespace], Settings]
OpenDatabase = Callable[[argparse.Namespace], Database]
DAY: Final = timedelta(days=1)
_EVERY: Final = ("day", "week", "month")  # of `jobs.report`, which a test compares


def add(parent: Any, leaf: Leaf, group: Callable[..., Any], settings: OpenSettings, database: OpenDatabase) -> None:
    """Add the commands to the command line.

    Args:
        leaf, group: make a command, or a group of them.
        settings, database: of the words of a command.
    """
    _add_prices(group(parent, "prices", "Prices of your own."), leaf, database)
    text = "Price a span of history anew; shows what would change, and changes it with --apply."
    parser = leaf(parent, "reprice", lambda words: _reprice(words, settings(words), database(words)), text)
    parser.add_argument("--from", dest="start", required=True, metavar="DATE", help="first day (UTC)")
    parser.add_argument("--to", dest="end", metavar="DATE", help="last day; none: yesterday")
    parser.add_argument("--model", help="only calls of this model")
    parser.add_argument("--apply", action="store_true", help="change it")
    text = "Make the report on spending of the last whole period."
    report = leaf(parent, "report", lambda words: _report(words, settings(words), database(words)), text)
    report.add_argument("--every", choices=_EVERY, default="week", help="the last day, week or month (UTC)")
    report.add_argument("--html", type=Path, help="write it to this file; none: print its figures")
    report.add_argument("--csv", type=Path, help="write the table to this file")
    _add_rollups(group(parent, "rollups", "The sums that reports are made of."), leaf, settings, database)


# --- prices ---------------------------------------------------------------------------------------------------------


def _add_prices(parent: Any, leaf: Leaf, database: OpenDatabase) -> None:
    text = "Store the prices of a JSON file (our own list, or Langfuse's models); all of them or none."
    leaf(parent, "import", lambda words: _import(words, database(words)), text).add_argument("file", type=Path)
    export = leaf(parent, "export", lambda words: _export(words, database(words)), "Print your own prices as JSON.")
    export.add_argument("--shape", choices=("turntrace", "langfuse"), default="turntrace")


def _import(words: argparse.Namespace, database: Database) -> int:
    found = pricefile.read_file(words.file)
    with database.write() as connection:
        new = sum(prices.add(connection, price) for price in found)
        _note(connection, "price.import", None, count=len(found))
    text = f"{new} prices stored, {len(found) - new} replaced; `turntrace reprice` prices history anew"
    return _say(words, {"stored": new, "replaced": len(found) - new}, text)


def _export(words: argparse.Namespace, database: Database) -> int:
    with database.read() as connection:
        found = prices.list_prices(connection)
    left_out: Any = ()
    data = price_list.to_own(found)
    if words.shape == "langfuse":
        data, left_out = price_list.to_langfuse(found)
    print(json.dumps(data, indent=2))
    if left_out:
        print(f"turntrace: left out, Langfuse has no tiers: {', '.join(left_out)}", file=sys.stderr)
    return 0


# --- history --------------------------------------------------------------------------------------------------------


def _reprice(words: argparse.Namespace, settings: Settings, database: Database) -> int:
    end = _day_after("to", words.end) if words.end else _midnight(_now_us())
    span = reprice.Span(from_us=_us(_day("from", words.start)), to_us=_us(end), model=words.model)
    with database.read() as connection:
        pricer: Pricer = pricefile.Prices(settings)(connection)
    report = reprice.preview(database, pricer, span)
    if not words.apply:
        return _say(words, _data(report), "\n".join([*_lines(report), "nothing is changed yet: add --apply"]))
    database.transact(_note, "reprice.ask", span.model, from_us=span.from_us, to_us=span.to_us)
    done = reprice.apply(database, pricer, span, tell=lambda calls: _progress(words, calls))
    report.changed = done.changed
    return _say(words, _data(report), "\n".join([*_lines(report), f"{done.changed} calls have their new price"]))


def _progress(words: argparse.Namespace, calls: int) -> None:
    if not words.json and sys.stderr.isatty():
        print(f"\r{calls:,} calls looked at", end="", file=sys.stderr)


def _data(report: "reprice.Report") -> dict[str, Any]:
    return {
        "changed": report.changed,
        "models": {
            model: {
                "calls": change.calls,
                "changed": change.changed,
                "before": f"{to_decimal(change.before_nano):f}",
                "after": f"{to_decimal(change.after_nano):f}",
                "unpriced_before": change.unpriced_before,
                "unpriced_after": change.unpriced_after,
            }
            for model, change in sorted(report.models.items())
        },
        "known_by_sums_alone": {
            model: {
                "calls": change.calls,
                "before": f"{to_decimal(change.before_nano):f}",
                "after": f"{to_decimal(change.after_nano):f}",
            }
            for model, change in sorted(report.rest.items())
        },
    }


def _lines(report: "reprice.Report") -> list[str]:
    found = [
        f"{model}: {change.changed:,} of {change.calls:,} calls change, ${to_decimal(change.before_nano):f} to "
        f"${to_decimal(change.after_nano):f}; without a price: {change.unpriced_before:,} before, "
        f"{change.unpriced_after:,} after"
        for model, change in sorted(report.models.items())
    ]
    found += [
        f"{model}: {change.calls:,} calls known by their sums alone, ${to_decimal(change.before_nano):f} to about "
        f"${to_decimal(change.after_nano):f}"
        for model, change in sorted(report.rest.items())
    ]
    return found or ["no model calls in this span"]


# --- report ---------------------------------------------------------------------------------------------------------


def _report(words: argparse.Namespace, settings: Settings, database: Database) -> int:
    with database.read() as connection:
        pricer: Pricer = pricefile.Prices(settings)(connection)
        made = periods.make(
            connection,
            pricer,
            every=words.every,
            now_us=_now_us(),
            panel_url=settings.panel_url,
            success=settings.success_score,
        )
    for path, text in ((words.html, made.html), (words.csv, made.csv)):
        if path is not None:
            path.write_text(text, encoding="utf-8")
    return _say(words, {"title": made.title, "csv": made.csv}, f"{made.title}\n{made.csv.rstrip()}")


# --- roll-ups -------------------------------------------------------------------------------------------------------


def _add_rollups(parent: Any, leaf: Leaf, settings: OpenSettings, database: OpenDatabase) -> None:
    check = leaf(
        parent,
        "check",
        lambda words: _check(words, database(words)),
        "Compare the sums with the rows they were counted from; fails where rows say more.",
    )
    text = "Make the sums anew from the rows, where these hold every turn."
    rebuild = leaf(parent, "rebuild", lambda words: _rebuild(words, settings(words), database(words)), text)
    rebuild.add_argument("--lossy", action="store_true", help="also where turns are known by their sums alone")
    for parser in (check, rebuild):
        parser.add_argument("--from", dest="start", metavar="DATE", help="first day (UTC); none: the first there is")
        parser.add_argument("--to", dest="end", metavar="DATE", help="last day; none: today")


def _days(words: argparse.Namespace, database: Database) -> list[int]:
    start = _us(_day("from", words.start)) if words.start else None
    end = _us(_day_after("to", words.end)) if words.end else None
    with database.read() as connection:
        return recount.days(connection, start, end)


def _check(words: argparse.Namespace, database: Database) -> int:
    found: list[recount.Day] = []
    for at_us in _days(words, database):
        with database.read() as connection:
            found.append(recount.check(connection, at_us))
    wrong = [day for day in found if not day.is_equal and day.is_complete]
    data = [
        {"day": _date(day.at_us), "is_equal": day.is_equal, "rollups": day.rollups, "rows": day.rows} for day in found
    ]
    _say(words, data, "\n".join(_verdict(day) for day in found) or "there are no turns")
    return 1 if wrong else 0


def _verdict(day: "recount.Day") -> str:
    if day.is_equal:
        return f"{_date(day.at_us)}  equal: {day.rows['turns']:,} turns, {day.rows['calls']:,} calls"
    if not day.is_complete:
        lost = day.rollups["turns"] - day.rows["turns"]
        return f"{_date(day.at_us)}  {lost:,} of {day.rollups['turns']:,} turns are known by their sums alone"
    names = ", ".join(name for name in recount.NAMES if day.rows[name] != day.rollups[name])
    return f"{_date(day.at_us)}  DIFFERENT in {names}: run `turntrace rollups rebuild`"


def _rebuild(words: argparse.Namespace, settings: Settings, database: Database) -> int:
    changed, refused = [], []
    for at_us in _days(words, database):
        try:
            day = database.transact(recount.rebuild, at_us, settings.rollup_tags, is_lossy=words.lossy)
            changed += [] if day.is_equal else [_date(at_us)]
        except InvalidInput:
            refused.append(_date(at_us))
    text = f"{len(changed)} days corrected"
    if refused:
        text += f"; left as they are, for turns known by their sums alone: {', '.join(refused)}"
    return _say(words, {"corrected": changed, "left": refused}, text)


# --- words ----------------------------------------------------------------------------------------------------------


def _say(words: argparse.Namespace, data: Any, text: str) -> int:
    print(json.dumps(data) if words.json else text)
    return 0


def _note(connection: Connection, /, action: str, target: str | None, **details: Any) -> None:
    """Into the audit log, as the panel's changes of prices are."""
    audit.append(connection, actor="command line", action=action, target=target, details=details, now_us=_now_us())


def _now_us() -> int:
    return time.time_ns() // 1000


def _day(name: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise TurntraceError(f"--{name}: expected a date such as 2026-11-01, got {text!r}") from None


def _day_after(name: str, text: str) -> datetime:
    try:
        return _day(name, text) + DAY
    except OverflowError:
        raise TurntraceError(f"--{name}: there is no day after {text}") from None


def _us(day: datetime) -> int:
    return int(day.timestamp()) * 1_000_000


def _midnight(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _date(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1_000_000, tz=UTC):%Y-%m-%d}"
