"""The receiver over a real database: requests go in, a worker that is stepped by hand stores, queries answer."""

import base64
import copy
import gzip
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import httpx
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from turntrace.api.otlp import Receiver, ReceiverContext
from turntrace.api.otlp.frames import TurnIdentity
from turntrace.assembly import build_worker
from turntrace.keyring import KeyRing
from turntrace.records.loss import Loss
from turntrace.records.trace import Trace
from turntrace.settings import Settings
from turntrace.spool.memory import MemorySpool
from turntrace.storage import keys
from turntrace.storage.database import Database
from turntrace.storage.queries import loss, traces

RING = KeyRing([b"0" * 32], is_explicit=True)
Document = dict[str, Any]


@dataclass
class Sender:
    """One key and what its holder sends."""

    inlet: "Inlet"
    key_id: str
    key: str

    async def post(self, path: str, body: bytes, media: str = "application/json", **headers: str) -> httpx.Response:
        wanted = {"authorization": f"Bearer {self.key}", "content-type": media, **headers}
        return await self.inlet.client.post(path, content=body, headers=wanted)

    async def send(self, document: Document, *, is_binary: bool = False) -> httpx.Response:
        """Spans or log records, whichever the document holds."""
        path = "/v1/logs" if "resourceLogs" in document else "/v1/traces"
        if is_binary:
            return await self.post(path, as_protobuf(document), "application/x-protobuf")
        packed = gzip.compress(json.dumps(document).encode())
        return await self.post(path, packed, **{"content-encoding": "gzip"})

    def turn_id(self, trace_id: str) -> str:
        return TurnIdentity.of(self.key_id, trace_id).turn_id

    def trace(self, trace_id: str) -> Trace | None:
        """The turn of this sender."""
        with self.inlet.database.read() as connection:
            found = traces.find_traces(connection, self.turn_id(trace_id))
        return found[0] if found else None


class Inlet:
    """Receiver, spool in memory, worker, database."""

    def __init__(self, database: Database, ring: KeyRing = RING, **settings: Any) -> None:
        chosen: dict[str, Any] = {"redaction": "off", "content": "full", **settings}
        self.database = database
        self.spool = MemorySpool()
        self.settings = Settings(**chosen)
        self.worker = build_worker(self.settings, self.spool, ring, database, lambda status: None)
        context = ReceiverContext(
            database=database,
            write=lambda kind, payload: self.spool.append(kind, payload, is_first=False),
            refusal=lambda size: self.refusal or self.spool.refusal(size),
            suspend=nullcontext,
        )
        self.refusal: str | None = None
        self.app = Receiver(context)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://otlp.test")

    def sender(self, *scopes: str) -> Sender:
        with self.database.write() as connection:
            name = f"test {secrets.token_hex(4)}"
            made = keys.create(connection, name=name, scopes=scopes or ("ingest",), now_us=1)
        self.app._keys._read()
        return Sender(self, made.id, made.key)

    def work(self) -> None:
        """Store all that waits."""
        while self.worker.step():
            pass

    def loss(self) -> Loss:
        with self.database.read() as connection:
            return loss.balance(connection)


def as_protobuf(document: Document) -> bytes:
    """The same request in the other encoding, by the generated classes."""
    kind: Any = ExportLogsServiceRequest if "resourceLogs" in document else ExportTraceServiceRequest
    # Python's JSON form of protobuf has bytes in base64; OTLP's has ids in hex.
    found: bytes = ParseDict(_with_base64_ids(document), kind()).SerializeToString()
    return found


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode() if key in _IDS else _with_base64_ids(item)
            for key, item in value.items()
        }
    return [_with_base64_ids(item) for item in value] if isinstance(value, list) else value


_IDS = {"traceId", "spanId", "parentSpanId"}


def singly(documents: Iterable[Document]) -> Iterator[Document]:
    """Requests of one span or record each."""
    for document in documents:
        outer, inner, leaf = _names(document)
        for resource in document[outer]:
            for scope in resource[inner]:
                for item in scope[leaf]:
                    alone = {**scope, leaf: [item]}
                    yield copy.deepcopy({outer: [{**resource, inner: [alone]}]})


def _names(document: Document) -> tuple[str, str, str]:
    if "resourceLogs" in document:
        return "resourceLogs", "scopeLogs", "logRecords"
    return "resourceSpans", "scopeSpans", "spans"


def span(trace: int, number: int, parent: int | None = None, **fields: Any) -> Document:
    """One span of OTLP/JSON."""
    start = 1_790_000_000_000_000_000 + number * 1_000_000
    found = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": f"span {number}",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 5_000_000),
        "attributes": attributes(fields.pop("attributes", {})),
        **fields,
    }
    return found if parent is None else {**found, "parentSpanId": f"{parent:016x}"}


def generation(trace: int, number: int, parent: int | None = None, **more: Any) -> Document:
    named = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
        **more,
    }
    return span(trace, number, parent, attributes=named)


def attributes(values: dict[str, Any]) -> list[Document]:
    kinds = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    return [
        {"key": key, "value": {"intValue": str(item)} if type(item) is int else {kinds[type(item)]: item}}
        for key, item in values.items()
    ]


def request(*spans: Document) -> Document:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "test"}, "spans": list(spans)}]}]}


def logs(*records: Document) -> Document:
    return {"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {"name": "test"}, "logRecords": list(records)}]}]}
