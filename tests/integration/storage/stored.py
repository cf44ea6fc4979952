"""Turns as the pipeline hands them to storage, and what the tables then hold."""

from collections import Counter
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.rollup import RollupFact, own_times
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Usage
from turntrace.storage import batches, content, histograms, tables
from turntrace.storage.database import Database
from turntrace.storage.restate import MODEL_CALLS

T0 = 1_790_000_000_000_000
NOW = T0 + 60_000_000
SUMS = [column.name for column in tables.rollup.c][12:]


def turn_id(n: int) -> str:
    return f"019f0000{n:024x}"


def span_id(n: int) -> str:
    return f"{n:016x}"


def generation(turn: int, span: int, **changes: Any) -> Observation:
    found = Observation(
        id=turn_id(turn) + span_id(span),
        turn_id=turn_id(turn),
        trace_id=f"{turn:032x}",
        span_id=span_id(span),
        type="generation",
        name="answer",
        started_at_us=T0 + turn * 1000 + span,
        duration_us=500_000 + span,
        ttft_us=90_000,
        model="gpt-4o-mini-2024-07-18",
        model_requested="gpt-4o-mini",
        provider="openai",
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=60, details={"web_searches": 1}),
        cost=Cost(input_nano=1500, output_nano=1200, total_nano=2700, price_version="genai-prices 0.2.3"),
        finish_reasons=("stop",),
        prompt=PromptLink(name="support", version=3, label="production", variables={"product": "kettle"}),
        parameters={"temperature": 0},
        input=[{"role": "user", "content": "Where is my kettle? 🫖"}],
        output="On its way.",
        session_id="s1",
        user_id="anna",
    )
    return replace(found, **changes)


def retrieval(turn: int, span: int, **changes: Any) -> Observation:
    found = Observation(
        id=turn_id(turn) + span_id(span),
        turn_id=turn_id(turn),
        trace_id=f"{turn:032x}",
        span_id=span_id(span),
        parent_span_id=span_id(1),
        type="retrieval",
        name="kb-search",
        started_at_us=T0 + turn * 1000 + span,
        duration_us=12_000,
        query="kettle",
        documents=({"id": "d1", "content": "Kettles ship in two days.", "score": 0.5},),
        retrieval={"data_source": "kb", "returned": 1},
        session_id="s1",
        user_id="anna",
    )
    return replace(found, **changes)


def trace(turn: int = 1, *, observations: tuple[Observation, ...] | None = None, **changes: Any) -> Trace:
    if observations is None:
        observations = (generation(turn, 1), retrieval(turn, 2))
    calls = [item for item in observations if item.type in MODEL_CALLS]
    found = Trace(
        id=turn_id(turn),
        trace_id=f"{turn:032x}",
        span_id=span_id(999),
        name="POST /chat",
        method="POST",
        route="/chat",
        http_status=200,
        started_at_us=T0 + turn * 1000,
        duration_us=700_000,
        ttft_us=100_000,
        is_streamed=True,
        session_id="s1",
        user_id="anna",
        feature="support",
        environment="production",
        release="1.2",
        tags=("team:blue", "beta"),
        metadata={"path": "/chat"},
        feature_flags={"dark": True},
        input="Where is my kettle?",
        output="On its way.",
        input_preview="Where is my kettle?",
        output_preview="On its way.",
        models=tuple(dict.fromkeys(item.model for item in calls if item.model)),
        usage=_usage(calls),
        cost_input_nano=_sum(item.cost.input_nano for item in calls if item.cost),
        cost_output_nano=_sum(item.cost.output_nano for item in calls if item.cost),
        cost_total_nano=_sum(item.cost.total_nano for item in calls if item.cost),
        observation_count=len(observations),
        error_count=sum(1 for item in observations if item.status == "error"),
        observations=observations,
    )
    return replace(found, **changes)


def _sum(values: Any) -> int | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _usage(calls: list[Observation]) -> Usage | None:
    found = [item.usage for item in calls if item.usage]
    if not found:
        return None
    details: Counter[str] = Counter()
    for usage in found:
        details.update(usage.details)
    return Usage(
        input_tokens=_sum(usage.input_tokens for usage in found),
        output_tokens=_sum(usage.output_tokens for usage in found),
        cache_read_tokens=_sum(usage.cache_read_tokens for usage in found),
        details=dict(details),
    )


def facts(found: Trace, *, declared: tuple[str, ...] = ("team",)) -> tuple[RollupFact, ...]:
    """As `pipeline.facts` says them."""
    shared: dict[str, Any] = {
        "environment": found.environment,
        "feature": found.feature or "",
        "route": found.route or "",
        "release": found.release or "",
        "experiment": found.experiment or "",
        "user_id": found.user_id or "",
        "session_id": found.session_id or "",
        "tags": tuple(tag for tag in found.tags if tag.startswith(tuple(f"{key}:" for key in declared))),
    }
    turn = RollupFact(
        at_us=found.started_at_us,
        turns=1,
        errors=1 if found.status == "error" else 0,
        duration_us=found.duration_us,
        ttft_us=found.ttft_us if found.is_streamed else None,
        **shared,
    )
    pieces = ((item.span_id, item.parent_span_id, item.started_at_us, item.duration_us) for item in found.observations)
    own = own_times(pieces)
    return (turn, *(step_fact(item, shared, own[item.span_id]) for item in found.observations))


