"""Identify, facts, sample, summary, previews, received text and bounds."""

import hashlib
from decimal import Decimal
from typing import Any

import orjson
import pytest

from tests.unit.pipeline.turns import START_US, TURN, own, span, turn, worked
from turntrace.pipeline import Pipeline
from turntrace.pipeline.draft import Work
from turntrace.pipeline.identify import Identifier, bounded
from turntrace.pipeline.preview import input_preview, output_preview
from turntrace.pipeline.received import text_of
from turntrace.pipeline.sample import Sampler, share_of
from turntrace.pipeline.truncate import bound, cut_text
from turntrace.records.batch import Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import Observation
from turntrace.records.rollup import RollupFact
from turntrace.records.trace import Trace
from turntrace.records.usage import Usage
from turntrace.settings import Settings

CALL = {"model": "gpt-4o-mini", "provider": "openai", "usage": {"input_tokens": 1000, "output_tokens": 100}}


def trace(*spans: Any, **header: Any) -> Trace:
    return worked(turn(*spans, **header)).trace


# identify


def test_session_user_and_tags_may_stand_on_any_span_the_roots_first() -> None:
    def mark(who: str) -> dict[str, str]:
        return {"session.id": f"s-{who}", "user.id": f"u-{who}"}

    inner, root = span(2, 1, attributes=mark("inner"), scope="x"), span(1, attributes=mark("root"), scope="x")
    assert (trace(root, inner).session_id, trace(root, inner).user_id) == ("s-root", "u-root")
    assert trace(own(1), inner).session_id == "s-inner"
    assert trace(root, session_id="header").session_id == "header"


def test_tags_of_header_and_spans_unite() -> None:
    assert trace(own(1, tags=["b", "a"]), tags=("a", "c")).tags == ("a", "c", "b")


@pytest.mark.parametrize(("mode", "wanted"), [("plain", "anna"), ("none", None)])
def test_user_ids_are_kept_as_the_setting_says(mode: str, wanted: str | None) -> None:
    found = worked(turn(span(1, scope="x", attributes={"user.id": "ben"}), user_id="anna"), identify=mode)
    assert found.trace.user_id == wanted
    assert {fact.user_id for fact in found.facts} == {wanted or ""}
    assert found.trace.observations[0].user_id == ("ben" if mode == "plain" else None)


def test_hashed_user_ids_leave_no_plain_one_anywhere() -> None:

    pipeline = Pipeline(Settings(redaction="off", identify="hash"), pseudonym=lambda user: f"~{len(user)}")
    (found,) = pipeline.work([turn(span(1, scope="x", attributes={"user.id": "benny"}), user_id="anna")])
    assert (found.trace.user_id, found.trace.observations[0].user_id, found.facts[0].user_id) == ("~4", "~5", "~4")
    assert "anna" not in repr(found)
    assert "benny" not in repr(found)


def test_hashing_needs_a_keyed_function() -> None:
    with pytest.raises(ValueError, match="pseudonym"):
        Identifier("hash", environment="default")


def test_long_names_stay_distinct_and_fit_an_index() -> None:
    first, second = bounded("x" * 500 + "a"), bounded("x" * 500 + "b")
    assert first is not None
    assert first != second
    assert len(first) == 200
    assert bounded("a\0b") == "a\ufffdb"
    assert (bounded(""), bounded(None), bounded("x" * 200)) == (None, None, "x" * 200)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ({"name": "mine", "route": "/x"}, "mine"),
        ({"route": "/x", "method": "POST"}, "POST /x"),
        ({"route": "/x"}, "/x"),
        ({}, "s1"),
    ],
)
def test_a_turn_is_named_by_its_header_route_or_first_root(header: dict[str, str], wanted: str) -> None:
    assert trace(own(1), own(2, parent=1), **header).name == wanted


@pytest.mark.parametrize(("stated", "wanted"), [(None, "prod"), ("staging", "staging"), ("NOT OK", "prod")])
def test_an_unusable_environment_is_that_of_the_settings(stated: str | None, wanted: str) -> None:
    assert worked(turn(own(1), environment=stated), environment="prod").trace.environment == wanted


# summary


def test_sums_are_over_model_calls_only() -> None:
    found = trace(
        own(1, "agent", usage={"input_tokens": 5000}),
        own(2, "generation", 1, **CALL),
        own(3, "embedding", 1, model="text-embedding-3-small", provider="openai", usage={"input_tokens": 10}),
        own(4, "generation", 1, model="unheard-of", usage={"input_tokens": 7, "cache_read_tokens": 3}),
        own(5, "generation", 1, model="gpt-4o-mini"),
    )
    assert found.usage == Usage(input_tokens=1017, output_tokens=100, cache_read_tokens=3)
    assert (found.cost_input_nano, found.cost_output_nano, found.cost_total_nano) == (150_200, 60_000, 210_200)
    assert (found.unpriced_count, found.observation_count) == (1, 5)
    assert found.models == ("gpt-4o-mini", "text-embedding-3-small", "unheard-of")


