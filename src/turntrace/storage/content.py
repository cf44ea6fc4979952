"""The content of one turn in one compressed blob: texts and other JSON of the trace and of its observations.

What counts as content is said here and only here; everything else of a record stands in narrow columns.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from turntrace.errors import KeyMissing
from turntrace.records.observation import ErrorInfo, Observation
from turntrace.records.trace import Trace
from turntrace.storage import bulk, residence, seal, tables

JsonObject = dict[str, Any]

_LEVEL: Final = 3  # higher levels gain 3 % for a fifth more time
_TRACE_FIELDS: Final = ("input", "output", "received", "metadata")
_OBSERVATION_FIELDS: Final = (
    "parameters",
    "input",
    "output",
    "tool_calls",
    "tool_definitions",
    "query",
    "retrieval",
    "documents",
    "input_documents",
    "metadata",
)
_SEQUENCES: Final = frozenset({"tool_calls", "tool_definitions", "documents", "input_documents"})


class Codec(IntEnum):
    """How a blob is written. Numbers are in databases: never renumber."""

    JSON = 0
    DEFLATE = 1  # raw, with the preset dictionary below
    STORE = 2  # no blob but the pointer to one, in the store of an environment


# Preset dictionary of codec 1: what short turns repeat, the commonest last. Never change it; add another codec.
_DICTIONARY: Final = (
    b" that there were which would about their other after first these people between should through because where "
    b"while before being under since during against without another however called known including such as also used "
    b"part over only most some many more than time year number was born in is a an by the who are you have has can "
    b"please thank help would like order account number today question context Answer the question using only the "
    b"following context. If you do not know the answer, say so. You are a helpful assistant. of the and to in is for "
    b'on with as at it "retrieval":{"data_source":"","top_k":5,"returned":5,"score_min":0.,"score_max":0."tool_calls'
    b'":[{"id":"call_","type":"function","function":{"name":"","arguments":"{}"},"tool_definitions":[{"type":"function'
    b'","description":"","parameters":{"type":"object","properties":{"type":"string"},"required":["finish_reason":"stop'
    b'","parameters":{"temperature":0.,"max_tokens":,"top_p":1,"stream":true},"error_stack":"Traceback (most recent ca'
    b'll last):\\n  File \\"/, line , in \\n    "received":"data: {\\"choices\\":[{\\"delta\\":{\\"content\\":\\"","pro'
    b'mpt_variables":{"query":"","input_documents":[{"documents":[{"id":"","title":"","source":"","score":0.,"content"'
    b':"","metadata":{}},{"role":"tool","content":"{"role":"system","content":"{"role":"user","content":"{"role":"assi'
    b'stant","content":"","parts":[{"type":"text","text":"{"trace":{"input":"","output":"","metadata":{},"observations'
    b'":{"'
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A blob as the content table holds it; `size` is its length in bytes before compression."""

    codec: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TurnContent:
    """The content of one turn: fields of the trace, and of its observations by span id. Absent where at its default."""

    trace: JsonObject = field(default_factory=dict)
    observations: dict[str, JsonObject] = field(default_factory=dict)


def of_trace(trace: Trace, *, with_messages: bool = False) -> TurnContent:
    """The content of a trace and of the observations it holds.

    Args:
        with_messages: messages of errors and states too, where they may not stand in the rows (`content_urls`).
    """
    own = {name: value for name in _TRACE_FIELDS if (value := getattr(trace, name)) is not None and value != {}}
    if trace.error is not None and trace.error.stack is not None:
        own["error_stack"] = trace.error.stack
    found = {observation.span_id: of_observation(observation) for observation in trace.observations}
    if with_messages:
        own |= _messages(trace.error)
        for item in trace.observations:
            found[item.span_id] |= _messages(item.error)
            if item.status_message is not None:
                found[item.span_id]["status_message"] = item.status_message
    return TurnContent(own, {span_id: content for span_id, content in found.items() if content})


def _messages(error: ErrorInfo | None) -> JsonObject:
    return {} if error is None or error.message is None else {"error_message": error.message}


def of_observation(observation: Observation) -> JsonObject:
    """The content of one observation, empty where it has none."""
    own: JsonObject = {}
    for name in _OBSERVATION_FIELDS:
        value = getattr(observation, name)
        # Numbers and False are content; None and empty containers are not.
        if value is not None and value != () and value != {}:
            own[name] = value
    if observation.prompt is not None and observation.prompt.variables:
        own["prompt_variables"] = observation.prompt.variables
    if observation.error is not None and observation.error.stack is not None:
        own["error_stack"] = observation.error.stack
    return own


