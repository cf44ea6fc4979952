"""The protobuf reader against the generated classes."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from turntrace.api.otlp import protobuf
from turntrace.api.otlp.fault import Unreadable
from turntrace.pipeline.convert.otlp import value

_LEAVES = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def any_value(plain: Any) -> AnyValue:
    found = AnyValue()
    if isinstance(plain, list):
        found.array_value.SetInParent()
        for item in plain:
            found.array_value.values.append(any_value(item))
    elif isinstance(plain, dict):
        found.kvlist_value.SetInParent()
        for key, item in plain.items():
            found.kvlist_value.values.append(KeyValue(key=key, value=any_value(item)))
    else:
        kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
        setattr(found, kinds[type(plain)], plain)
    return found


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), _VALUES, max_size=5), st.text(), st.integers(0, (1 << 64) - 1), st.integers(0, 5))
def test_every_value_is_read_as_it_was_written(attributes: dict[str, Any], name: str, at: int, kind: int) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name, span.kind, span.start_time_unix_nano = b"\1" * 16, b"\2" * 8, name, kind, at
    span.attributes.extend(KeyValue(key=key, value=any_value(item)) for key, item in attributes.items())
    event = span.events.add()
    event.name = name
    [(_, _, read)] = protobuf.entries(request.SerializeToString(), protobuf.SPAN)
    assert read is not None
    assert read.get("name", "") == name
    assert read.get("startTimeUnixNano", 0) == at
    assert read.get("kind", 0) == kind
    assert {item.get("key", ""): value(item["value"]) for item in read.get("attributes", [])} == attributes
    assert read["events"] == ([{"name": name}] if name else [{}])
    assert read["traceId"] == "01" * 16
    assert MessageToDict(span).get("name", "") == name


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_unreadable(data: bytes) -> None:
    for leaf in (protobuf.SPAN, protobuf.LOG_RECORD):
        try:
            list(protobuf.entries(data, leaf))
        except Unreadable:
            continue
