"""Late fragments join their turn, and only what they really change is counted."""

from dataclasses import replace
from typing import Any

import pytest
import stored as s

from turntrace.records.observation import Observation
from turntrace.records.usage import Usage
from turntrace.storage.database import Database


def test_a_late_observation_joins_its_turn_and_is_counted_where_the_turn_was(database: Database) -> None:
    late = s.generation(1, 5, session_id=None, user_id=None)
    s.write(database, s.end(s.trace(1)))
    s.write(database, s.amend(1, observations=(late,)))
    found = s.everything(database)
    s.write(database, s.end(s.trace(1)), s.amend(1, observations=(late,)))
    assert s.everything(database) == found
    (row,) = found["trace"]
    assert (row["observation_count"], row["input_tokens"], row["cost_total_nano"]) == (3, 200, 5400)
    assert row["usage_details"] == '{"web_searches":2}'
    (session,) = found["session"]
    assert (session["trace_count"], session["input_tokens"]) == (1, 200)
    assert found["content"][s.turn_id(1)][1][s.span_id(5)]["output"] == "On its way."
    whole = s.trace(1, observations=(s.generation(1, 1), s.retrieval(1, 2), s.generation(1, 5)))
    assert _sums_of_one(database, whole) == found["rollup"]


def _sums_of_one(database: Database, whole: object) -> object:
    """The sums that a turn leaves which was whole from the start."""
    from turntrace.records.batch import Batch
    from turntrace.storage import batches, tables

    with database.write() as connection:
        for name in ("trace", "observation", "content", "session", "rollup", "histogram", "loss", "sampled"):
            connection.execute(tables.metadata.tables[f"turntrace_{name}"].delete())
    batches.write_batch(database, Batch(worked=(s.end(whole),)), now_us=s.NOW)  # type: ignore[arg-type]
    return s.summed(database)


def _steps(*, is_open: bool) -> tuple[Observation, ...]:
    """A call and a step of the host's, both perhaps open still, and a call that has ended."""
    known: dict[str, Any] = {"usage": None, "cost": None, "duration_us": 1000, "is_open": True} if is_open else {}
    chain: dict[str, Any] = {"type": "chain", "name": "plan", "usage": None, "cost": None, "model": None}
    return s.generation(1, 1, **known), s.generation(1, 2, **{**known, **chain}), s.generation(1, 3)


@pytest.mark.parametrize("order", ["end, late", "late, end", "start, late, end", "late and end"])
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_step_that_was_open_at_the_end_counts_once(database: Database, is_kept: bool, order: str) -> None:
    open_turn = s.trace(1, observations=_steps(is_open=True))
    names = ("route", "feature", "release", "session_id", "user_id", "tags")
    late = s.amend(1, observations=_steps(is_open=False)[:2], **{name: getattr(open_turn, name) for name in names})
    parts = {"start": s.start(open_turn), "late": late, "end": s.end(open_turn, is_kept=is_kept)}
    for batch in order.split(", "):
        s.write(database, *(parts[name] for name in batch.split(" and ")))
    found, lengths = s.summed(database), s.histogram(database)
    s.write(database, parts["end"])
    assert (s.summed(database), s.histogram(database)) == (found, lengths)
    assert found == _sums_of_one(database, s.trace(1, observations=_steps(is_open=False)))
    assert lengths == s.histogram(database)


@pytest.mark.parametrize("is_together", [True, False])
def test_a_late_user_moves_the_turn_with_all_its_sums(database: Database, is_together: bool) -> None:
    anonymous = s.trace(
        1, user_id=None, observations=(s.generation(1, 1, user_id=None), s.retrieval(1, 2, user_id=None))
    )
    late = s.amend(1, stated="user_id session_id tags", user_id="zoe", session_id="s9", tags=("team:red",))
    if is_together:
        s.write(database, s.end(anonymous), late)
    else:
        s.write(database, s.end(anonymous))
        s.write(database, late)
    s.write(database, late)
    found = s.everything(database)
    assert [(row["session_id"], row["user_id"]) for row in found["session"]] == [("s9", "zoe")]
    whole = s.trace(1, user_id="zoe", session_id="s9", tags=("team:blue", "beta", "team:red"))
    assert found["rollup"] == _sums_of_one(database, whole)
    assert found["histogram"] == s.histogram(database)
    assert found["trace"][0]["tags"] == '["team:blue","beta","team:red"]'