def test_without_a_price_the_cost_is_unknown_and_not_zero() -> None:
    assert trace(own(1, "generation", model="unheard-of", usage={"input_tokens": 7})).cost_total_nano is None
    assert trace(own(1, "generation")).usage is None


@pytest.mark.parametrize(
    ("spans", "header", "status"),
    [
        ([own(1)], {}, "ok"),
        ([own(1)], {"error": {"type": "ValueError"}}, "error"),
        ([own(1)], {"http_status": 500}, "error"),
        ([own(1)], {"http_status": 404}, "ok"),
        ([span(1, own={}, status="error")], {}, "error"),
        ([own(1), span(2, 1, own={}, status="error")], {}, "ok"),
    ],
)
def test_a_turn_failed_by_its_own_error_its_answer_or_its_root(spans: Any, header: Any, status: str) -> None:
    assert trace(*spans, **header).status == status


# facts


def facts(*spans: Any, kind: FrameKind = FrameKind.END, settings: Any = None, **header: Any) -> list[RollupFact]:
    return list(worked(turn(*spans, kind=kind, **header), **(settings or {})).facts)


def test_a_turn_gives_one_fact_and_each_step_another() -> None:
    whole, call, tool = facts(
        own(1, "generation", prompt={"name": "support", "version": 3}, **CALL),
        own(2, "tool"),
        route="/chat",
        feature="support",
        session_id="s",
        user_id="u",
        release="1.4",
        experiment="b",
        tags=("team:blue", "beta", "teams:x"),
        settings={"rollup_tags": "team"},
    )
    shared = {
        "environment": "default",
        "feature": "support",
        "route": "/chat",
        "release": "1.4",
        "experiment": "b",
        "user_id": "u",
        "session_id": "s",
        "tags": ("team:blue",),
    }
    assert whole == RollupFact(at_us=START_US, turns=1, duration_us=5000, **shared)
    assert call == RollupFact(
        at_us=START_US + 1,
        model="gpt-4o-mini",
        provider="openai",
        prompt="support@3",
        price_version=call.price_version,
        calls=1,
        input_tokens=1000,
        output_tokens=100,
        cost_input_nano=150_000,
        cost_output_nano=60_000,
        cost_total_nano=210_000,
        duration_us=1000,
        step="generation:s1",
        own_us=1000,
        **shared,
    )
    assert (tool.step, tool.calls, tool.turns, tool.duration_us, tool.route) == ("tool:s2", 0, 0, 1000, "/chat")
    assert call.price_version.startswith("genai-prices")


def test_a_running_turn_counts_nothing_and_a_late_fragment_only_its_calls() -> None:
    assert facts(own(1, "generation", **CALL), kind=FrameKind.START) == []
    late = facts(own(1, "generation", **CALL), kind=FrameKind.AMEND)
    assert [(fact.turns, fact.calls) for fact in late] == [(0, 1)]


def test_facts_of_steps_that_have_not_ended_say_so() -> None:
    _, *steps = facts(span(1), span(2, duration_us=None), span(3, duration_us=None, seen_us=9), span(4, seen_us=1000))
    assert [fact.is_open for fact in steps] == [False, True, True, False]


def test_facts_are_taken_before_sampling() -> None:
    found = worked(turn(own(1, "generation", **CALL)), sample_rate=0, sample_hold_hours=0)
    assert not found.is_kept
    assert [(fact.turns, fact.calls) for fact in found.facts] == [(1, 0), (0, 1)]


def test_unpriced_and_failed_calls_are_counted() -> None:
    call = facts(span(1, own={"type": "generation", "model": "?", "usage": {"input_tokens": 1}}, status="error"))[1]
    assert (call.unpriced, call.errors, call.calls) == (1, 1, 1)


# sample


def kept(*spans: Any, settings: Any = None, **header: Any) -> tuple[bool, str]:
    found: Worked = worked(turn(*spans, **header), **{"sample_rate": 0, "sample_hold_hours": 0, **(settings or {})})
    return found.is_kept, found.trace.keep_reason


@pytest.mark.parametrize(
    ("spans", "header", "reason"),
    [
        ([], {"error": {"type": "E"}}, "error"),
        ([own(1), span(2, 1, own={}, status="error")], {}, "error"),
        ([], {"duration_us": 10_000_000}, "slow"),
        ([own(1, "generation", cost={"total": "0.5"})], {}, "costly"),
        ([], {"outcome": "interrupted"}, "interrupted"),
        ([], {"flags": ("keep",)}, "flagged"),
    ],
)
def test_turns_worth_looking_at_are_always_kept(spans: Any, header: Any, reason: str) -> None:
    assert kept(*spans, **header) == (True, reason)


