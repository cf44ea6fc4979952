"""The tree of a turn."""

import pytest

from tests.unit.pipeline.turns import ROOT, START_US, observed, own, span, span_id, turn, worked
from turntrace.pipeline.assemble import assemble
from turntrace.records.fragment import FrameKind, RawSpan

HTTPX = "opentelemetry.instrumentation.httpx"
SQL = "opentelemetry.instrumentation.sqlalchemy"
ASGI = "opentelemetry.instrumentation.asgi"


def parents(*spans: RawSpan, **header: object) -> dict[str, str | None]:
    found = observed(*spans, **header)
    names = {item.span_id: name for name, item in found.items()}
    return {name: names.get(item.parent_span_id or "") for name, item in found.items()}


def test_the_turns_own_span_is_no_observation_and_its_children_are_roots() -> None:
    assert parents(span(9, None, name="root"), own(1), own(2, parent=1)) == {"root": None, "s1": None, "s2": "s1"}
    itself = RawSpan(span_id=ROOT, name="turn", started_at_us=START_US)
    assert parents(itself, own(1)) == {"s1": None}


def test_children_of_an_unknown_parent_are_roots() -> None:
    assert parents(own(1, parent=77)) == {"s1": None}


def test_a_late_child_keeps_the_parent_it_names() -> None:
    late = worked(turn(own(2, parent=1), own(3, parent=2), own(4), kind=FrameKind.AMEND)).trace.observations
    above = {item.name: item.parent_span_id for item in late}
    assert above == {"s2": span_id(1), "s3": span_id(2), "s4": None}


def test_observations_stand_in_the_order_of_their_start_parents_first() -> None:
    same = {"started_at_us": START_US}
    found = observed(span(3, 2, **same), span(2, 1, **same), span(1, **same), span(4, started_at_us=START_US - 1))
    assert list(found) == ["s4", "s1", "s2", "s3"]


def test_framework_spans_are_cut_out_and_their_children_move_up() -> None:
    found = parents(
        own(1, "chain"),
        span(2, 1, scope=HTTPX, kind="client"),
        span(3, 2, scope=SQL, kind="client"),
        own(4, "tool", parent=3),
        span(5, 4, scope=ASGI),
    )
    assert found == {"s1": None, "s4": "s1"}


def test_a_chain_of_framework_spans_without_an_ancestor_leaves_roots() -> None:
    assert parents(span(1, None, scope=HTTPX), own(2, parent=1)) == {"s2": None}


@pytest.mark.parametrize(
    "scope",
    [
        HTTPX,
        "opentelemetry.instrumentation.urllib3",
        "@opentelemetry/instrumentation-undici",
        "opentelemetry.instrumentation.redis",
        "opentelemetry.instrumentation.threading",
        ASGI,
    ],
)
def test_noise_is_known_by_its_scope(scope: str) -> None:
    assert parents(span(1, scope=scope)) == {}


def test_an_http_client_is_known_by_its_kind_and_method() -> None:
    assert parents(span(1, scope="my.client", kind="client", attributes={"http.request.method": "GET"})) == {}
    assert len(parents(span(1, scope="my.client", kind="server", attributes={"http.request.method": "GET"}))) == 1


@pytest.mark.parametrize("attribute", ["gen_ai.request.model", "llm.model", "traceloop.entity.name", "mcp.method.name"])
def test_a_span_of_a_model_instrumentation_is_never_noise(attribute: str) -> None:
    attributes = {attribute: "x", "http.request.method": "POST"}
    assert len(parents(span(1, scope=HTTPX, kind="client", attributes=attributes))) == 1


def test_scopes_can_be_kept() -> None:
    kept = worked(turn(span(1, scope=SQL), span(2, scope=HTTPX)), keep_scopes=SQL).trace.observations
    assert [item.name for item in kept] == ["s1"]


def test_a_failed_framework_span_is_kept_where_nothing_above_it_could_show_the_error() -> None:
    failed = {"scope": HTTPX, "status": "error"}
    assert parents(span(1, **failed)) == {"s1": None}
    assert parents(own(1), span(2, 1, **failed)) == {"s1": None}


def test_a_server_span_is_the_root_of_received_traces_and_a_repetition_in_captured_turns() -> None:
    spans = span(1, scope=ASGI, kind="server"), own(2, parent=1)
    assert parents(*spans) == {"s2": None}
    assert parents(*spans, source="otlp") == {"s1": None, "s2": "s1"}


def test_a_query_of_a_vector_store_is_a_retrieval() -> None:
    attributes = {"db.system": "chroma", "db.operation": "query"}
    found = observed(span(1, scope="opentelemetry.instrumentation.dbapi", kind="client", attributes=attributes))
    assert found["s1"].type == "retrieval"


def test_cycles_are_cut_at_their_earliest_span() -> None:
    assert parents(own(1, parent=3), own(2, parent=1), own(3, parent=2)) == {"s1": None, "s2": "s1", "s3": "s2"}
    assert parents(own(1, parent=1)) == {"s1": None}
    looped = parents(own(1, parent=2), own(2, parent=1), own(3, parent=2))
    assert looped == {"s1": None, "s2": "s1", "s3": "s2"}


def test_a_cycle_of_framework_spans_does_not_hang() -> None:
    assert parents(span(1, 2, scope=HTTPX), span(2, 1, scope=HTTPX), own(3, parent=2)) == {"s3": None}


def test_of_a_repeated_span_the_last_form_wins_but_not_an_open_one() -> None:
    found = observed(own(1, "tool"), span(1, name="s1", duration_us=None), own(1, "agent"))
    assert found["s1"].type == "agent"
    assert not found["s1"].is_open


def test_ten_thousand_spans_in_one_line_are_assembled() -> None:
    deep = [own(number, parent=number - 1 if number > 1 else ROOT) for number in range(1, 10_001)]
    tree = assemble(turn(*reversed(deep)))
    assert tree.kept_parent(span_id(10_000)) == span_id(9_999)
    assert len(tree.spans) == 10_000