def step_fact(item: Observation, shared: dict[str, Any], own_us: int) -> RollupFact:
    of_step: dict[str, Any] = {**shared, "step": f"{item.type}:{item.name}", "own_us": own_us, "is_open": item.is_open}
    if item.type in MODEL_CALLS:
        return call_fact(item, of_step)
    failed = 1 if item.status == "error" else 0
    return RollupFact(at_us=item.started_at_us, duration_us=item.duration_us, errors=failed, **of_step)


def call_fact(item: Observation, shared: dict[str, Any]) -> RollupFact:
    usage, cost = item.usage or Usage(), item.cost
    return RollupFact(
        at_us=item.started_at_us,
        model=item.model or "",
        provider=item.provider or "",
        prompt=f"{item.prompt.name}@{item.prompt.version}" if item.prompt else "",
        price_version=cost.price_version if cost else "",
        tier=cost.tier if cost else "",
        calls=1,
        errors=1 if item.status == "error" else 0,
        unpriced=1 if item.usage and not cost else 0,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cache_read_tokens or 0,
        cache_write_tokens=usage.cache_write_tokens or 0,
        reasoning_tokens=usage.reasoning_tokens or 0,
        cost_input_nano=(cost.input_nano or 0) if cost else 0,
        cost_output_nano=(cost.output_nano or 0) if cost else 0,
        cost_total_nano=cost.total_nano if cost else 0,
        duration_us=item.duration_us,
        ttft_us=item.ttft_us,
        **shared,
    )


def end(found: Trace, **changes: Any) -> Worked:
    return replace(Worked(kind=FrameKind.END, trace=found, facts=facts(found)), **changes)


def start(found: Trace) -> Worked:
    return Worked(kind=FrameKind.START, trace=replace(found, outcome="in_progress", duration_us=None))


def amend(turn: int, *, stated: str = "", observations: tuple[Observation, ...] = (), **fields: Any) -> Worked:
    """A late fragment of a turn: it states nothing but its fields."""
    late = Trace(
        id=turn_id(turn),
        trace_id=f"{turn:032x}",
        span_id=span_id(999),
        started_at_us=T0 + turn * 1000,
        environment="production",
        observations=observations,
        observation_count=len(observations),
        **fields,
    )
    steps = tuple(fact for fact in facts(late) if fact.step)
    return Worked(kind=FrameKind.AMEND, trace=late, facts=steps, amended=frozenset(stated.split()))


def write(database: Database, *worked: Worked, **batch: Any) -> None:
    batches.write_batch(database, Batch(worked=worked, **batch), now_us=NOW)


def rows(database: Database, name: str) -> list[dict[str, Any]]:
    table = tables.metadata.tables[tables.PREFIX + name]
    with database.read() as connection:
        found = [dict(row) for row in connection.execute(select(table)).mappings()]
    return sorted(found, key=repr)


def loss(database: Database) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in rows(database, "loss"):
        found[row["reason"]] += row["n"]
    return {reason: n for reason, n in found.items() if n}


def summed(database: Database) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The roll-ups by key, all rows of a key added up; keys whose sums are all nothing are left out."""
    r = tables.rollup.c
    keys = [r.grain, r.at_us, r.dimension, r.value, r.model, r.provider, r.feature, r.environment]
    keys += [r.price_version, r.tier]
    statement = select(*keys, *(func.sum(r[name]) for name in SUMS)).group_by(*keys)
    with database.read() as connection:
        found = {tuple(row[:10]): tuple(int(n) for n in row[10:]) for row in connection.execute(statement)}
    return {key: sums for key, sums in found.items() if any(sums)}


def histogram(database: Database) -> dict[tuple[Any, ...], dict[int, int]]:
    """The histograms by key, all rows of a key added up."""
    found: dict[tuple[Any, ...], dict[int, int]] = {}
    for row in rows(database, "histogram"):
        key = tuple(row[name] for name in ("grain", "at_us", "metric", "model", "feature", "environment", "size"))
        histograms.add_packed(found.setdefault(key, {}), row["counts"])
    full = {key: {bucket: n for bucket, n in counts.items() if n} for key, counts in found.items()}
    return {key: counts for key, counts in full.items() if counts}


def error(text: str = "boom") -> ErrorInfo:
    return ErrorInfo(type="ValueError", message=text, stack=f"Traceback …\nValueError: {text}")


IGNORED = {"updated_at_us"}


def everything(database: Database) -> dict[str, Any]:
    """All that turns leave, so that two ways to the same state can be compared."""
    found: dict[str, Any] = {
        name: [{key: value for key, value in row.items() if key not in IGNORED} for row in rows(database, name)]
        for name in ("trace", "observation", "session", "sampled")
    }
    found["content"] = contents(database)
    return {**found, "rollup": summed(database), "histogram": histogram(database), "loss": loss(database)}


def contents(database: Database) -> dict[str, Any]:

    found = {row["turn_id"]: content.unpack(row["codec"], row["data"]) for row in rows(database, "content")}
    return {key: (value.trace, value.observations) for key, value in found.items()}
