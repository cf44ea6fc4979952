"""With sampling on, reports say what was spent, not what was kept: four workers, killed midway, on PostgreSQL.

Short form: 10,000 turns; `TURNTRACE_TEST_LONG=1`: 200,000 turns.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from tests.acceptance.servers import environment, wait_until
from turntrace import Turntrace
from turntrace.jobs.compact import compact
from turntrace.jobs.retain import retain
from turntrace.records.fragment import FrameKind
from turntrace.records.retention import parsed
from turntrace.records.rollup import RollupFact
from turntrace.storage import tables
from turntrace.storage.database import Database
from turntrace.storage.queries import percentile
from turntrace.storage.queries.costs import costs
from turntrace.storage.queries.loss import balance
from turntrace.storage.queries.rollups import wide_parts
from turntrace.storage.rollups import Rollup

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
TURNS, WORKERS = 200_000 if IS_LONG else 10_000, 4
START_US = 1_795_132_800_000_000  # 2026-11-20T00:00:00Z
DAY_US = 86_400_000_000
FEATURES = ("support", "search", "summary")
# Nano-dollars a token of gpt-4o-mini: input, read from the cache, output.
RATES = (150, 75, 600)
SECONDS = 1200 if IS_LONG else 100


@dataclass
class Truth:
    """What was really done, by feature."""

    turns: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    cost_nano: Counter[str] = field(default_factory=Counter)
    durations: list[int] = field(default_factory=list)


def _payload(number: int, dice: random.Random, truth: Truth) -> bytes:
    feature = FEATURES[number % 3]
    given, answered = dice.randrange(100, 4000), dice.randrange(10, 900)
    cached = dice.randrange(0, given)
    duration_us = int(dice.lognormvariate(13.5, 0.6))
    has_failed = dice.random() < 0.002
    at_us = START_US + dice.randrange(DAY_US)
    truth.turns[feature] += 1
    truth.errors[feature] += has_failed
    truth.tokens[feature] += given + answered
    truth.cost_nano[feature] += (given - cached) * RATES[0] + cached * RATES[1] + answered * RATES[2]
    truth.durations.append(duration_us)
    usage = {"input_tokens": given, "output_tokens": answered, "cache_read_tokens": cached}
    call = {"type": "generation", "model": "gpt-4o-mini", "provider": "openai", "usage": usage}
    span = {"span_id": f"{2:016x}", "name": "answer", "started_at_us": at_us, "duration_us": duration_us, "own": call}
    turn: dict[str, Any] = {
        "id": f"{number:032x}",
        "trace_id": f"{number:032x}",
        "span_id": f"{1:016x}",
        "started_at_us": at_us,
        "duration_us": duration_us,
        "feature": feature,
        "user_id": f"user-{number % 50}",
    }
    if has_failed:
        turn["error"] = {"type": "TimeoutError"}
    return orjson.dumps({"turn": turn, "spans": [span]})


@contextmanager
def _worker(env: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", "turntrace.cli", "worker"], env=env, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _is_compactor_killed(env: dict[str, str], database: Database) -> bool:
    """A compactor that dies in the middle: what it merged is written, what it merged from is still there."""
    for sign in (1, -1):  # so that there is something to merge whatever a worker has merged just now
        rollup = Rollup()
        rollup.add(RollupFact(at_us=START_US, turns=1, feature=FEATURES[0]), sign)
        with database.write() as connection:
            rollup.append(connection)
    killed = {**env, "TURNTRACE_FAIL_POINTS": "rollups.before_drop=kill@1"}
    command = [sys.executable, "-m", "turntrace.cli", "jobs", "run", "compact"]
    # 0: a worker's compactor was at it just then
    return subprocess.run(command, env=killed, capture_output=True, timeout=SECONDS).returncode == -signal.SIGKILL


def _done(database: Database) -> int:
    with database.read() as connection:
        loss = balance(connection, {}, 0)
    return loss.stored + loss.sampled


def _report(database: Database) -> tuple[dict[str, tuple[int, ...]], dict[float, int | None]]:
    """Sums by feature, and percentiles of the duration."""
    with database.read() as connection:
        turns = costs(connection, group_by=["feature"])
        parts = wide_parts(START_US, START_US + DAY_US)
        lengths = percentile.of_period(connection, parts, where={})["duration"]
    sums = {
        row.keys["feature"]: (
            row.turns or 0,
            row.errors,
            row.input_tokens + row.output_tokens,
            row.cost_total_nano or 0,
        )
        for row in turns
    }
    return sums, {share: percentile.percentile(lengths, share) for share in (0.5, 0.95, 0.99)}


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
@pytest.mark.timeout(3600 if IS_LONG else 240)
def test_reports_equal_the_unsampled_truth_exactly(database: Database, tmp_path: Path) -> None:
    url = database.url.render_as_string(hide_password=False)
    truth, dice = Truth(), random.Random(7)
    common = {"sample_rate": "0.01", "sample_hold_hours": "0", "content": "metadata", "keep_slow_ms": "60000"}
    envs = [environment(tmp_path / str(number), url, **common) for number in range(WORKERS)]
    for number, env in enumerate(envs):
        settings = {name[10:].lower(): value for name, value in env.items() if name.startswith("TURNTRACE_")}
        tt = Turntrace(**settings, worker="external")
        tt.start()
        spool = tt.recorder.spool
        assert spool is not None
        for turn in range(number, TURNS, WORKERS):
            assert spool.append(FrameKind.END, _payload(turn, dice, truth), is_first=True)
        tt.shutdown()
    log = tmp_path / "worker.log"
    with ExitStack() as stack:
        running = [stack.enter_context(_worker(env, log)) for env in envs]
        for share in (0.2, 0.5):  # both times a worker is killed in the middle, and another takes over
            wait_until(lambda share=share: _done(database) >= TURNS * share, seconds=SECONDS, what="progress")  # type: ignore[misc]
            victim = running[0]
            victim.kill()
            victim.wait(30)
            wait_until(lambda: _is_compactor_killed(envs[0], database), seconds=SECONDS, what="a killed compactor")
            compact(database)
            running[0] = stack.enter_context(_worker(envs[0], log))
        wait_until(lambda: _done(database) == TURNS, seconds=SECONDS, what="every turn")
    wanted = {
        name: (truth.turns[name], truth.errors[name], truth.tokens[name], truth.cost_nano[name]) for name in FEATURES
    }
    ordered = sorted(truth.durations)
    exact = {share: ordered[int(share * len(ordered))] for share in (0.5, 0.95, 0.99)}
    with database.read() as connection:
        kept = int(connection.execute(select(func.count()).select_from(tables.trace)).scalar_one())
    failed = sum(truth.errors.values())
    assert failed + 0.004 * TURNS < kept < failed + 0.02 * TURNS
    _compare(_report(database), wanted, exact)
    while compact(database)["deltas"]:
        pass
    _compare(_report(database), wanted, exact)
    later_us = START_US + 30 * DAY_US
    while retain(database, rules=parsed("content=7,numbers=7,sums=90"), wall=lambda: later_us)["left"]:
        pass
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.observation)).scalar_one() == 0
    _compare(_report(database), wanted, exact)


def _compare(report: tuple[Any, Any], wanted: Any, exact: dict[float, int]) -> None:
    sums, lengths = report
    assert sums == wanted
    for share, length in exact.items():
        assert abs(lengths[share] - length) <= 0.0102 * length, share
