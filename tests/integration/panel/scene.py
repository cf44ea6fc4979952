"""Turns worth looking at: a support bot's week, with errors, streams left early, redactions and hostile texts."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.integration.turns import facts_of
from turntrace.records.batch import Batch, ProcessCounts, Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Usage
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database

HOSTILE = Path(__file__).parents[2] / "fixtures" / "hostile"
SECOND_US = 1_000_000
_TALK = (
    (
        "How do I descale the kettle?",
        "Fill it with one part vinegar and three parts water, boil, wait 20 minutes, rinse.",
    ),
    ("And how often should I do that?", "Every four weeks where the water is hard, otherwise every two months."),
    ("Can I return it after 30 days?", "Returns are accepted within 45 days when the receipt is at hand."),
    ("My number is <PHONE_kaabbccdd>, call me back please", "Somebody will call <PHONE_kaabbccdd> before noon."),
    ("Write to <EMAIL_k1f2a3b4c> instead", "A summary was sent to <EMAIL_k1f2a3b4c>."),
    ("Does the warranty cover the lid?", "The lid is covered for two years, the seal for six months."),
)


def hostile(name: str = "xss.jsonl") -> list[str]:
    """Texts of a hostile fixture."""
    return [json.loads(line)["text"] for line in (HOSTILE / name).read_text("utf-8").splitlines() if line.strip()]


def scene(now_us: int, *, turns: int = 120, texts: tuple[str, ...] = (), seed: int = 7) -> list[Trace]:
    """Turns up to `now_us`, the newest first; `texts` stand in for questions and answers of the first ones."""
    chance = random.Random(seed)
    return [_turn(chance, index, now_us, texts[index] if index < len(texts) else None) for index in range(turns)]


def store(database: Database, traces: list[Trace], now_us: int) -> None:
    """Store the turns as the worker does, with the counts of the process that captured them."""
    worked = [Worked(kind=FrameKind.END, trace=item, facts=facts_of(item)) for item in traces]
    process = ProcessCounts(
        process_id="p-test",
        accepted=len(traces),
        turns=len(traces),
        overhead_us=62 * len(traces),
        bytes_written=9_000 * len(traces),
        seen_at_us=now_us,
    )
    scores = [score for item in traces for score in item.scores]
    for start in range(0, len(worked), 100):
        write_batch(database, Batch(worked=tuple(worked[start : start + 100])), now_us=now_us)
    write_batch(database, Batch(processes=(process,), scores=tuple(scores)), now_us=now_us)


TOGETHER: Final = "5ca1ab1e" * 4  # the W3C trace id of the turns below


def together(now_us: int) -> list[Trace]:
    """Four turns of one trace: two below steps of the first, one below the first itself, in three services."""
    first, *others = scene(now_us - 120_000_000, turns=4, seed=21)
    kept = {"trace_id": TOGETHER, "session_id": "s-together", "user_id": "u-together"}
    first = replace(first, **kept, service_name="shop", duration_us=4_000_000)
    callers = [first.observations[1].span_id, first.observations[-1].span_id, first.span_id[:12] + "beef"]
    services = ["stock", "queue", "shop"]
    found = [first]
    for number, (turn, caller, service) in enumerate(zip(others, callers, services, strict=True), 1):
        moved = first.started_at_us + number * 700_000 - turn.started_at_us
        found.append(_moved(replace(turn, **kept, parent_span_id=caller, service_name=service), moved))
    return [
        replace(turn, observations=tuple(replace(step, trace_id=TOGETHER) for step in turn.observations))
        for turn in found
    ]


def _moved(turn: Trace, by_us: int) -> Trace:
    steps = tuple(replace(step, started_at_us=step.started_at_us + by_us) for step in turn.observations)
    return replace(turn, started_at_us=turn.started_at_us + by_us, observations=steps)


def store_running(database: Database, now_us: int) -> list[Trace]:
    """Three turns that are going on, as the worker shows them, and one that was cut off; the newest first."""
    begun = [
        replace(
            item,
            outcome="in_progress",
            started_at_us=now_us - (2 + 31 * number) * SECOND_US,
            duration_us=None,
            output=None,
            output_preview=None,
            chunk_count=17 * number,
            observations=tuple(
                replace(step, started_at_us=now_us - SECOND_US, duration_us=None, ttft_us=None, is_open=True)
                for step in item.observations[:1]
            ),
        )
        for number, item in enumerate(scene(now_us, turns=3, seed=23))
    ]
    cut = _cut(scene(now_us, turns=1, seed=29)[0])
    worked = [Worked(kind=FrameKind.START, trace=item, facts=()) for item in begun]
    write_batch(
        database,
        Batch(worked=(*worked, Worked(kind=FrameKind.END, trace=cut, facts=facts_of(cut)))),
        now_us=now_us,
    )
    return [*begun, cut]


def _cut(turn: Trace) -> Trace:
    """A stream that its client left and nobody read on: what was open is as long as it was last seen."""
    *before, call, _ = turn.observations
    length = turn.duration_us or 0
    left = replace(
        call,
        duration_us=int(0.4 * length),
        is_open=True,
        flags=("incomplete",),
        usage=None,
        cost=None,
        finish_reasons=(),
    )
    late = replace(before[0], duration_us=60 * length)  # cleared away long after
    return replace(
        turn,
        is_streamed=True,
        outcome="client_disconnected",
        last_byte_us=int(0.6 * length),
        client_left_us=int(0.7 * length),
        received="Fill it",
        observations=(late, *before[1:], left),
    )


def _hex(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"


def _turn(chance: random.Random, index: int, now_us: int, text: str | None) -> Trace:
    question, answer = _TALK[index % len(_TALK)] if text is None else (text, text)
    turn_id, trace_id = _hex(chance, 32), _hex(chance, 32)
    started = now_us - index * 61 * SECOND_US - chance.randrange(20 * SECOND_US)
    length = int(chance.lognormvariate(13.8, 0.7))
    has_failed = text is None and index % 13 == 6
    is_left = text is None and index % 17 == 3
    error = ErrorInfo(type="RateLimitError", message="Rate limit reached", stack="Traceback …\n  answer()")
    steps = _steps(chance, turn_id, trace_id, started, length, question, answer, error if has_failed else None)
    call = steps[4]
    assert call.cost is not None
    return Trace(
        id=turn_id,
        trace_id=trace_id,
        span_id=_hex(chance, 16),
        name="POST /chat" if text is None else text[:80],
        method="POST",
        route="/chat",
        http_status=500 if has_failed else 200,
        status="error" if has_failed else "ok",
        outcome="client_disconnected" if is_left else "complete",
        error=error if has_failed else None,
        error_count=1 if has_failed else 0,
        started_at_us=started,
        duration_us=length,
        ttft_us=length // 4,
        last_byte_us=length if not is_left else int(0.52 * length),
        client_left_us=int(0.55 * length) if is_left else None,
        bytes_sent=2211,
        chunk_count=42,
        is_streamed=index % 2 == 0 or is_left,
        session_id=f"conv-{index // 4:04d}" if text is None else text[:60] or "conv",
        user_id=f"user-{index // 4 % 9}" if text is None else text[:60] or "user",
        feature=("support", "search", "onboarding")[index % 3] if text is None else text[:60],
        release="2026.11.3",
        request_id=f"req-{index}",
        tags=("team:support", "tier:gold") if text is None else (text[:60],),
        metadata={"plan": "gold", "arm": {"name": "b", "sizes": [1, 2, None]}} if text is None else {text: text},
        input={"question": question},
        output=None if has_failed else answer,
        received=answer[:12] if is_left else None,
        input_preview=question[:200],
        output_preview=None if has_failed else answer[:200],
        models=(call.model or "",),
        usage=call.usage,
        cost_input_nano=call.cost.input_nano,
        cost_output_nano=call.cost.output_nano,
        cost_total_nano=call.cost.total_nano,
        observation_count=len(steps),
        overhead_us=61,
        redaction_failed=1 if text is None and index == 5 else 0,
        observations=steps,
        scores=_scores(chance, turn_id, index, text),
    )


def _steps(
    chance: random.Random,
    turn_id: str,
    trace_id: str,
    started: int,
    length: int,
    question: str,
    answer: str,
    error: ErrorInfo | None,
) -> tuple[Observation, ...]:
    spans = [_hex(chance, 16) for _ in range(6)]
    documents = tuple(
        {
            "id": f"kb-{rank}",
            "title": f"Care of kettles, part {rank}",
            "content": answer,
            "score": 14.2 / rank,
            "page": rank,
        }
        for rank in range(1, 4)
    )

    def step(index: int, begin: float, end: float, **fields: Any) -> Observation:
        return Observation(
            id=turn_id + spans[index],
            turn_id=turn_id,
            trace_id=trace_id,
            span_id=spans[index],
            parent_span_id=spans[0] if index else None,
            started_at_us=started + int(begin * length),
            duration_us=int((end - begin) * length),
            **fields,
        )

    messages = [
        {"role": "system", "content": "Answer only from the documents. " + "Be brief and kind. " * 40},
        {"role": "user", "content": question},
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_1", "function": {"name": "order", "arguments": '{"id": 7}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"state": "shipped"}'},
    ]
    return (
        step(0, 0.01, 0.99, type="chain", name="answer_question", metadata={"k": 4, "note": question}),
        step(1, 0.02, 0.12, type="retrieval", name="kb-search", query=question, documents=documents,
             retrieval={"data_source": "kb", "top_k": 4, "returned": 3}),
        step(2, 0.12, 0.17, type="reranker", name="rerank", input_documents=documents, documents=documents[:2]),
        step(3, 0.17, 0.26, type="tool", name="order", tool_name="order", tool_call_id="call_1",
             input={"id": 7, "note": question}, output={"state": answer}),
        step(4, 0.27, 0.97, type="generation", name="answer", model="gpt-4o-mini-2024-07-18", provider="openai",
             model_requested="gpt-4o-mini", ttft_us=int(0.1 * length), finish_reasons=("stop",), response_id="r-1",
             usage=Usage(input_tokens=1280, output_tokens=184, cache_read_tokens=1024, reasoning_tokens=12),
             cost=Cost(input_nano=115_200, output_nano=110_400, total_nano=225_600, price_version="genai-prices"),
             prompt=PromptLink(name="support", version=3, label="production", variables={"question": question}),
             parameters={"temperature": 0}, input=messages, output=[{"role": "assistant", "content": answer}],
             status="error" if error else "ok", error=error, level="error" if error else "default"),
        step(5, 0.97, 0.985, type="guardrail", name="grounded?", output={"grounded": True, "note": answer}),
    )  # fmt: skip


def _scores(chance: random.Random, turn_id: str, index: int, text: str | None) -> tuple[Score, ...]:
    found = []
    if index % 3 == 0 or text is not None:
        comment = text if text is not None else "Exactly what was needed"
        found.append(_score(chance, turn_id, "thumbs", index % 2 == 0, "boolean", "user", comment))
    if index % 4 == 0:
        found.append(_score(chance, turn_id, "relevance", 0.83, "numeric", "evaluator", None))
    if text is not None:
        found.append(_score(chance, turn_id, "correction", text, "correction", "human", text))
    return tuple(found)


def _score(
    chance: random.Random, turn_id: str, name: str, value: Any, kind: str, source: str, comment: str | None
) -> Score:
    return Score(
        id=_hex(chance, 16), name=name, value=value, data_type=kind, source=source, turn_id=turn_id, comment=comment
    )
