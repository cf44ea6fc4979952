"""What the receiver does not take: every refusal names its reason, and no good span is lost beside a bad one."""

import base64
import gzip
import json
import zlib
from pathlib import Path

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.integration.otlp.inlet import Inlet, Sender, as_protobuf, generation, request, span
from turntrace import semconv
from turntrace.api.otlp import body, document, protobuf
from turntrace.api.otlp.request import MAX_ENTRIES

HOSTILE = Path(__file__).parents[2] / "fixtures" / "hostile" / "otlp.jsonl"
ROWS = [json.loads(line) for line in HOSTILE.read_text().splitlines()]
BINARY = "application/x-protobuf"


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
async def test_a_hostile_body_is_answered_below_500_and_as_expected(row: dict[str, str], inlet: Inlet) -> None:
    sender = inlet.sender()
    answer = await sender.post(row["path"], base64.b64decode(row["base64"]), row["content_type"])
    assert answer.status_code < 500
    if row["expect"] == "2xx":
        assert answer.status_code == 200
    elif row["expect"] == "2xx or 404":
        assert answer.status_code in (200, 404)
    if answer.status_code >= 400 and row["content_type"] == "application/json":
        assert answer.json()["message"]
    inlet.work()


async def test_only_a_key_with_the_scope_may_send(inlet: Inlet) -> None:
    stranger = Sender(inlet, "x", "ttk_000000000000_" + "0" * 64)
    assert (await stranger.send(request(span(1, 1)))).status_code == 401
    assert (await inlet.client.post("/v1/traces", content=b"{}")).status_code == 401
    assert (await inlet.client.get("/v1/metrics")).status_code == 401
    answer = await inlet.sender("read", "write", "feedback").send(request(span(1, 1)))
    assert (answer.status_code, answer.json()["code"]) == (403, 7)
    assert "`ingest`" in answer.json()["message"]


async def test_errors_speak_the_encoding_of_the_request(inlet: Inlet) -> None:
    answer = await inlet.sender().post("/v1/traces", b"\xff\xff", BINARY)
    assert (answer.status_code, answer.headers["content-type"]) == (400, BINARY)
    status = Status.FromString(answer.content)
    assert status.code == 3
    assert "application/x-protobuf" in status.message


