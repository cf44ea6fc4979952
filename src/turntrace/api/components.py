"""JSON Schemas of the answers: the shapes of `shape`, declared."""

from collections.abc import Mapping
from typing import Final

from turntrace.api.schema import (
    Schema,
    anything,
    boolean,
    free,
    integer,
    listing,
    moment,
    money,
    nullable,
    number,
    record,
    reference,
    text,
)
from turntrace.records.erasure import KINDS
from turntrace.records.observation import LEVELS, OBSERVATION_TYPES
from turntrace.records.score import DATA_TYPES, SCORE_SOURCES
from turntrace.storage.queries.condition import OUTCOMES

_STATUS: Final = text(enum=["ok", "error"])
_ID: Final = text("32 hex digits", pattern="^[0-9a-f]{32}$")
_MAYBE: Final = nullable(text())
_COUNT: Final = integer(minimum=0)
_TOKENS: Final = nullable(integer("tokens"))
_LENGTH: Final = nullable(number("milliseconds"))
_STRINGS: Final = listing(text())
_OBJECTS: Final = nullable(listing(anything()))


def page(name: str) -> Schema:
    """A page of these records."""
    cursor = nullable(text("pass as `cursor` for the next page; null on the last"))
    return record({"data": listing(reference(name)), "next_cursor": cursor})


_USAGE: Final = record({name: _TOKENS for name in ("input", "output", "cache_read", "cache_write", "reasoning")})
_COST: Final = record({"input": nullable(money()), "output": nullable(money()), "total": money()})
_ERROR: Final = record({"type": text(), "message": _MAYBE, "stack": _MAYBE})
_PROMPT: Final = record(
    {"name": text(), "version": {"type": ["string", "integer", "null"]}, "label": _MAYBE, "variables": free()}
)
_RETRIEVAL: Final = record(
    {
        "data_source": _MAYBE,
        "top_k": nullable(number()),
        "returned": nullable(number()),
        "score_min": nullable(number()),
        "score_max": nullable(number()),
    },
    additionalProperties=True,
)

_TRACE: Final = record(
    {
        "id": {**_ID, "description": "the turn"},
        "trace_id": {**_ID, "description": "W3C trace id, as in X-Trace-Id"},
        "turn_ids": nullable(listing(_ID, "the turns answered together; null in lists")),
        "name": text(),
        "session_id": _MAYBE,
        "user_id": _MAYBE,
        "feature": _MAYBE,
        "experiment": _MAYBE,
        "environment": text(),
        "release": _MAYBE,
        "tags": _STRINGS,
        "metadata": nullable(free("null in lists")),
        "feature_flags": nullable(free("null in lists")),
        "status": _STATUS,
        "outcome": text(enum=list(OUTCOMES)),
        "error": nullable(_ERROR),
        "source": text("http, websocket, manual or otlp"),
        "method": _MAYBE,
        "route": _MAYBE,
        "http_status": nullable(integer()),
        "request_id": _MAYBE,
        "service_name": _MAYBE,
        "started_at": moment(),
        "duration_ms": _LENGTH,
        "ttft_ms": _LENGTH,
        "last_byte_ms": _LENGTH,
        "client_left_ms": _LENGTH,
        "is_streamed": boolean(),
        "bytes_sent": nullable(integer()),
        "chunk_count": nullable(integer()),
        "input": anything("in lists a preview of at most 200 characters"),
        "output": anything("in lists a preview of at most 200 characters"),
        "received": nullable(text("the streamed body as the client was given it; null in lists")),
        "models": _STRINGS,
        "usage": nullable(_USAGE),
        "cost": nullable(_COST),
        "unpriced_count": integer("model calls without a known price"),
        "observation_count": _COUNT,
        "error_count": _COUNT,
        "keep_reason": text("why sampling kept it"),
        "redaction_failed": integer("fields withheld because redaction failed"),
        "flags": _STRINGS,
        "scores": listing(reference("Score")),
        "observations": nullable(listing(reference("Observation"), "null in lists")),
    }
)

_OBSERVATION: Final = record(
    {
        "id": text("48 hex digits", pattern="^[0-9a-f]{48}$"),
        "turn_id": _ID,
        "trace_id": _ID,
        "span_id": text("16 hex digits", pattern="^[0-9a-f]{16}$"),
        "parent_id": nullable(text("`id` of an observation of the same trace")),
        "type": text(enum=list(OBSERVATION_TYPES)),
        "name": text(),
        "level": text(enum=list(LEVELS)),
        "status": _STATUS,
        "status_message": _MAYBE,
        "error": nullable(_ERROR),
        "started_at": moment(),
        "duration_ms": _LENGTH,
        "ttft_ms": _LENGTH,
        "is_open": boolean("it had not ended when it was last written"),
        "model": _MAYBE,
        "model_requested": _MAYBE,
        "provider": _MAYBE,
        "service_tier": _MAYBE,
        "parameters": nullable(free("null in lists")),
        "usage": nullable(_USAGE),
        "cost": nullable(_COST),
        "price_version": _MAYBE,
        "finish_reasons": _STRINGS,
        "response_id": _MAYBE,
        "input": anything("null in lists"),
        "output": anything("null in lists"),
        "tool_calls": _OBJECTS,
        "tool_definitions": _OBJECTS,
        "tool_name": _MAYBE,
        "tool_call_id": _MAYBE,
        "agent_name": _MAYBE,
        "query": _MAYBE,
        "retrieval": nullable(_RETRIEVAL),
        "documents": _OBJECTS,
        "input_documents": _OBJECTS,
        "prompt": nullable(_PROMPT),
        "session_id": _MAYBE,
        "user_id": _MAYBE,
        "tags": _STRINGS,
        "metadata": nullable(free("null in lists")),
        "scope": nullable(text("instrumentation scope; null is our own")),
        "flags": _STRINGS,
    }
)