def test_ordinary_turns_are_kept_at_the_rate() -> None:
    assert kept() == (False, "sampled")
    assert kept(settings={"sample_rate": 1}) == (True, "all")
    assert kept(settings={"sample_rate": share_of(TURN) + 1e-9}) == (True, "rate")
    assert kept(settings={"sample_rate": share_of(TURN)}) == (False, "sampled")


def test_bounds_of_slow_and_costly_are_settings() -> None:
    assert kept(settings={"keep_slow_ms": 5}) == (True, "slow")
    dear = own(1, "generation", cost={"total": "0.01"})
    assert kept(dear, settings={"keep_cost_usd": Decimal("0.01")}) == (True, "costly")


@pytest.mark.parametrize(
    ("rates", "header", "expected"),
    [
        (["feature:support=1"], {"feature": "support"}, (True, "rate")),
        (["feature:support=1"], {"feature": "search"}, (False, "sampled")),
        (["route:/chat=1"], {"route": "/chat"}, (True, "rate")),
        (["tenant:acme=1"], {"tags": ("x", "tenant:acme")}, (True, "rate")),
        (["feature:support=0", "route:/chat=1"], {"feature": "support", "route": "/chat"}, (True, "rate")),
    ],
)
def test_rates_of_a_feature_route_or_tenant(rates: Any, header: Any, expected: Any) -> None:
    assert kept(settings={"sample_rates": rates}, **header) == expected


def test_many_tokens_and_the_first_turns_of_a_release_are_kept() -> None:
    usage = {"input_tokens": 900, "output_tokens": 100}
    call = own(1, "generation", usage=usage)
    assert kept(call, settings={"keep_tokens": 1000}) == (True, "tokens")
    assert kept(call, settings={"keep_tokens": 1001}) == (False, "sampled")
    assert kept(release="v7") == (True, "release")
    assert kept(release="v7", settings={"keep_release_turns": 0}) == (False, "sampled")
    sampler = Sampler(0, keep_slow_ms=1, keep_cost_usd=Decimal(1), keep_release_turns=2)
    works = [Work(turn(id=f"{number:032x}", duration_us=1, release="v7"), release="v7") for number in (1, 2, 3, 1)]
    for work in works:
        sampler(work)
    assert [work.is_kept for work in works] == [True, True, False, True]


def test_a_hook_goes_before_the_rates_and_its_faults_do_no_harm() -> None:
    def judged(hook: Any) -> str:
        sampler = Sampler(0, keep_slow_ms=1000, keep_cost_usd=Decimal(1), hook=hook, is_holding=True)
        work = Work(turn(feature="support", duration_us=5000), feature="support", cost_total_nano=1)
        sampler(work)
        assert work.is_kept
        return work.keep_reason

    assert judged(lambda candidate: 1.0 if candidate.feature == "support" else None) == "rate"
    assert judged(lambda candidate: 7 if candidate.duration_ms == 5 else 0) == "rate"
    assert judged(lambda candidate: None) == "held"
    assert judged(lambda candidate: 1 / 0) == "held"


def test_the_economical_preset_keeps_a_tenth_and_holds_the_rest() -> None:
    found = worked(turn(own(1)), sample_preset="economical")
    assert (found.is_kept, found.trace.keep_reason) == (True, "rate" if share_of(TURN) < 0.1 else "held")
    failing = worked(turn(error={"type": "E"}), sample_preset="economical")
    assert failing.trace.keep_reason == "error"


def test_shares_are_even_and_always_the_same() -> None:
    ids = [hashlib.md5(str(number).encode()).hexdigest() for number in range(2000)]
    below = sum(share_of(turn_id) < 0.25 for turn_id in ids)
    assert 430 < below < 570
    assert share_of(ids[0]) == share_of(ids[0])


def test_a_sampled_out_turn_carries_no_content() -> None:
    found = worked(turn(own(1, input="secret", output="secret"), input="secret"), sample_rate=0, sample_hold_hours=0)
    assert "secret" not in repr(found)


# previews


@pytest.mark.parametrize(
    ("value", "preview"),
    [
        (None, None),
        ("  hello\n\n world ", "hello world"),
        ([{"role": "user", "content": "first"}, {"role": "assistant", "content": "x"}], "first"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}], "b"),
        ({"messages": [{"role": "user", "content": "asked"}], "stream": True}, "asked"),
        ({"question": "why?", "k": 5}, "why?"),
        ({"k": 5}, '{"k":5}'),
        (["a", "b"], "a b"),
        (7, "7"),
        ([], None),
    ],
)
def test_an_input_is_previewed_by_what_the_user_asked_last(value: Any, preview: str | None) -> None:
    assert input_preview(value) == preview


