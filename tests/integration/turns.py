"""Turns for tests of the read side: records as the pipeline gives them, stored by the real write path."""

from dataclasses import replace
from itertools import count
from typing import Any

from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import ErrorInfo, Observation
from turntrace.records.rollup import RollupFact, own_times
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Usage
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database

# 2026-11-20T10:00:00Z, the start of an hour and not of a day
START_US = 1_795_168_800_000_000
SECOND_US = 1_000_000
_numbers = count(1)


def turn(**fields: Any) -> Trace:
    """A turn with a retrieval and a generation; `fields` are of the trace, `model` and `cost_nano` of its call."""
    number = next(_numbers)
    model, cost_nano = fields.pop("model", "gpt-4o-mini"), fields.pop("cost_nano", 1_500_000)
    turn_id = fields.pop("id", f"{number:032x}")
    trace_id = fields.pop("trace_id", f"{number:08x}".rjust(32, "a"))
    at_us = fields.pop("started_at_us", START_US + number * SECOND_US)
    steps = fields.pop("observations", None)
    if steps is None:
        steps = (_retrieval(turn_id, trace_id, at_us), _generation(turn_id, trace_id, at_us, model, cost_nano))
    usage = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=50)
    defaults: dict[str, Any] = {
        "span_id": f"{number:016x}",
        "name": "POST /chat",
        "route": "/chat",
        "duration_us": 800_000,
        "ttft_us": 200_000,
        "session_id": "s-1",
        "user_id": "u-1",
        "feature": "support",
        "input": "How do I descale the kettle?",
        "output": "With vinegar.",
        "input_preview": "How do I descale the kettle?",
        "output_preview": "With vinegar.",
        "models": (model,),
        "usage": usage,
        "cost_input_nano": None if cost_nano is None else cost_nano // 3,
        "cost_output_nano": None if cost_nano is None else cost_nano - cost_nano // 3,
        "cost_total_nano": cost_nano,
        "unpriced_count": 1 if cost_nano is None else 0,
        "observation_count": len(steps),
    }
    return Trace(id=turn_id, trace_id=trace_id, started_at_us=at_us, observations=steps, **{**defaults, **fields})


def _retrieval(turn_id: str, trace_id: str, at_us: int) -> Observation:
    return Observation(
        id=turn_id + "1" * 16,
        turn_id=turn_id,
        trace_id=trace_id,
        span_id="1" * 16,
        type="retrieval",
        name="kb-search",
        started_at_us=at_us + 1000,
        duration_us=20_000,
        query="descale kettle",
        documents=({"id": "kb-7", "content": "Use vinegar.", "score": 0.9},),
        retrieval={"data_source": "kb", "top_k": 5, "returned": 1, "score_min": 0.9, "score_max": 0.9},
    )


def _generation(turn_id: str, trace_id: str, at_us: int, model: str, cost_nano: int | None) -> Observation:
    cost = None
    if cost_nano is not None:
        cost = Cost(input_nano=cost_nano // 3, output_nano=cost_nano - cost_nano // 3, total_nano=cost_nano)
    return Observation(
        id=turn_id + "2" * 16,
        turn_id=turn_id,
        trace_id=trace_id,
        span_id="2" * 16,
        parent_span_id="1" * 16,
        type="generation",
        name="answer",
        started_at_us=at_us + 30_000,
        duration_us=700_000,
        ttft_us=150_000,
        model=model,
        model_requested=model,
        provider="openai",
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=50, reasoning_tokens=5),
        cost=cost,
        finish_reasons=("stop",),
        input=[{"role": "user", "content": "How do I descale the kettle?"}],
        output="With vinegar.",
        metadata={"attempt": 1},
    )


def failed(**fields: Any) -> Trace:
    """A turn that raised."""
    error = ErrorInfo(type=fields.pop("error_type", "TimeoutError"), message="no answer", stack="Traceback …")
    return turn(status="error", error=error, error_count=1, **fields)


def facts_of(trace: Trace) -> tuple[RollupFact, ...]:
    """What the turn adds to the roll-ups, as the pipeline counts it."""
    shared: dict[str, Any] = {
        "at_us": trace.started_at_us,
        "environment": trace.environment,
        "feature": trace.feature or "",
        "route": trace.route or "",
        "release": trace.release or "",
        "experiment": trace.experiment or "",
        "user_id": trace.user_id or "",
        "session_id": trace.session_id or "",
        "tags": tuple(tag for tag in trace.tags if ":" in tag),
    }
    of_turn = RollupFact(
        **shared,
        turns=1,
        errors=int(trace.status == "error"),
        duration_us=trace.duration_us,
        ttft_us=trace.ttft_us,
    )
    pieces = ((step.span_id, step.parent_span_id, step.started_at_us, step.duration_us) for step in trace.observations)
    own = own_times(pieces)
    return (of_turn, *(_step_fact(step, shared, own[step.span_id]) for step in trace.observations))


def _step_fact(step: Observation, shared: dict[str, Any], own_us: int) -> RollupFact:
    of_step = {**shared, "step": f"{step.type}:{step.name}", "own_us": own_us}
    return _call_fact(step, of_step) if step.type == "generation" else RollupFact(**of_step)


def _call_fact(step: Observation, shared: dict[str, Any]) -> RollupFact:
    usage, cost = step.usage or Usage(), step.cost
    return RollupFact(
        **shared,
        model=step.model or "",
        provider=step.provider or "",
        prompt=f"{step.prompt.name}@{step.prompt.version}" if step.prompt else "",
        calls=1,
        unpriced=int(cost is None),
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cache_read_tokens or 0,
        reasoning_tokens=usage.reasoning_tokens or 0,
        cost_input_nano=cost.input_nano or 0 if cost else 0,
        cost_output_nano=cost.output_nano or 0 if cost else 0,
        cost_total_nano=cost.total_nano if cost else 0,
        price_version="test" if cost else "",
    )


def store(database: Database, *traces: Trace, kind: FrameKind = FrameKind.END) -> None:
    """Store turns through the worker's write path."""
    worked = tuple(
        Worked(kind=kind, trace=trace, facts=facts_of(trace) if kind is FrameKind.END else ()) for trace in traces
    )
    write_batch(database, Batch(worked=worked), now_us=max(trace.started_at_us for trace in traces) + SECOND_US)


def in_progress(**fields: Any) -> Trace:
    """A turn that still runs."""
    return replace(turn(**fields), outcome="in_progress", duration_us=None)
