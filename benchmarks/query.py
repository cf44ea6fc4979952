"""How long reads take: latest, session, user, one trace, cost summary, on a generated SQLite database.

`python -m benchmarks.query --traces 100000` (and again with ten times as many: reads should stay flat). The database is
kept at `--path` and reused.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from benchmarks.report import publish
from turntrace.records.batch import Batch, Worked
from turntrace.records.filter import TraceFilter
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import Observation
from turntrace.records.rollup import RollupFact
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Usage
from turntrace.storage import migrate, rollups
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs
from turntrace.storage.queries.facets import facets
from turntrace.storage.queries.observations import list_observations
from turntrace.storage.queries.overview import overview
from turntrace.storage.queries.sessions import get_session, list_sessions
from turntrace.storage.queries.system import system
from turntrace.storage.queries.traces import count_traces, find_traces, list_traces
from turntrace.storage.queries.users import list_users

END_US = 1_795_168_800_000_000
DAY_US = 86_400_000_000
DAYS = 30
TYPES = ("chain", "retrieval", "reranker", "generation", "tool")
MODELS = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5")
FEATURES = ("support", "search", "summary", "triage")
TEXT = "the kettle was descaled with vinegar and rinsed twice before the next question about the warranty came"


def turns(count: int, seed: int = 1) -> Iterator[Trace]:
    """Turns of five observations over 30 days: about 20 in a session, 50 of a user in the long run."""
    chance = random.Random(seed)
    words = TEXT.split()
    step_us = DAYS * DAY_US // count
    for number in range(count):
        yield _turn(number, END_US - (count - number) * step_us, chance, words)


def _turn(number: int, at_us: int, chance: random.Random, words: list[str]) -> Trace:
    turn_id, trace_id = f"{at_us:016x}{number:016x}", f"{chance.getrandbits(128):032x}"
    model, cost = chance.choice(MODELS), chance.randrange(100_000, 3_000_000)
    usage = Usage(input_tokens=chance.randrange(100, 3000), output_tokens=chance.randrange(10, 400))
    is_error = chance.random() < 0.02
    text = " ".join(chance.choices(words, k=80))
    steps = tuple(_step(turn_id, trace_id, at_us, place, model, cost, usage, text) for place in range(5))
    return Trace(
        id=turn_id,
        trace_id=trace_id,
        span_id=f"{number:016x}",
        name="POST /chat",
        route="/chat",
        started_at_us=at_us,
        duration_us=chance.randrange(200_000, 5_000_000),
        ttft_us=chance.randrange(100_000, 900_000),
        status="error" if is_error else "ok",
        session_id=f"session-{number // 200:06d}-{number % 10}",
        user_id=f"user-{number // 200 // 5:05d}-{number % 10}",
        feature=chance.choice(FEATURES),
        input=text,
        output=text,
        input_preview=text[:200],
        output_preview=text[:200],
        models=(model,),
        usage=usage,
        cost_input_nano=cost // 2,
        cost_output_nano=cost - cost // 2,
        cost_total_nano=cost,
        observation_count=5,
        error_count=int(is_error),
        observations=steps,
    )


def _step(
    turn_id: str, trace_id: str, at_us: int, place: int, model: str, cost: int, usage: Usage, text: str
) -> Observation:
    span_id = f"{place + 1:016x}"
    is_call = TYPES[place] == "generation"
    return Observation(
        id=turn_id + span_id,
        turn_id=turn_id,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=None if place == 0 else f"{1:016x}",
        type=TYPES[place],
        name=TYPES[place],
        started_at_us=at_us + place * 10_000,
        duration_us=50_000,
        model=model if is_call else None,
        provider="openai" if is_call else None,
        usage=usage if is_call else None,
        cost=Cost(input_nano=cost // 2, output_nano=cost - cost // 2, total_nano=cost) if is_call else None,
        input=text,
        output=text,
    )


def _facts(trace: Trace) -> tuple[RollupFact, ...]:
    shared: dict[str, Any] = {
        "at_us": trace.started_at_us,
        "feature": trace.feature or "",
        "route": trace.route or "",
        "user_id": trace.user_id or "",
        "session_id": trace.session_id or "",
    }
    usage = trace.usage or Usage()
    call = RollupFact(
        **shared,
        model=trace.models[0],
        provider="openai",
        price_version="benchmark",
        calls=1,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cost_total_nano=trace.cost_total_nano or 0,
    )
    errors = int(trace.status == "error")
    return (
        RollupFact(**shared, turns=1, errors=errors, duration_us=trace.duration_us, ttft_us=trace.ttft_us),
        call,
    )


def fill(database: Database, count: int) -> None:
    """Store the turns through the worker's write path, and compact the roll-ups as the worker would."""
    part: list[Worked] = []
    for number, trace in enumerate(turns(count), start=1):
        part.append(Worked(kind=FrameKind.END, trace=trace, facts=_facts(trace)))
        if len(part) == 256 or number == count:
            write_batch(database, Batch(worked=tuple(part)), now_us=trace.started_at_us)
            part = []
        if number % 25_600 == 0:
            rollups.compact(database)
            with database.write() as c:
                rollups.prune_minutes(c, now_us=trace.started_at_us)
    rollups.compact(database, rounds=1000)
    database.checkpoint()