async def test_unknown_paths_methods_and_media_types_are_named(inlet: Inlet) -> None:
    sender = inlet.sender()
    assert (await sender.post("/v1/metrics", b"{}")).status_code == 404
    assert (await sender.post("/v1/traces", b"{}", "text/plain")).status_code == 415
    assert (await sender.post("/v1/traces", b"{}", **{"content-encoding": "br"})).status_code == 415
    answer = await inlet.client.get("/v1/traces", headers={"authorization": f"Bearer {sender.key}"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_what_is_too_large_is_refused_before_it_is_in_memory(inlet: Inlet) -> None:
    sender = inlet.sender()
    bomb = gzip.compress(bytes(64 << 20))
    for packed in (bomb, gzip.compress(gzip.compress(b"[" * (64 << 20))), bomb[:-20]):
        answer = await sender.post("/v1/traces", packed, BINARY, **{"content-encoding": "gzip"})
        assert answer.status_code in (400, 413)
    answer = await sender.post("/v1/traces", bytes(body.MAX_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, 8)
    assert inlet.app._room.change(-body.MOST_AT_ONCE)  # all of it was given back


async def test_damaged_gzip_is_refused(inlet: Inlet) -> None:
    sender = inlet.sender()
    whole = gzip.compress(json.dumps(request(span(1, 1))).encode())
    for packed in (whole[:-10], b"no gzip", whole[:20] + b"\0" * 20 + whole[40:], zlib.compress(b"{}")):
        answer = await sender.post("/v1/traces", packed, **{"content-encoding": "gzip"})
        assert answer.status_code == 400
    two = whole[:0] + gzip.compress(b'{"resourceSpans":') + gzip.compress(b"[]}")
    assert (await sender.post("/v1/traces", two, **{"content-encoding": "gzip"})).status_code == 200


async def test_a_body_while_too_much_is_in_memory_is_to_be_sent_again(inlet: Inlet) -> None:
    sender = inlet.sender()
    with inlet.app._room.share() as share:
        share.grow(body.MOST_AT_ONCE)
        answer = await sender.send(request(span(1, 1)))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await sender.send(request(span(1, 1)))).status_code == 200


async def test_a_spool_that_takes_nothing_answers_later(inlet: Inlet) -> None:
    sender = inlet.sender()
    inlet.refusal = "spool_full"
    answer = await sender.send(request(span(1, 1)))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "spool_full" in answer.json()["message"]
    inlet.refusal = None
    inlet.work()
    assert sender.trace(f"{1:032x}") is None


@pytest.mark.parametrize("is_binary", [False, True])
async def test_good_spans_are_taken_beside_bad_ones(is_binary: bool, inlet: Inlet) -> None:
    sender = inlet.sender()
    bad = [
        {**span(1, 2), "traceId": "0" * 32},
        {**span(1, 3), "spanId": "ab"},
        {**span(1, 4), "startTimeUnixNano": "0"},
    ]
    mixed = request(generation(1, 1), *bad, generation(1, 5))
    answer = await sender.send(mixed, is_binary=is_binary)
    assert answer.status_code == 200
    if is_binary:
        partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
        assert partial.rejected_spans == 3
        assert "trace id" in partial.error_message
    else:
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "3"
        assert "trace id" in answer.json()["partialSuccess"]["errorMessage"]
    inlet.work()
    turn = sender.trace(f"{1:032x}")
    assert turn is not None
    assert [item.span_id for item in turn.observations] == [f"{1:016x}", f"{5:016x}"]


async def test_one_span_of_the_wrong_type_costs_only_itself(inlet: Inlet) -> None:
    sender = inlet.sender()
    mixed = request(generation(1, 1), *[5, None, "text", [], {"traceId": 7}], generation(1, 2))  # type: ignore[arg-type]
    answer = await sender.send(mixed)
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "5"
    mixed["resourceSpans"] += [3, {"scopeSpans": "none"}]
    assert (await sender.send(mixed)).status_code == 200
    inlet.work()
    turn = sender.trace(f"{1:032x}")
    assert turn is not None
    assert len(turn.observations) == 2


async def test_values_of_the_wrong_type_are_kept_or_left_out_and_the_span_stays(inlet: Inlet) -> None:
    sender = inlet.sender()
    odd = generation(1, 1)
    odd["attributes"] += [
        {"key": "gen_ai.usage.input_tokens", "value": {"stringValue": "many"}},
        {"key": "big", "value": {"intValue": "99999999999999999999999"}},
        {"key": "list", "value": {"arrayValue": {"values": [{"kvlistValue": {"values": None}}, 5]}}},
        {"key": 7, "value": {"stringValue": "no key"}},
        {"key": "lone", "value": {"stringValue": "\ud800"}},
        {"key": "none"},
        5,
    ]
    odd |= {"kind": "SPAN_KIND_NONE", "status": 5, "events": [{"name": 3}, 7], "name": {"a": 1}}
    body = json.dumps(request(odd)).encode()
    assert (await sender.post("/v1/traces", body)).status_code == 200
    inlet.work()
    turn = sender.trace(f"{1:032x}")
    assert turn is not None
    assert turn.observations[0].model == "gpt-4o-mini"


async def test_depth_and_number_of_values_are_bounded(inlet: Inlet) -> None:
    sender = inlet.sender()
    deep = b'{"resourceSpans":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert (await sender.post("/v1/traces", deep)).status_code == 400
    many = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"1," * (document.MAX_COMMAS + 1) + b"1]}]}]}"
    assert (await sender.post("/v1/traces", many)).status_code == 400
    empty = protobuf.bytes_field(2, b"") * (MAX_ENTRIES + 1)
    bomb = protobuf.bytes_field(1, protobuf.bytes_field(2, empty))
    assert (await sender.post("/v1/traces", bomb, BINARY)).status_code == 413
    for hollow in (protobuf.bytes_field(1, b""), protobuf.int_field(9, 0)):
        assert (await sender.post("/v1/traces", hollow * (protobuf.MAX_FRAME_FIELDS + 1), BINARY)).status_code == 400
    nested = b""
    for _ in range(200):
        nested = protobuf.bytes_field(5, protobuf.bytes_field(1, nested))
    for inside in (nested, protobuf.bytes_field(1, b"") * 50_000):
        attribute = protobuf.bytes_field(9, protobuf.string_field(1, "k") + protobuf.bytes_field(2, inside))
        crowded = attribute if inside is nested else protobuf.bytes_field(9, b"") * 50_000
        good = as_protobuf(request(generation(1, 1)))
        bad = protobuf.bytes_field(1, protobuf.bytes_field(2, protobuf.bytes_field(2, crowded)))
        answer = await sender.post("/v1/traces", good + bad, BINARY)
        assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1


async def test_an_empty_request_is_a_request(inlet: Inlet) -> None:
    sender = inlet.sender()
    assert (await sender.post("/v1/traces", b"", BINARY)).status_code == 200
    for text in (
        b"{}",
        b'{"resourceSpans":[]}',
        b'{"resourceSpans":null}',
        b'\n {"resourceSpans":[{"scopeSpans":[]}]}',
    ):
        answer = await sender.post("/v1/traces", text)
        assert (answer.status_code, answer.content) == (200, b"{}")


async def test_lone_surrogates_and_invalid_utf8_do_not_cost_the_other_spans(inlet: Inlet) -> None:
    sender = inlet.sender()
    text = json.dumps(request(span(1, 1, attributes={"input": "\ud800 hello"}), span(1, 2))).encode()
    assert (await sender.post("/v1/traces", text)).content == b"{}"
    good, bad = as_protobuf(request(span(1, 3))), as_protobuf(request(span(1, 4, name="broken")))
    answer = await sender.post("/v1/traces", good + bad.replace(b"broken", b"\xff\xfe\xfd\xff\xfe\xfd"), BINARY)
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    inlet.work()
    turn = sender.trace(f"{1:032x}")
    assert turn is not None
    assert [item.span_id[-1] for item in turn.observations] == ["1", "2", "3"]


@pytest.mark.parametrize("name", ["outcome", "ttft_us", "is_streamed", "name", "feature", "tags", "metadata"])
async def test_a_turn_sent_on_with_a_value_of_a_wrong_type_holds_up_nobody(name: str, own: Inlet) -> None:
    sender = own.sender()
    hostile = span(1, 1, attributes={semconv.TURN_ID: "1" * 32})
    hostile["attributes"].append({"key": semconv.TURN_PREFIX + name, "value": {"arrayValue": {"values": [{}]}}})
    assert (await sender.send(request(hostile))).status_code == 200
    assert (await sender.send(request(span(2, 1)))).status_code == 200
    own.work()
    assert [sender.trace(f"{number:032x}") is not None for number in (1, 2)] == [True, True]