def test_late_fields_replace_and_unite(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    s.write(
        database,
        s.amend(
            1,
            stated="output metadata feature_flags outcome last_byte_us",
            output="Longer answer.",
            output_preview="Longer answer.",
            metadata={"late": True},
            feature_flags={"new": 1},
            outcome="client_disconnected",
            last_byte_us=123,
            flags=("cut",),
        ),
    )
    (row,) = s.rows(database, "trace")
    assert (row["outcome"], row["last_byte_us"], row["flags"]) == ("client_disconnected", 123, '["cut"]')
    assert row["output_preview"] == "Longer answer."
    assert row["input_preview"] == "Where is my kettle?"
    assert row["feature_flags"] == '{"dark":true,"new":1}'
    own, observations = s.contents(database)[s.turn_id(1)]
    assert own["metadata"] == {"path": "/chat", "late": True}
    assert own["output"] == "Longer answer."
    assert own["input"] == "Where is my kettle?"
    assert set(observations) == {s.span_id(1), s.span_id(2)}


def test_a_late_failure_makes_the_turn_a_failure_in_all_sums(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    s.write(database, s.amend(1, stated="error", error=s.error("late"), status="error"))
    (row,) = s.rows(database, "trace")
    assert (row["status"], row["error_type"], row["error_message"]) == ("error", "ValueError", "late")
    (session,) = s.rows(database, "session")
    assert session["error_count"] == 1
    hour = [sums for key, sums in s.summed(database).items() if key[0] == "hour" and key[2] == "" and key[4] == ""]
    assert [(sums[0], sums[2]) for sums in hour] == [(1, 1)]
    assert s.contents(database)[s.turn_id(1)][0]["error_stack"].endswith("late")


def test_an_observation_that_was_open_is_replaced_when_it_ends(database: Database) -> None:
    still_open = s.generation(1, 1, is_open=True, duration_us=None, usage=None, cost=None, output=None)
    s.write(database, s.end(s.trace(1, observations=(still_open,))))
    s.write(database, s.amend(1, observations=(s.generation(1, 1),)))
    found = s.everything(database)
    assert found["trace"][0]["observation_count"] == 1
    assert found["trace"][0]["input_tokens"] == 100
    assert found["observation"][0]["is_open"] in (False, 0)
    assert found["rollup"] == _sums_of_one(database, s.trace(1, observations=(s.generation(1, 1),)))


@pytest.mark.parametrize("has_started", [False, True])
def test_a_late_fragment_that_comes_before_the_end_of_its_turn_is_kept_for_it(
    database: Database, has_started: bool
) -> None:
    late = s.amend(1, observations=(s.generation(1, 5),))
    if has_started:
        s.write(database, s.start(s.trace(1)))
    s.write(database, late)
    assert s.loss(database) == ({"stored": 1} if has_started else {})
    s.write(database, s.end(s.trace(1)))
    found = s.everything(database)
    assert found["loss"] == {"stored": 1}
    assert len(found["observation"]) == 3
    assert found["trace"][0]["outcome"] == "complete"
    assert found["trace"][0]["flags"] is None
    assert s.span_id(5) in found["content"][s.turn_id(1)][1]
    whole = s.trace(1, observations=(s.generation(1, 1), s.retrieval(1, 2), s.generation(1, 5)))
    assert found["rollup"] == _sums_of_one(database, whole)


def test_an_unpriced_late_call_is_counted_as_such(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    s.write(database, s.amend(1, observations=(s.generation(1, 6, cost=None, model="new-model"),)))
    (row,) = s.rows(database, "trace")
    assert row["unpriced_count"] == 1
    assert row["models"] == '["gpt-4o-mini-2024-07-18","new-model"]'
    calls = {key[4]: sums for key, sums in s.summed(database).items() if key[0] == "hour" and key[2] == ""}
    assert calls["new-model"][3] == 1


def test_content_that_grew_is_joined(database: Database) -> None:
    s.write(database, s.end(s.trace(1, received="data: one\n")))
    s.write(database, s.amend(1, stated="received", received="data: two\n"))
    assert s.contents(database)[s.turn_id(1)][0]["received"] == "data: one\ndata: two\n"


def test_a_fragment_that_says_nothing_new_changes_nothing(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    before = s.rows(database, "trace"), len(s.rows(database, "rollup"))
    s.write(database, s.amend(1), s.amend(1, observations=(replace(s.generation(1, 1), usage=Usage(input_tokens=9)),)))
    assert (s.rows(database, "trace"), len(s.rows(database, "rollup"))) == before


def _outer(**changes: Any) -> Observation:
    return s.generation(1, 4, started_at_us=s.T0 + 1000, name="wrapper", **changes)


def _inner(**changes: Any) -> Observation:
    return s.generation(1, 5, parent_span_id=s.span_id(7), **changes)


def _between() -> Observation:
    nothing: dict[str, Any] = {"usage": None, "cost": None, "model": None}
    return s.generation(1, 7, type="span", name="step", parent_span_id=s.span_id(4), **nothing)


@pytest.mark.parametrize(
    "order", ["inner between outer", "outer between inner", "between, inner, outer", "outer, inner, between"]
)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_late_call_around_another_one_is_counted_once(database: Database, order: str, is_open: bool) -> None:
    parts = {"outer": _outer(), "inner": _inner(), "between": _between()}
    left_open = _outer(usage=None, cost=None, duration_us=9, is_open=True)
    s.write(database, s.end(s.trace(1, observations=(left_open,) if is_open else ())))
    for batch in order.split(", "):
        s.write(database, *(s.amend(1, observations=(parts[name],)) for name in batch.split()))
    found = s.everything(database)
    (row,) = found["trace"]
    assert (row["observation_count"], row["input_tokens"], row["cost_total_nano"]) == (3, 100, 2700)
    assert sorted(row["type"] for row in found["observation"]) == ["chain", "generation", "span"]
    (session,) = found["session"]
    assert (session["input_tokens"], session["cost_total_nano"]) == (100, 2700)
    chain = _outer(type="chain", usage=None, cost=None)
    assert found["rollup"] == _sums_of_one(database, s.trace(1, observations=(chain, _inner(), _between())))
    assert found["histogram"] == s.histogram(database)


def test_a_late_call_around_one_without_usage_keeps_its_own(database: Database) -> None:
    s.write(database, s.end(s.trace(1, observations=())))
    s.write(database, s.amend(1, observations=(_between(), _inner(usage=None, cost=None))))
    s.write(database, s.amend(1, observations=(_outer(),)))
    (row,) = s.rows(database, "trace")
    assert (row["input_tokens"], row["cost_total_nano"]) == (100, 2700)


def test_late_spans_that_are_their_own_ancestors_are_stored(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    for number, parent in ((4, 4), (5, 7), (7, 8), (8, 7)):
        kind: dict[str, Any] = {"type": "span"} if number > 5 else {}
        circular = s.generation(1, number, parent_span_id=s.span_id(parent), **kind)
        s.write(database, s.amend(1, observations=(circular,)))
    (row,) = s.rows(database, "trace")
    assert (row["observation_count"], row["input_tokens"]) == (6, 300)
