"""How long reports over 30 days take: `python -m benchmarks.costs --url sqlite:////tmp/costs.db --turns 1000000`.

Fills the sums of that many turns as workers do (no rows of turns: reports read none), compacts them, and times every
read of the Cost page. With `--few` tenfold fewer turns of the same users, features and models are measured before, as a
ratio.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from benchmarks.report import publish
from turntrace.jobs.spending import summarise
from turntrace.pipeline.price import Pricer
from turntrace.records.filter import TraceFilter
from turntrace.records.rollup import RollupFact
from turntrace.storage import migrate, rollups
from turntrace.storage.database import Database
from turntrace.storage.queries import spending
from turntrace.storage.queries.costs import costs
from turntrace.storage.queries.overview import overview
from turntrace.storage.rollups import DAY_US, HOUR_US, Rollup

START_US: Final = 1_792_540_800_000_000  # 2026-10-21T00:00:00Z
DAYS: Final = 30
END_US: Final = START_US + DAYS * DAY_US
MONTH: Final = TraceFilter(from_us=START_US, to_us=END_US)
TURNS_A_SESSION: Final = 20
SESSIONS_AT_ONCE: Final = 40
USERS: Final = 2000
STEPS: Final = ("chain:answer", "retrieval:kb-search", "reranker:order", "tool:lookup")


def fill(database: Database, turns: int, first: int, seed: int) -> None:
    """Append the sums of `turns` turns, hour by hour, and compact them."""
    dice = random.Random(seed)
    hours = DAYS * 24
    number = first
    for hour in range(hours):
        rollup = Rollup()
        for _ in range(turns * (hour + 1) // hours - turns * hour // hours):
            _add(rollup, START_US + hour * HOUR_US, number, dice)
            number += 1
        with database.write() as connection:
            rollup.append(connection)
        if hour % 24 == 23:
            while rollups.compact(database, rounds=1000):
                pass
            with database.write() as connection:
                rollups.prune_minutes(connection, now_us=START_US + hour * HOUR_US)
    database.checkpoint()


def _add(rollup: Rollup, at_us: int, number: int, dice: random.Random) -> None:
    session = number // (TURNS_A_SESSION * SESSIONS_AT_ONCE) * SESSIONS_AT_ONCE + number % SESSIONS_AT_ONCE
    shared: dict[str, Any] = {
        "at_us": at_us + dice.randrange(60) * 60_000_000,
        "feature": f"feature-{dice.randrange(8)}",
        "route": f"/route/{dice.randrange(12)}",
        "release": f"1.{at_us // (7 * DAY_US) % 5}",
        "user_id": f"user-{session * 7919 % USERS}",
        "session_id": f"session-{session}",
    }
    duration_us = int(dice.lognormvariate(13.5, 0.6))
    rollup.add(RollupFact(**shared, turns=1, errors=int(dice.random() < 0.02), duration_us=duration_us, ttft_us=90_000))
    rollup.add(
        RollupFact(
            **shared,
            calls=1,
            model=f"model-{min(2, dice.randrange(6))}",
            provider="openai",
            prompt=f"support@{dice.randrange(4)}",
            price_version="benchmark",
            step="generation:answer",
            own_us=duration_us // 2,
            duration_us=duration_us // 2,
            ttft_us=80_000,
            input_tokens=dice.randrange(100, 9000),
            output_tokens=dice.randrange(10, 700),
            cost_total_nano=dice.randrange(100_000, 9_000_000),
        )
    )
    for step in STEPS:
        rollup.add(RollupFact(**shared, step=step, own_us=9000, duration_us=9000))


def reads(c: Connection) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    return {
        "sum of 30 days": lambda: costs(c, filter=MONTH),
        **{
            f"by {name}": partial(costs, c, group_by=(name,), filter=MONTH)
            for name in ("model", "feature", "route", "step")
        },
        "by prompt": lambda: costs(c, group_by=("prompt",), filter=MONTH),
        "by input length": lambda: costs(c, group_by=("input_length",), filter=MONTH),
        "every user": lambda: costs(c, group_by=("user",), filter=MONTH),
        "by feature and day": lambda: costs(c, group_by=("feature",), interval="day", filter=MONTH),
        "active users": lambda: spending.count_values(c, "user", MONTH),
        "sessions": lambda: spending.count_values(c, "session", MONTH),
        "overview": lambda: overview(c, from_us=START_US, to_us=END_US),
        **{
            f"Cost page by {name}": partial(summarise, c, Pricer(), MONTH, group=name, now_us=END_US)
            for name in ("feature", "model", "user", "session")
        },
    }


def measure(database: Database, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each read, by name."""
    with database.read() as c:
        return {name: [_timed(work) for _ in range(repeats + 1)][1:] for name, work in reads(c).items()}


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="an empty database, or one that an earlier run has filled")
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--few", action="store_true", help="measure a tenth of the turns first")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--fill-only", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    database = Database(arguments.url)
    migrate.upgrade(database)
    with database.read() as c:
        is_filled = bool(costs(c))
    few: dict[str, list[float]] = {}
    if not is_filled:
        tenth = arguments.turns // 10
        fill(database, tenth, 0, 1)
        few = measure(database, arguments.repeats) if arguments.few else {}
        fill(database, arguments.turns - tenth, tenth, 2)
    if arguments.fill_only:
        return
    rows = []
    for name, times in measure(database, arguments.repeats).items():
        row: dict[str, Any] = {"read": name, "p50 ms": statistics.median(times), "p95 ms": sorted(times)[-2]}
        if few:
            row["ratio to a tenth"] = statistics.median(times) / statistics.median(few[name])
        rows.append(row)
    publish(f"costs-{database.dialect}-{arguments.turns}", rows, arguments.out)


if __name__ == "__main__":
    main()
