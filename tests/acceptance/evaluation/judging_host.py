"""A host under load whose one worker process asks a slow judge: for the test and `benchmarks.judging`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from sqlalchemy import func, select

from tests.acceptance.evaluation.slow_judge import slow_judge
from tests.acceptance.faults.load import KEEP_ALIVE, Times, load_of
from tests.acceptance.faults.outage import APP, SETTLE_SECONDS, percentile
from tests.acceptance.servers import environment, uvicorn, wait_until
from tests.integration.evaluation.bench import add, put, some
from turntrace.records.evaluator import Candidate, Evaluator
from turntrace.storage import evaluations, evaluators, tables
from turntrace.storage.database import Database

JUDGE_SECONDS: Final = 0.2
LOAD_A_SECOND: Final = 50.0
SPAN: Final = "2" * 16  # the model's step of the turns that `some` gives
_n, _t = tables.evaluation.c, tables.trace.c


@dataclass(frozen=True)
class Pair:
    """The host's p99 (ms) while its worker judges, and in the quiet windows around it."""

    quiet: float
    judging: float

    @property
    def ratio(self) -> float:
        """1.05: five per cent longer."""
        return self.judging / self.quiet

    def __str__(self) -> str:
        return f"p99 quiet {self.quiet:.2f} ms, judging {self.judging:.2f} ms, ratio {self.ratio:.3f}"


@dataclass
class Judging:
    """Steps that wait for a judge, and a host whose worker judges them while it is allowed to."""

    database: Database
    evaluator: Evaluator
    times: Times
    wanted: int

    def switch(self, *, is_on: bool) -> None:
        """Let the worker judge, or not."""
        now_us = time.time_ns() // 1000
        self.database.transact(evaluators.switch, self.evaluator.id, is_enabled=is_on, now_us=now_us)

    def done(self) -> int:
        """How many are judged."""
        with self.database.read() as c:
            return int(c.execute(select(func.count()).where(_n.status == "done")).scalar_one())

    def a_minute(self, *, since_us: int = 0) -> float:
        """Judgements a minute, from the first end of one to the last."""
        with self.database.read() as c:
            ends = select(func.min(_n.finished_at_us), func.max(_n.finished_at_us), func.count())
            is_counted = (_n.status == "done", _n.finished_at_us >= since_us)
            first, last, number = c.execute(ends.where(*is_counted)).one()
        return float(number / (last - first) * 60e6)

    def add(self, steps: int) -> int:
        """More that waits for the judge; answers from when on it is judged (µs)."""
        now_us = time.time_ns() // 1000
        _fill(self.database, self.evaluator, steps, now_us)
        self.wanted += steps
        return now_us

    def is_quiet(self) -> bool:
        """Whether nothing is under way, and every run of the judge is stored as a turn."""
        with self.database.read() as c:
            in_hand = c.execute(select(func.count()).where(_n.status == "claimed")).scalar_one()
            runs = c.execute(select(func.count()).where(_t.environment == "turntrace-evaluation")).scalar_one()
        return not in_hand and int(runs) == self.done()

    def window(self, seconds: float) -> list[float]:
        """How long (ms) the host's requests took that begin in the seconds that follow."""
        started = time.monotonic()
        time.sleep(seconds)
        return self.times.between(started + SETTLE_SECONDS, time.monotonic() - SETTLE_SECONDS / 2)

    def pairs(self, *, quiet_seconds: float, judging_seconds: float) -> Iterator[Pair]:
        """Quiet, judging, quiet, judging, … while anything is left to judge."""
        before = self.window(quiet_seconds)
        while self.done() < self.wanted:
            self.switch(is_on=True)
            during = self.window(judging_seconds)
            self.switch(is_on=False)
            wait_until(self.is_quiet, seconds=60, what="what was begun is ended and stored")
            after = self.window(quiet_seconds)
            yield Pair(percentile(before + after, 0.99), percentile(during, 0.99))
            before = after


@contextmanager
def judging(database: Database, home: Path, steps: int) -> Iterator[Judging]:
    """So many generations that wait for a judge of 200 ms, in the database of a host under load; nothing is judged
    until it is switched on."""
    url = database.url.render_as_string(hide_password=False)
    env = environment(home, url, worker="process", judge_allowed_hosts="127.0.0.1")
    env["OUTAGE_TIMES"] = str(home / "times")
    with slow_judge(JUDGE_SECONDS) as judge_url:
        evaluator = _filled(database, judge_url, steps)
        with uvicorn(APP, env, home / "log", options=KEEP_ALIVE) as server:
            found = Judging(database, evaluator, Times(home / "times"), steps)
            with load_of(int(server.url.rpartition(":")[2]), rate=LOAD_A_SECOND) as load:
                wait_until(lambda: _stored(database) > steps, seconds=60, what="the worker stores turns")
                yield found
            assert load.failed == []


def _stored(database: Database) -> int:
    with database.read() as c:
        return int(c.execute(select(func.count()).select_from(tables.trace)).scalar_one())


def _filled(database: Database, judge_url: str, steps: int) -> Evaluator:
    now_us = time.time_ns() // 1000
    definition = {
        "name": "unsupported",
        "template": "unsupported_claim",
        "target": "observation",
        "filter": {"type": "generation"},
        "judge": {"base_url": judge_url, "model": "slow-judge"},
        "schedule": {"cron": "0 0 1 1 *"},  # what is judged is planned here: the load's own turns are not
    }
    evaluator = add(database, definition, now_us=now_us - 60_000_000)
    _fill(database, evaluator, steps, now_us)
    database.transact(evaluators.switch, evaluator.id, is_enabled=False, now_us=now_us)
    return evaluator


def _fill(database: Database, evaluator: Evaluator, steps: int, now_us: int) -> None:
    turns = [replace(trace, started_at_us=now_us - number) for number, trace in enumerate(some(steps))]
    for start in range(0, steps, 250):
        put(database, *turns[start : start + 250], at_us=now_us)
    with database.write() as connection:
        found = [
            Candidate(target="observation", target_id=f"{turn.id}{SPAN}", turn_id=turn.id, span_id=SPAN)
            for turn in turns
        ]
        assert evaluations.plan(connection, evaluator, found, delay_us=0, now_us=now_us) == steps


def ratio_of(pairs: list[Pair]) -> float:
    """By how much judging makes the host's p99 longer: the median of pairs."""
    return median(pair.ratio for pair in pairs)
