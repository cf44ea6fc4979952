"""Trace context, baggage and trust, by tables of cases."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from turntrace.tracing.baggage import BaggageEntry, baggage_values, format_baggage, inject_baggage, parse_baggage
from turntrace.tracing.propagation import (
    MAX_TRACESTATE,
    ExactTraceState,
    RemoteContext,
    extract_context,
    format_tracestate,
    inject_context,
    read_context,
    read_tracestate,
)
from turntrace.tracing.trust import HostRules, PeerTrust, host_of

DATA = Path(__file__).parent / "data" / "w3c"
PARENT = "00-12345678901234567890123456789012-1234567890123456-01"


def rows(name: str) -> list[Any]:
    parsed = [json.loads(line) for line in (DATA / name).read_text("ascii").splitlines()]
    return [pytest.param(row, id=row["id"]) for row in parsed]


def values(row: Any, name: str) -> list[str]:
    return [value for key, value in row["headers"] if key == name]


@pytest.mark.parametrize("row", rows("trace_context.jsonl"))
def test_the_recorded_header_sets_are_read_as_w3c_says(row: Any) -> None:
    context = read_context(values(row, "traceparent"), values(row, "tracestate"))
    if row["continues_trace"] is not None:
        assert (context is not None) is row["continues_trace"]
        assert (format_tracestate(context.tracestate) if context else "") == (row["tracestate_out"] or "")


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        (PARENT, True),
        (f" \t{PARENT}\t ", True),
        (f"{PARENT}\n", False),
        (f"\N{NO-BREAK SPACE}{PARENT}", False),
        (PARENT.replace("12345678901234567890123456789012", "A2345678901234567890123456789012"), False),
        (PARENT.replace("12345678901234567890123456789012", "a2345678901234567890123456789012"), True),
        (f"{PARENT},{PARENT}", False),
        (f"01{PARENT[2:]}-", True),
        (f"01{PARENT[2:]}-a,{PARENT}", False),
        (f"01{PARENT[2:]}x", False),
        (f"ff{PARENT[2:]}", False),
        (f"FF{PARENT[2:]}", False),
        ("", False),
        ("٠" * 55, False),
    ],
)
def test_a_traceparent_is_taken_only_in_its_exact_form(text: str, is_valid: bool) -> None:
    assert (read_context([text]) is not None) is is_valid


@pytest.mark.parametrize(
    ("sent", "kept"), [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("09", 1), ("ff", 3), ("fc", 0)]
)
def test_only_the_flags_of_level_2_are_kept(sent: str, kept: int) -> None:
    context = read_context([PARENT[:-2] + sent])
    assert context is not None
    assert context.flags == kept


@pytest.mark.parametrize(
    ("headers", "out"),
    [
        (["foo=1,foo=2"], "foo=1"),
        (["foo=1", "foo=2"], "foo=1"),
        (["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
        (["@foo=1,bar=2"], ""),
        (["1a= b "], "1a= b"),
        (["a=1,,\t, ,b=2"], "a=1,b=2"),
        (["a=1,b"], ""),
        (["a=\x7f"], ""),
        (["a=é"], ""),
        (["a=" + "v" * 256], "a=" + "v" * 256),
        (["a=" + "v" * 257], ""),
        (["k" * 256 + "=1"], "k" * 256 + "=1"),
        (["k" * 257 + "=1"], ""),
        ([f"a{n}=1" for n in range(33)], ""),
        ([f"a{n}=1" for n in range(32)] + [""], ",".join(f"a{n}=1" for n in range(32))),
    ],
)
def test_a_tracestate_is_kept_whole_or_discarded_whole(headers: list[str], out: str) -> None:
    assert format_tracestate(read_tracestate(headers)) == out


def test_a_tracestate_that_grew_too_long_loses_large_members_first() -> None:
    large = [(f"l{n}", "x" * 250) for n in range(16)]
    state = ExactTraceState([("first", "1"), *large, ("last", "2")])
    text = format_tracestate(state)
    assert len(text) <= MAX_TRACESTATE
    assert text.startswith("first=1,l0=")
    assert text.endswith(",last=2")


def test_the_propagator_of_opentelemetry_sends_on_what_we_read() -> None:
    context = read_context([PARENT[:-2] + "03"], ["foo@@bar=1,a@b@c= x"])
    assert context is not None
    carrier: dict[str, str] = {}
    span = NonRecordingSpan(context.span_context())
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    assert carrier == {"traceparent": PARENT[:-2] + "03", "tracestate": "foo@@bar=1,a@b@c= x"}


def test_injecting_replaces_the_headers_of_an_earlier_hop() -> None:
    headers = {"Traceparent": "stale", "TRACESTATE": "stale=1", "Accept": "*/*"}
    inject_context(headers, SpanContext(0xA, 0xB, False, TraceFlags(1)))
    assert headers == {"Accept": "*/*", "traceparent": f"00-{0xA:032x}-{0xB:016x}-01"}


def test_an_invalid_context_is_not_injected() -> None:
    headers: dict[str, str] = {}
    inject_context(headers, SpanContext(0, 0, False))
    assert headers == {}


def test_a_carrier_is_read_whatever_the_case_of_its_keys() -> None:
    context = extract_context({"TraceParent": PARENT, "tracestate": ["a=1", "b=2"]})
    assert isinstance(context, RemoteContext)
    assert format_tracestate(context.tracestate) == "a=1,b=2"
    assert extract_context({"traceparent": [PARENT, PARENT]}) is None


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_no_header_text_breaks_the_readers(first: list[str], second: list[str]) -> None:
    read_context(first, second)
    read_tracestate(second)
    parse_baggage(second)


@pytest.mark.parametrize("row", rows("baggage.jsonl"))
def test_baggage_of_the_recorded_headers_survives_a_round_trip(row: Any) -> None:
    entries = parse_baggage([row["header"]])
    shape = [[entry.key, entry.raw, [list(pair) for pair in entry.properties]] for entry in entries]
    assert shape == row["entries"]
    assert parse_baggage([format_baggage(entries)]) == entries


@given(st.text())
def test_any_text_survives_as_a_baggage_value(text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    header = format_baggage([BaggageEntry.of("session.id", clean)])
    assert header.isascii()
    assert baggage_values(parse_baggage([header])) == {"session.id": clean}


@pytest.mark.parametrize(
    ("header", "out"),
    [
        ("a=1,=2,b", {"a": "1"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=%41%e4", {"a": "A�"}),
        ("a=1+2", {"a": "1+2"}),
        ("a b=1,c=2", {"c": "2"}),
        ('a="x",c=', {"c": ""}),
        ("a=1;,c=2", {"c": "2"}),
        ("a=x\\y,c=2", {"c": "2"}),
    ],
)
def test_malformed_baggage_members_are_left_out(header: str, out: dict[str, str]) -> None:
    assert baggage_values(parse_baggage([header])) == out


def test_baggage_is_bounded_in_members_and_bytes() -> None:
    assert len(parse_baggage([",".join(f"k{n}=v" for n in range(100))])) == 64
    entries = parse_baggage([f"a={'x' * 5000},b={'y' * 5000},c=1"])
    assert [entry.key for entry in entries] == ["a"]
    fits = "a=" + "x" * 8190
    assert format_baggage(parse_baggage([fits])) == fits
    assert parse_baggage([fits + "x"]) == ()


def test_injected_baggage_joins_what_the_host_already_sends() -> None:
    headers = {"Baggage": "tenant=7;ttl=1"}
    inject_baggage(headers, {"session.id": "s 1", "user.id": None})
    assert headers == {"baggage": "session.id=s%201,tenant=7;ttl=1"}
    inject_baggage(headers, {"session.id": "other"})
    assert headers == {"baggage": "session.id=s%201,tenant=7;ttl=1"}


@pytest.mark.parametrize(
    ("setting", "peer", "continues", "believes"),
    [
        ("all", "203.0.113.9", True, False),
        ("all", "127.0.0.1", True, True),
        ("all", "::1", True, True),
        ("all", None, True, False),
        ("all", "testclient", True, False),
        ("none", "127.0.0.1", False, True),
        ("none", "10.0.0.1", False, False),
        ("10.0.0.0/8,fd00::/8", "10.1.2.3", True, True),
        ("10.0.0.0/8,fd00::/8", "::ffff:10.1.2.3", True, True),
        ("10.0.0.0/8,fd00::/8", "fd00::1%eth0", True, True),
        ("10.0.0.0/8", "11.1.2.3", False, False),
        ("10.0.0.0/8", None, False, False),
    ],
)
def test_peers_are_trusted_as_the_setting_says(setting: str, peer: str | None, continues: bool, believes: bool) -> None:
    trust = PeerTrust(setting)
    assert trust.continues_trace(peer) is continues
    assert trust.believes_baggage(peer) is believes


@pytest.mark.parametrize(
    ("rules", "host", "is_allowed"),
    [
        (("private",), "127.0.0.1", True),
        (("private",), "localhost", True),
        (("private",), "10.2.3.4", True),
        (("private",), "[::1]", True),
        (("private",), "retriever", True),
        (("private",), "search.internal", True),
        (("private",), "api.openai.com", False),
        (("private",), "8.8.8.8", False),
        (("private",), "134744072", False),
        (("private",), "0x08080808", False),
        (("private",), "0.0.0.0", False),
        (("private",), "localhost.evil.com", False),
        (("private",), None, False),
        ((), "localhost", False),
        (("api.example.com",), "API.example.com.", True),
        (("*.example.com",), "a.example.com", True),
        (("*.example.com",), "example.com", False),
        (("*.example.com",), "notexample.com", False),
        (("198.51.100.0/24",), "198.51.100.7", True),
    ],
)
def test_baggage_goes_to_named_hosts_only(rules: tuple[str, ...], host: str | None, is_allowed: bool) -> None:
    assert HostRules(rules).allows(host) is is_allowed


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("https://api.openai.com/v1?x=1", "api.openai.com"),
        ("http://user:pw@127.0.0.1:80/", "127.0.0.1"),
        ("http://[::1]:80/", "::1"),
        ("example.com:443", "example.com"),
        ("localhost", "localhost"),
        ("http://[broken", None),
        (None, None),
    ],
)
def test_the_host_of_a_target_is_found(target: str | None, host: str | None) -> None:
    assert host_of(target) == host