def merged(old: TurnContent, new: TurnContent, *, stated: Iterable[str]) -> TurnContent:
    """Late content over earlier: the `stated` fields of the trace, metadata by key, observations whole."""
    trace = dict(old.trace)
    for name in stated:
        if name == "metadata":
            trace["metadata"] = {**trace.get("metadata", {}), **new.trace.get("metadata", {})}
        elif name == "error" and "error_stack" in new.trace:
            trace["error_stack"] = new.trace["error_stack"]
        elif name in new.trace:
            trace[name] = new.trace[name]
    return TurnContent(trace, {**old.observations, **new.observations})


def pack(content: TurnContent) -> Packed | None:
    """The blob of a turn's content; None where there is none."""
    if not content.trace and not content.observations:
        return None
    text = _dump({"trace": content.trace, "observations": content.observations})
    return Packed(Codec.DEFLATE, len(text), _deflate(text))


def opened(connection: Connection, row: Any) -> TurnContent:
    """The content of a row of the content table, which has `turn_id`, `codec`, `key_id` and `data`.

    Raises:
        ValueError: the codec is unknown, the blob is damaged or gone, or its key is not to be had.
        DatabaseUnavailable, SchemaOutOfDate: it lies in a store that is away.
    """
    if row.codec == Codec.STORE:
        row = residence.follow(connection, residence.Pointer.read(row.data))
    data = bytes(row.data)
    if row.key_id is not None:
        cipher = seal.cipher_of(connection.dialect)
        try:
            if cipher is None:
                raise KeyMissing
            data = cipher.open(row.key_id, data, about=row.turn_id.encode())
        except KeyMissing as error:
            raise ValueError("the content is sealed with a key that is not in the key ring") from error
    return unpack(row.codec, data)


def insert(connection: Connection, rows: Iterable[bulk.Values]) -> None:
    """Insert rows of the content table as `late.content_row` makes them, sealed where encryption is on."""
    bulk.insert_rows(connection, tables.content, sealed(seal.cipher_of(connection.dialect), rows))


def sealed(cipher: seal.Cipher | None, rows: Iterable[bulk.Values]) -> list[bulk.Values]:
    """Rows of the content table as they are to be stored. A pointer holds no text and stays as it is."""
    if cipher is None or not cipher.is_writing:
        return list(rows)
    return [row if row[1] == Codec.STORE else _sealed(cipher, *row) for row in rows]


def _sealed(cipher: seal.Cipher, turn_id: str, codec: int, key_id: str | None, size: int, data: bytes) -> bulk.Values:
    key_id, sealed = cipher.seal(data, about=turn_id.encode())
    return turn_id, codec, key_id, size, sealed


def unpack(codec: int, data: bytes) -> TurnContent:
    """The content of a blob.

    Raises:
        ValueError: the codec is unknown (a newer release wrote it), or the blob is damaged.
    """
    try:
        text = bytes(data) if codec == Codec.JSON else _inflate(codec, bytes(data))
        found = json.loads(text)
    except zlib.error as error:
        raise ValueError("the content blob is damaged") from error
    if not isinstance(found, dict):
        raise ValueError("the content blob is damaged")
    return TurnContent(found.get("trace", {}), found.get("observations", {}))


def filled_trace(trace: Trace, content: TurnContent) -> Trace:
    """The trace with its content, and with that of the observations it holds."""
    own = content.trace
    return replace(
        trace,
        input=own.get("input"),
        output=own.get("output"),
        received=own.get("received"),
        metadata=own.get("metadata", {}),
        error=_filled_error(trace.error, own),
        observations=tuple(filled_observation(item, content) for item in trace.observations),
    )


def filled_observation(observation: Observation, content: TurnContent) -> Observation:
    """The observation with its content."""
    own = content.observations.get(observation.span_id)
    if not own:
        return observation
    found: JsonObject = {name: own[name] for name in _OBSERVATION_FIELDS if name in own}
    for name in _SEQUENCES & found.keys():
        found[name] = tuple(found[name])
    prompt = observation.prompt
    if prompt is not None and "prompt_variables" in own:
        prompt = replace(prompt, variables=own["prompt_variables"])
    if "status_message" in own:
        found["status_message"] = own["status_message"]
    return replace(observation, **found, prompt=prompt, error=_filled_error(observation.error, own))


def _filled_error(error: ErrorInfo | None, own: JsonObject) -> ErrorInfo | None:
    if error is None or not {"error_stack", "error_message"} & own.keys():
        return error
    return replace(error, stack=own.get("error_stack"), message=own.get("error_message", error.message))


def _dump(value: JsonObject) -> bytes:
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Numbers past 64 bits, lone surrogates (replaced): slower, but what came in is kept.
        text = json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    return str(value)


def _deflate(text: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return compressor.compress(text) + compressor.flush()


def _inflate(codec: int, data: bytes) -> bytes:
    if codec != Codec.DEFLATE:
        raise ValueError(f"content codec {codec} is of a newer release: upgrade the turntrace package")
    return zlib.decompressobj(-15, _DICTIONARY).decompress(data)
