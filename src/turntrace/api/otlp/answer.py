"""What is answered, in the encoding of the request: OTLP/HTTP wants its own messages, errors included."""

from enum import Enum

import orjson
from starlette.responses import Response

from turntrace.api.otlp.fault import Refusal
from turntrace.api.otlp.protobuf import bytes_field, int_field, string_field

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Encoding(Enum):
    """How a request is written."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


def encoding_of(content_type: str) -> Encoding | None:
    """The encoding that a `Content-Type` names; None for any other."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("application/x-protobuf", "application/protobuf"):
        return Encoding.PROTOBUF
    return Encoding.JSON if media == "application/json" else None


def taken(encoding: Encoding, *, rejected: int, reason: str, are_logs: bool) -> Response:
    """200: everything was taken, or all but some whose number and reason are told."""
    if encoding is Encoding.PROTOBUF:
        partial = int_field(1, rejected) + string_field(2, reason) if rejected else b""
        return _response(200, bytes_field(1, partial) if partial else b"", encoding, {})
    name = "rejectedLogRecords" if are_logs else "rejectedSpans"
    told = {"partialSuccess": {name: str(rejected), "errorMessage": reason}} if rejected else {}
    return _response(200, orjson.dumps(told), encoding, {})


def refused(refusal: Refusal, encoding: Encoding) -> Response:
    """A `google.rpc.Status`."""
    if encoding is Encoding.PROTOBUF:
        body = int_field(1, refusal.code) + string_field(2, refusal.detail)
    else:
        body = orjson.dumps({"code": refusal.code, "message": refusal.detail})
    return _response(refusal.status, body, encoding, refusal.headers)


def _response(status: int, body: bytes, encoding: Encoding, headers: dict[str, str]) -> Response:
    return Response(body, status, {**_HEADERS, **headers}, encoding.value)
