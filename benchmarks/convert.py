"""How many observations a second one core converts, by dialect.

    python -m benchmarks.convert [--seconds 1] [--rounds 3] [--out DIR]

Real spans (the fixtures of the tests) as they lie in memory after a frame was decoded, through `assemble`, `convert`
and `count_once`, by CPU time; beside it the whole pipeline without redaction. Goals: 10,000 a second for our own spans,
5,000 for the slowest dialect.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.report import publish
from turntrace.pipeline import Pipeline, decode
from turntrace.pipeline.assemble import assemble
from turntrace.pipeline.convert import convert
from turntrace.pipeline.convert.otlp import join_logs, read_logs, read_spans
from turntrace.pipeline.count import count_once
from turntrace.records.fragment import Fragment, FrameKind, RawSpan, TurnHeader
from turntrace.settings import Settings

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "otlp"
OWN_GOAL, GOAL = 10_000, 5_000
_NAMES = {
    "otelv2": "otelgenai",
    "traceloop": "openllmetry",
    "traceloopold": "openllmetry",
    "vercelai7": "vercelai",
}


def dialects() -> dict[str, list[Fragment]]:
    """Fragments by dialect: one per trace of the fixtures, and turns of our own."""
    found: dict[str, list[Fragment]] = {"turntrace (own)": [own_turn()]}
    for path in sorted(FIXTURES.glob("*.expected.json")):
        short = path.name.partition("-")[0]
        found.setdefault(_NAMES.get(short, short), []).extend(_fragments(json.loads(path.read_text())))
    return found


def _fragments(expected: dict[str, Any]) -> list[Fragment]:
    spans, _ = read_spans(json.loads((FIXTURES / expected["fixture"]).read_text()))
    if expected["logs"]:
        records, _ = read_logs(json.loads((FIXTURES / expected["logs"]).read_text()))
        spans = join_logs(spans, records)
    by_trace: dict[str, list[RawSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id or "", []).append(span)
    return [
        Fragment(
            kind=FrameKind.OTLP,
            turn=TurnHeader(id=trace_id, trace_id=trace_id, span_id="f" * 16, source="otlp"),
            spans=tuple(members),
        )
        for trace_id, members in by_trace.items()
    ]


def own_turn() -> Fragment:
    """A turn as an application of ours writes it: retrieval, tool, two model calls with messages."""
    documents = [
        {"id": f"d{n}", "content": "Descale the kettle every four weeks. " * 4, "score": 0.9} for n in range(5)
    ]
    asked = [{"role": "system", "content": "You are a helpful assistant. " * 20}, {"role": "user", "content": "How?"}]
    call = {
        "type": "generation",
        "model": "gpt-4o-mini",
        "provider": "openai",
        "input": asked,
        "output": "Like so. " * 20,
    }
    call |= {"usage": {"input_tokens": 580, "output_tokens": 84, "cache_read_tokens": 512}, "finish_reason": "stop"}
    call |= {"parameters": {"temperature": 0, "max_tokens": 200}, "metadata": {"order": "A-17"}}
    steps = [
        {"type": "chain", "input": "How?", "output": "Like so."},
        {"type": "retrieval", "query": "How?", "documents": documents, "retrieval": {"top_k": 5}},
        {"type": "tool", "tool_name": "look", "input": {"id": 1}, "output": "found"},
        call,
        call,
    ]
    spans = [
        {
            "span_id": f"{n:016x}",
            "parent_span_id": "1".zfill(16) if n > 1 else None,
            "name": f"step-{n}",
            "started_at_us": 1_790_000_000_000_000 + n,
            "duration_us": 1000,
            "own": own,
        }
        for n, own in enumerate(steps, 1)
    ]
    turn = {"id": "a" * 32, "trace_id": "b" * 32, "span_id": "c" * 16, "name": "POST /ask", "input": "How?"}
    return decode(FrameKind.END, orjson.dumps({"turn": turn, "spans": spans}))


def converted(fragments: Sequence[Fragment]) -> int:
    """Convert them; answers how many observations there are."""
    total = 0
    for fragment in fragments:
        tree = assemble(fragment)
        total += len(count_once(tree, convert(tree)))
    return total


def rate(work: Callable[[], int], seconds: float) -> float:
    """Observations per second of CPU."""
    done, started = 0, time.process_time()
    while (spent := time.process_time() - started) < seconds:
        done += work()
    return done / spent


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()
    pipeline = Pipeline(Settings(redaction="off", content="full"))

    def worked(fragments: Sequence[Fragment]) -> int:
        return sum(len(item.trace.observations) for item in pipeline.work(fragments))

    rows = []
    for name, fragments in dialects().items():
        goal = OWN_GOAL if "own" in name else GOAL
        figures = [rate(lambda chosen=fragments: converted(chosen), options.seconds) for _ in range(options.rounds)]
        whole = rate(lambda chosen=fragments: worked(chosen), options.seconds)
        found = median(figures)
        rows.append(
            {
                "dialect": name,
                "observations": converted(fragments),
                "converted per second": round(found),
                "through the pipeline": round(whole),
                "goal": goal,
                "reached": "yes" if found >= goal else "no",
            }
        )
    publish("convert", rows, options.out)


if __name__ == "__main__":
    main()