@pytest.mark.parametrize(
    ("value", "preview"),
    [
        ("done", "done"),
        ([{"role": "assistant", "content": "the answer"}], "the answer"),
        ({"role": "assistant", "content": "the answer"}, "the answer"),
        (
            [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}, {"function": {"name": "g"}}]}],
            "f(), g()",
        ),
        ({"answer": "42", "sources": []}, "42"),
        ([{"role": "assistant", "content": None}], None),
    ],
)
def test_an_output_is_previewed_by_what_the_model_said(value: Any, preview: str | None) -> None:
    assert output_preview(value) == preview


def test_a_preview_is_one_short_line() -> None:
    long = input_preview("word " * 500_000)
    assert long is not None
    assert len(long) == 200 or len(long) == 199
    assert long.endswith("…")


# received


def sse(*data: str) -> str:
    return "".join(f"data: {item}\n\n" for item in data)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        ("plain text ", "plain text"),
        ("", None),
        (
            sse('{"choices":[{"delta":{"content":"Hel"}}]}', '{"choices":[{"delta":{"content":"lo"}}]}', "[DONE]"),
            "Hello",
        ),
        (sse('{"choices":[{"delta":{"role":"assistant"}}]}', '{"choices":[]}'), None),
        (sse('{"type":"response.output_text.delta","delta":"Hi"}', '{"type":"response.completed","text":"Hi"}'), "Hi"),
        (sse('{"type":"content_block_delta","delta":{"type":"text_delta","text":"Yo"}}', '{"type":"ping"}'), "Yo"),
        (sse("Hel", "lo", " there"), "Hello there"),
        (sse('{"token":"a"}', '{"text":"b"}', '{"content":"c"}', '"d"', "5"), "abcd"),
        ("event: x\r\ndata: one\r\ndata: two\r\n\r\n", "one\ntwo"),
        (sse('{"choices":[{"delta":{"content":"cut of'), '{"choices":[{"delta":{"content":"cut of'),
    ],
)
def test_a_stream_is_read_as_the_text_it_said(stream: str, text: str | None) -> None:
    assert text_of(stream) == text


# bounds


def test_a_long_text_keeps_head_tail_and_its_length() -> None:
    text = "a" * 5000 + "é" * 5000 + "z" * 5000
    cut = cut_text(text, 2000)
    assert len(cut.encode()) <= 2000 + 20
    assert cut.startswith("aaa")
    assert cut.endswith("zzz")
    assert "20000 bytes cut" in cut


def test_what_fits_is_the_same_object() -> None:
    for value in ("short", {"a": [1, 2]}, [{"x": "y"}], ("a",), 5, None, True):
        assert bound(value, 1024) is value


@pytest.mark.parametrize(
    "value",
    [
        {"a": "x" * 100_000, "b": "kept"},
        {str(number): "x" * 50 for number in range(5000)},
        [{"role": "user", "content": "x" * 60_000}, {"role": "assistant", "content": "y" * 60_000}],
        ["x" * 10 for _ in range(50_000)],
        tuple({"id": number, "content": "z" * 1000} for number in range(500)),
        {"deep": {"deeper": {"deepest": "x" * 100_000}}},
        list(range(100_000)),
    ],
)
def test_large_values_are_cut_to_about_the_bound_and_keep_their_kind(value: Any) -> None:

    cut = bound(value, 8192)
    assert type(cut) is type(value)
    assert len(orjson.dumps(cut)) < 8192 * 1.3


def test_cut_fields_are_flagged() -> None:
    found = worked(turn(own(1, input="x" * 5000, output="short")), max_field_bytes=1024).trace
    assert found.observations[0].flags == ("cut:input",)
    assert found.input_preview is not None


def test_what_was_open_when_its_turn_ended_is_incomplete_and_as_long_as_it_was_seen() -> None:
    found = trace(
        span(1, started_at_us=START_US + 1000, duration_us=None, seen_us=700),
        span(2, started_at_us=START_US + 1000, duration_us=None),
        span(3, duration_us=900, seen_us=900),
        span(4, duration_us=900),
    )
    assert [(item.is_open, item.duration_us, item.flags) for item in sorted(found.observations, key=_number)] == [
        (True, 700, ("incomplete",)),
        (True, 4000, ("incomplete",)),  # until the turn's end
        (False, 900, ("incomplete",)),
        (False, 900, ()),
    ]


def test_what_a_running_turn_has_open_goes_on() -> None:
    (step,) = trace(span(1, duration_us=None, seen_us=700), kind=FrameKind.START, duration_us=None).observations
    assert (step.is_open, step.duration_us, step.flags) == (True, None, ())


def _number(step: Observation) -> str:
    return step.span_id
