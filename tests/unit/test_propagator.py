"""The propagator for OpenTelemetry's API: what came goes on to the octet, and nothing hostile gets past it."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.unit.tracing.conftest import ListRecorder
from turntrace.tracing.baggage import baggage_values, format_baggage, parse_baggage
from turntrace.tracing.observation import observation
from turntrace.tracing.propagation import format_tracestate, read_context
from turntrace.tracing.propagator import ExactPropagator
from turntrace.tracing.turn import Turn, activate, deactivate

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data" / "w3c"
PARENT = "00-12345678901234567890123456789012-1234567890123456-01"
OURS = ExactPropagator()
THEIRS = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


class EveryValue:
    """A getter that knows headers that come several times."""

    def get(self, carrier: list[tuple[str, str]], key: str) -> list[str] | None:
        return [value for name, value in carrier if name.lower() == key] or None

    def keys(self, carrier: list[tuple[str, str]]) -> list[str]:
        return [name for name, _ in carrier]


def through(headers: list[tuple[str, str]]) -> dict[str, str]:
    """What goes out of a service that only passes on what came in."""
    sent: dict[str, str] = {}
    OURS.inject(sent, OURS.extract(headers, Context(), EveryValue()))  # type: ignore[arg-type]
    return sent


def rows(name: str) -> list[Any]:
    parsed = [json.loads(line) for line in (DATA / name).read_text("ascii").splitlines()]
    return [pytest.param(row, id=row["id"]) for row in parsed]


@pytest.mark.parametrize("row", rows("trace_context.jsonl"))
def test_the_recorded_header_sets_go_through_as_w3c_says(row: Any) -> None:
    headers = [(name, value) for name, value in row["headers"]]
    given_context = read_context(*([v for k, v in headers if k == name] for name in ("traceparent", "tracestate")))
    sent = through(headers)
    if given_context is None:
        assert sent == {}
        return
    assert sent["traceparent"].split("-")[1:3] == [given_context.trace_id, given_context.span_id]
    assert sent.get("tracestate", "") == format_tracestate(given_context.tracestate)
    assert row["continues_trace"] is not False


@pytest.mark.parametrize("row", rows("baggage.jsonl"))
def test_the_recorded_baggage_goes_through_entry_by_entry(row: Any) -> None:
    before = parse_baggage([row["header"]])
    assert parse_baggage([through([("baggage", row["header"])]).get("baggage", "")]) == before


@pytest.mark.parametrize(
    "header",
    [
        "tenant=7;ttl=1;opaque=a%3Bb",
        "note=a+b%20c,plus=1%2B1",
        "path=/a/b?x={1}&y=[2],mail=bo@example.com",
        "umlaut=%C3%BC%20,broken=%ff%FE,percent=100%",
        "key!#$%&'*=value",
        "twice=1,twice=1",
        "empty=,also=;p",
    ],
)
def test_baggage_is_passed_on_to_the_octet(header: str) -> None:
    assert through([("baggage", header)]) == {"baggage": header}


def test_the_propagator_of_opentelemetry_changes_what_ours_keeps() -> None:
    """The reason for this class: if this test fails one day, the class can go."""
    header = "tenant=7;ttl=1,note=a%20b"
    sent: dict[str, str] = {}
    THEIRS.inject(sent, THEIRS.extract({"baggage": header}, Context()))
    assert sent["baggage"] != header
    assert baggage.get_baggage("note", OURS.extract({"baggage": "note=a+b"}, Context())) == "a+b"


def test_several_headers_are_read_together() -> None:
    sent = through([("traceparent", PARENT), ("Baggage", "a=1;p"), ("baggage", "b=2")])
    assert sent == {"traceparent": PARENT, "baggage": "a=1;p,b=2"}
    assert through([("traceparent", PARENT), ("traceparent", PARENT)]) == {}


def test_what_the_application_changes_is_written_anew_and_the_rest_stays() -> None:
    context = OURS.extract({"baggage": "a=1;p,b=2+;q,c=3"}, Context())
    context = baggage.set_baggage("a", "ü + ,;=", context)
    context = baggage.remove_baggage("c", context)
    context = baggage.set_baggage("d", 7, context)
    context = baggage.set_baggage("no token", "x", context)
    sent: dict[str, str] = {}
    OURS.inject(sent, context)
    assert sent == {"baggage": "b=2+;q,a=%C3%BC%20+%20%2C%3B=,d=7"}
    assert baggage_values(parse_baggage([sent["baggage"]])) == {"a": "ü + ,;=", "b": "2+", "d": "7"}
    OURS.inject(emptied := {}, baggage.clear(context))
    assert emptied == {}


def test_others_read_what_ours_writes_and_the_other_way_round() -> None:
    context = baggage.set_baggage("session.id", "s 1/ü", Context())
    for write, read in ((OURS, THEIRS), (THEIRS, OURS)):
        sent: dict[str, str] = {}
        write.inject(sent, context)
        found = baggage.get_baggage("session.id", read.extract(sent, Context()))
        assert found == ("s 1/ü" if read is THEIRS else "s+1/ü")  # theirs writes a space as a plus, which W3C has not


TEXT = st.text(max_size=60)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "baggage", "x"]), TEXT), max_size=6))
def test_no_headers_raise_and_what_went_through_once_goes_through_unchanged(headers: list[tuple[str, str]]) -> None:
    once = through(headers)
    assert all(value.isascii() and value.isprintable() for value in once.values())
    assert through(list(once.items())) == once


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("abc.-_!", min_size=1, max_size=5), TEXT, max_size=5))
def test_any_values_come_back_as_they_were(values: dict[str, str]) -> None:
    context = Context()
    for key, value in values.items():
        context = baggage.set_baggage(key, value, context)
    sent: dict[str, str] = {}
    OURS.inject(sent, context)
    assert dict(baggage.get_all(OURS.extract(sent, Context()))) == values


def test_what_is_too_large_or_no_text_is_left_out() -> None:
    many = ",".join(f"k{n}=v" for n in range(500))
    assert len(parse_baggage([through([("baggage", many)])["baggage"]])) == 64
    long = through([("baggage", "a=1,b=" + "x" * 10_000)])
    assert long == {"baggage": "a=1"}
    odd: Any = {"baggage": [b"a=1", None, "b=2"], "traceparent": [7]}
    context = OURS.extract(odd, Context())
    assert dict(baggage.get_all(context)) == {"b": "2"}
    assert OURS.extract(dict.fromkeys(("traceparent", "baggage"), ()), Context()) == Context()
    line_break = through([("baggage", "a=1\r\nX-Evil: 1,b=2")])
    assert line_break == {"baggage": "b=2"}


def test_in_a_turn_its_place_is_written_and_nothing_of_whose_turn_it_is() -> None:
    turn = Turn(ListRecorder(), name="POST /ask", path="/ask")
    turn.update(session_id="s-1", user_id="anna")
    token = attach(Context())
    activation = activate(turn)
    try:
        outside: dict[str, str] = {}
        inside: dict[str, str] = {}
        OURS.inject(outside)
        with observation(None, "step") as step:
            OURS.inject(inside)
    finally:
        deactivate(activation)
        detach(token)
    assert set(outside) == set(inside) == {"traceparent"}
    assert inside["traceparent"].split("-")[1:3] == [turn.trace_id, step.span_id]
    _, trace_id, called, _ = outside["traceparent"].split("-")
    assert (trace_id, called[:12]) == (turn.trace_id, turn.span_id[:12])
    assert called != turn.span_id


def test_opentelemetry_finds_it_by_its_name(tmp_path: Path) -> None:
    """With the entry point of `pyproject.toml` as an installation writes it down."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    ((name, value),) = stated["opentelemetry_propagator"].items()
    assert EntryPoint(name, value, "opentelemetry_propagator").load() is ExactPropagator
    folder = tmp_path / "probe-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[opentelemetry_propagator]\n{name} = {value}\n")
    code = (
        "from opentelemetry import propagate; sent = {};"
        f"propagate.inject(sent, propagate.extract({{'baggage': 'a=1;p', 'traceparent': {PARENT!r}}}));"
        "print(sent, propagate.get_global_textmap()._propagators[0].__class__.__name__)"
    )
    env = {**os.environ, "OTEL_PROPAGATORS": name, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{ {'traceparent': PARENT, 'baggage': 'a=1;p'} } ExactPropagator"


def test_format_and_parse_agree_about_limits() -> None:
    entries = parse_baggage([",".join(f"k{n}={'x' * 200}" for n in range(64))])
    assert parse_baggage([format_baggage(entries)]) == entries


def test_no_span_and_no_baggage_write_nothing() -> None:
    sent: dict[str, str] = {}
    OURS.inject(sent, trace.set_span_in_context(trace.INVALID_SPAN, Context()))
    assert sent == {}


def test_a_context_that_is_given_counts_and_not_the_turn_around() -> None:
    around, other = Turn(ListRecorder(), name="POST /ask"), Turn(ListRecorder(), name="POST /other")
    of_other = trace.set_span_in_context(other.make_root(), Context())
    token = attach(Context())
    activation = activate(around)
    empty: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    try:
        own = trace.set_span_in_context(trace.get_current_span(), Context())
        with observation(None, "step") as step:
            OURS.inject(empty, Context())
            OURS.inject(elsewhere, of_other)
            OURS.inject(here := {}, own)
    finally:
        deactivate(activation)
        detach(token)
    assert empty == {}
    for sent, turn in ((elsewhere, other), (here, around)):
        _, trace_id, called, _ = sent["traceparent"].split("-")
        assert (trace_id, called[:12]) == (turn.trace_id, turn.span_id[:12])
        assert called not in (turn.span_id, step.span_id)