_SCORE: Final = record(
    {
        "id": text(),
        "name": text(),
        "value": {"type": ["number", "boolean", "string"]},
        "data_type": text(enum=list(DATA_TYPES)),
        "source": text(enum=list(SCORE_SOURCES)),
        "comment": _MAYBE,
        "trace_id": nullable(text("W3C trace id of the scored turn")),
        "turn_id": nullable(text("`id` of the scored trace")),
        "observation_id": _MAYBE,
        "session_id": _MAYBE,
        "dataset_item_id": _MAYBE,
        "run_item_id": _MAYBE,
        "user_id": _MAYBE,
        "author": _MAYBE,
        "evaluator": _MAYBE,
        "evaluator_version": nullable(integer()),
        "environment": _MAYBE,
        "metadata": free(),
        "created_at": moment(),
        "updated_at": moment(),
    }
)

_SESSION: Final = record(
    {
        "id": text(),
        "user_id": _MAYBE,
        "environment": text(),
        "first_at": nullable(moment()),
        "last_at": nullable(moment()),
        "trace_count": _COUNT,
        "error_count": _COUNT,
        "input_tokens": _COUNT,
        "output_tokens": _COUNT,
        "cost": nullable(money()),
        "duration_ms": _LENGTH,
        "traces": nullable(listing(reference("Trace"), "in order; null in lists")),
        "scores": nullable(listing(reference("Score"), "of the session itself; null in lists")),
    }
)

_COST_ROW: Final = record(
    {
        "start": moment("of the interval; only with `interval`"),
        "requests": integer("turns; by model, provider, prompt and input_length model calls; by step steps"),
        "turns": nullable(integer("null where model calls are counted")),
        "calls": _COUNT,
        "errors": _COUNT,
        "unpriced": integer("model calls without a known price"),
        "own_ms": number("time that the steps took themselves; only by `step`", minimum=0),
        "cost": nullable(money("US dollars, exact; null where nothing had a price")),
        "cost_input": nullable(money()),
        "cost_output": nullable(money()),
        **{
            f"{name}_tokens": integer(minimum=0)
            for name in ("input", "output", "cache_read", "cache_write", "reasoning")
        },
    },
    required=("requests", "cost", "input_tokens", "output_tokens", "cache_read_tokens"),
)
# Besides, the names of `group_by` are members of a row.
_COST_ROW_OPEN: Final = {**_COST_ROW, "additionalProperties": nullable(text("value of a `group_by` name"))}

_LOSS: Final = record(
    {
        **{name: _COUNT for name in ("accepted", "stored", "sampled", "erased", "in_spool")},
        "dropped": {"type": "object", "additionalProperties": integer(), "description": "turns by reason"},
    }
)

_AMOUNT: Final = text("US dollars, exact", pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")
RATE: Final[Schema] = {
    "description": "US dollars a million tokens (a thousand requests for `requests_kcount`)",
    "anyOf": [
        _AMOUNT,
        record(
            {
                "base": _AMOUNT,
                "tiers": listing(record({"above_tokens": integer(minimum=0), "price": _AMOUNT})),
            }
        ),
    ],
}
RATE_NAMES: Final = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "input_audio_mtok",
    "output_audio_mtok",
    "cache_audio_read_mtok",
    "requests_kcount",
)
_PRICE: Final = record(
    {
        "id": text(),
        "provider": text(),
        "model": text(),
        "effective_from": moment(),
        "rates_per_mtok": {"type": "object", "additionalProperties": RATE},
        "created_at": moment(),
    }
)
_PROBLEM: Final = record(
    {"type": text(), "title": text(), "status": integer(), "detail": text("where, and what to do")},
    additionalProperties=True,
    description="RFC 9457",
)

_RECEIPT: Final = record(
    {
        "id": nullable(text("null for a dry run")),
        "kind": text(enum=list(KINDS)),
        "status": text("`scrubbing`: every row is gone, SQLite's log is not emptied yet"),
        "dry_run": boolean(),
        "counts": {"type": "object", "additionalProperties": integer(), "description": "rows by table"},
        "requested_at": moment(),
        "started_at": nullable(moment()),
        "finished_at": nullable(moment("every row is gone, and that was verified")),
        "verification": {**free(), "description": "`remaining` rows by table, `verified_at`, `physical`"},
        "signature": nullable(text("HMAC-SHA256 over the other members, with a key of the ring")),
    },
    description="It names no user and no trace",
)

COMPONENTS: Final[Mapping[str, Schema]] = {
    "Receipt": _RECEIPT,
    "Receipts": page("Receipt"),
    "Trace": _TRACE,
    "Observation": _OBSERVATION,
    "Score": _SCORE,
    "Session": _SESSION,
    "CostRow": _COST_ROW_OPEN,
    "Loss": _LOSS,
    "Price": _PRICE,
    "Problem": _PROBLEM,
}