def reads(c: Connection) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    middle = list_traces(c, TraceFilter(to_us=END_US - DAYS * DAY_US // 2)).items[0]
    session, user = middle.session_id or "", middle.user_id
    week = END_US - 7 * DAY_US
    return {
        "latest 50": lambda: list_traces(c),
        "50 of a session": lambda: list_traces(c, TraceFilter(session_id=session)),
        "50 of a user": lambda: list_traces(c, TraceFilter(user_id=user)),
        "latest 50 of a feature with errors": lambda: list_traces(c, TraceFilter(feature="support", status="error")),
        "open a trace": lambda: find_traces(c, middle.trace_id),
        "replay a session": lambda: get_session(c, session),
        "latest 50 sessions": lambda: list_sessions(c),
        "latest 50 observations": lambda: list_observations(c),
        "latest 50 generations": lambda: list_observations(c, TraceFilter(type="generation")),
        "observations of a session": lambda: list_observations(c, TraceFilter(session_id=session)),
        "cost summary": lambda: costs(c),
        "cost by model": lambda: costs(c, group_by=("model",)),
        "cost by feature and day": lambda: costs(c, group_by=("feature",), interval="day"),
        "cost by user": lambda: costs(c, group_by=("user",)),
        "overview of a day": lambda: overview(c, from_us=END_US - DAY_US, to_us=END_US),
        "overview of a week": lambda: overview(c, from_us=week, to_us=END_US),
        "overview of 30 days": lambda: overview(c, from_us=END_US - DAYS * DAY_US, to_us=END_US),
        "50 users of a week": lambda: list_users(c, TraceFilter(from_us=week)),
        "facets": lambda: facets(c),
        "count to 1,000": lambda: count_traces(c),
        "words nobody wrote": lambda: list_traces(c, TraceFilter(q="zebra")),
        "system facts": lambda: system(c),
    }


def measure(database: Database, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds by read: the first on a new connection (`cold`) and the median after it (`p50`)."""
    with database.read() as c:
        names = list(reads(c))
    found: dict[str, dict[str, float]] = {}
    for name in names:
        database.close()
        with database.read() as c:
            work = reads(c)[name]
            times = [_timed(work) for _ in range(repeats + 1)]
        found[name] = {"cold": times[0], "p50": statistics.median(times[1:])}
    return found


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--path", type=Path, default=Path("query-benchmark.db"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    is_new = not arguments.path.exists()
    database = Database(f"sqlite:///{arguments.path}")
    if is_new:
        migrate.upgrade(database)
        fill(database, arguments.traces)
    found = measure(database, arguments.repeats)
    rows = [{"read": name, "cold ms": times["cold"], "p50 ms": times["p50"]} for name, times in found.items()]
    publish(f"query-{arguments.traces}", rows, arguments.out)


if __name__ == "__main__":
    main()
