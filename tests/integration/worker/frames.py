"""Turns as capture writes them to a spool: payloads of START, DELTA, END, AMEND and score frames."""

from typing import Any

import orjson

from turntrace.records.fragment import FrameKind
from turntrace.spool.writer import SpoolWriter

T0 = 1_790_000_000_000_000
MINUTE_US = 60_000_000


def turn_id(n: int) -> str:
    """The id of turn `n`; ids sort as numbers do."""
    return f"{n:032x}"


def header(n: int, **fields: Any) -> dict[str, Any]:
    """The header of turn `n`: four users with a session each, one turn every seven minutes."""
    own = {
        "id": turn_id(n),
        "trace_id": f"{n + 1:032x}",
        "span_id": f"{n + 1:016x}",
        "name": "POST /chat",
        "method": "POST",
        "route": "/chat",
        "http_status": 200,
        "started_at_us": T0 + n * 7 * MINUTE_US,
        "duration_us": 900_000 + n,
        "session_id": f"s{n % 4}",
        "user_id": f"u{n % 4}",
        "input": f"question {n}",
        "output": f"answer {n}",
    }
    return {**own, **fields}


def running(n: int, **fields: Any) -> dict[str, Any]:
    """The header of turn `n` while it runs."""
    found = header(n, outcome="in_progress", **fields)
    return {name: value for name, value in found.items() if name not in ("duration_us", "output", "http_status")}


def call(n: int, k: int = 1, **fields: Any) -> dict[str, Any]:
    """A model call of turn `n`, with a price."""
    own = {
        "type": "generation",
        "model": "gpt-4o-mini-2024-07-18",
        "provider": "openai",
        "usage": {"input_tokens": 100 + n, "output_tokens": 20 + k},
        "finish_reason": "stop",
        "input": f"prompt {n}.{k}",
        "output": f"completion {n}.{k}",
    }
    span = {
        "span_id": f"c{n:07x}{k:08x}",
        "parent_span_id": f"{n + 1:016x}",
        "name": f"call-{k}",
        "started_at_us": T0 + n * 7 * MINUTE_US + k * 1000,
        "duration_us": 300_000 + k,
        "own": own,
    }
    return {**span, **fields}


def payload(head: dict[str, Any], *spans: dict[str, Any]) -> bytes:
    """The bytes of one frame."""
    return orjson.dumps({"turn": head, "spans": list(spans)})


def start(writer: SpoolWriter, n: int, *spans: dict[str, Any], **fields: Any) -> bool:
    """Begin turn `n`."""
    return writer.append(FrameKind.START, payload(running(n, **fields), *spans), is_first=True)


def delta(writer: SpoolWriter, n: int, *spans: dict[str, Any], **fields: Any) -> bool:
    """More of turn `n`: the header's identity with these fields, and spans."""
    head = {key: value for key, value in header(n).items() if key in ("id", "trace_id", "span_id", "started_at_us")}
    return writer.append(FrameKind.DELTA, payload({**head, "outcome": "in_progress", **fields}, *spans), is_first=False)


def end(writer: SpoolWriter, n: int, *spans: dict[str, Any], is_first: bool = True, **fields: Any) -> bool:
    """End turn `n`; with one call in it where no spans are given."""
    return writer.append(FrameKind.END, payload(header(n, **fields), *(spans or (call(n),))), is_first=is_first)


def amend(writer: SpoolWriter, n: int, *spans: dict[str, Any], **fields: Any) -> bool:
    """What came after the end of turn `n`."""
    kept = ("id", "trace_id", "span_id", "started_at_us", "route", "session_id", "user_id")
    head = {key: value for key, value in header(n).items() if key in kept}
    return writer.append(FrameKind.AMEND, payload({**head, **fields}, *spans), is_first=False)


def score(writer: SpoolWriter, n: int, **fields: Any) -> bool:
    """A judgement of turn `n`."""
    own = {
        "id": f"score-{n}",
        "name": "thumbs",
        "value": True,
        "data_type": "boolean",
        "source": "user",
        "turn_id": turn_id(n),
    }
    return writer.append(FrameKind.SCORE, orjson.dumps({"score": {**own, **fields}}), is_first=False)


def write_turn(writer: SpoolWriter, n: int) -> bool:
    """Turn `n` in one of the ways that turns are written; says whether its end was taken."""
    shape = n % 6
    if shape == 1:
        start(writer, n)
        delta(writer, n, call(n), received="part")
        return end(writer, n, call(n), call(n, 2), is_first=False)
    if shape == 3:
        start(writer, n, call(n, duration_us=None))
        return end(writer, n, call(n), is_first=False)
    if shape == 4:
        return end(writer, n, call(n, status="error"), error={"type": "TimeoutError", "message": "no answer"})
    taken = end(writer, n)
    if shape == 2:
        amend(writer, n, call(n, 9))
    if shape == 5:
        score(writer, n)
    return taken


def write_turns(writer: SpoolWriter, numbers: range) -> None:
    """Several turns, of all shapes."""
    for n in numbers:
        assert write_turn(writer, n)
