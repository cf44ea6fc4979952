"""Lists: filters, keyset pages, and one record with everything."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.turns import SECOND_US, START_US, failed, in_progress, store, turn
from turntrace.errors import InvalidInput
from turntrace.records.filter import Page, TraceFilter
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import PromptLink
from turntrace.records.score import Score
from turntrace.storage import scores as score_writes
from turntrace.storage.database import Database
from turntrace.storage.queries import observations, scores, sessions, traces, users


def _every(list_page: Callable[..., Page[Any]], limit: int) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = list_page(limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_pages_hold_every_trace_once_newest_first_even_at_equal_times(database: Database) -> None:
    stored = [turn(started_at_us=START_US + n // 3 * SECOND_US) for n in range(11)]
    store(database, *stored)
    with database.read() as c:
        found = _every(lambda **page: traces.list_traces(c, **page), 4)
    expected = sorted(stored, key=lambda trace: (trace.started_at_us, trace.id), reverse=True)
    assert [trace.id for trace in found] == [trace.id for trace in expected]


def test_a_page_stays_in_place_while_newer_traces_arrive(database: Database) -> None:
    store(database, *(turn(started_at_us=START_US + n) for n in range(6)))
    with database.read() as c:
        first = traces.list_traces(c, limit=3)
    store(database, turn(started_at_us=START_US + 100))
    with database.read() as c:
        second = traces.list_traces(c, limit=3, cursor=first.next_cursor)
    assert [trace.started_at_us - START_US for trace in (*first.items, *second.items)] == [5, 4, 3, 2, 1, 0]
    assert second.next_cursor is None


def test_a_listed_trace_has_previews_and_no_content(database: Database) -> None:
    store(database, turn(input="x" * 5000, input_preview="x" * 200, metadata={"secret": 1}))
    with database.read() as c:
        (listed,) = traces.list_traces(c).items
    assert (listed.input, listed.observations, listed.metadata) == ("x" * 200, (), {})


_FILTERS: list[tuple[TraceFilter, dict[str, Any]]] = [
    (TraceFilter(session_id="other"), {"session_id": "other"}),
    (TraceFilter(user_id="Ümit"), {"user_id": "Ümit"}),
    (TraceFilter(feature="search"), {"feature": "search"}),
    (TraceFilter(environment="staging"), {"environment": "staging"}),
    (TraceFilter(release="v2"), {"release": "v2"}),
    (TraceFilter(experiment="tone"), {"experiment": "tone"}),
    (TraceFilter(route="/ask"), {"route": "/ask"}),
    (TraceFilter(name="job"), {"name": "job"}),
    (TraceFilter(model="o3"), {"model": "o3"}),
    (TraceFilter(min_cost=Decimal("0.002")), {"cost_nano": 2_000_000}),
    (TraceFilter(min_duration_ms=900.5), {"duration_us": 900_500}),
    (TraceFilter(tag='team:"a" 50%_ö'), {"tags": ("x", 'team:"a" 50%_ö')}),
    (TraceFilter(q="teapot BREW"), {"input_preview": "Brewing with a Teapot"}),
    (TraceFilter(q="100%"), {"output_preview": "100% sure"}),
    (TraceFilter(from_us=START_US + 10**9, to_us=START_US + 10**9 + 1), {"started_at_us": START_US + 10**9}),
]


def test_each_filter_finds_exactly_its_trace(database: Database) -> None:
    # one trace a filter: no other one has its fact
    wanted = [turn(**{"cost_nano": 1, **fields}) for _, fields in _FILTERS]
    store(database, turn(cost_nano=1), *wanted)
    with database.read() as c:
        for (filter, fields), trace in zip(_FILTERS, wanted, strict=True):
            assert [found.id for found in traces.list_traces(c, filter).items] == [trace.id], fields
            assert traces.count_traces(c, filter) == 1


def test_status_filters_by_result_and_by_how_a_turn_ended(database: Database) -> None:
    fine, broken, open_turn = turn(), failed(), in_progress()
    store(database, fine, broken)
    store(database, open_turn, kind=FrameKind.START)
    with database.read() as c:
        ids = {
            status: {trace.id for trace in traces.list_traces(c, TraceFilter(status=status)).items}
            for status in ("ok", "error", "in_progress", "interrupted")
        }
        with pytest.raises(InvalidInput, match="client_disconnected"):
            traces.list_traces(c, TraceFilter(status="great"))
    assert ids == {
        "ok": {fine.id, open_turn.id},
        "error": {broken.id},
        "in_progress": {open_turn.id},
        "interrupted": set(),
    }


def test_type_provider_and_prompt_look_at_observations(database: Database) -> None:
    plain = turn()
    retrieval, generation = turn().observations
    store(database, plain)
    with database.read() as c:
        assert len(traces.list_traces(c, TraceFilter(type="retrieval")).items) == 1
        assert traces.list_traces(c, TraceFilter(type="tool")).items == ()
        assert len(traces.list_traces(c, TraceFilter(provider="openai")).items) == 1
        assert traces.list_traces(c, TraceFilter(prompt="support@3")).items == ()
    assert retrieval.type == "retrieval"
    assert generation.prompt is None


def test_a_trace_is_found_by_either_id_with_everything(database: Database) -> None:
    stored = turn(metadata={"plan": "pro", "n": [1, {"deep": None}]}, tags=("a", "team:x"), received="data: x")
    store(database, turn(), stored)
    with database.read() as c:
        (by_turn,) = traces.find_traces(c, stored.id)
        (by_trace,) = traces.find_traces(c, stored.trace_id)
        assert traces.find_traces(c, "f" * 32) == ()
    assert by_turn == by_trace
    assert by_turn.metadata == stored.metadata
    assert (by_turn.input, by_turn.received, by_turn.tags) == (stored.input, stored.received, stored.tags)
    generation = by_turn.observations[1]
    assert generation.input == [{"role": "user", "content": "How do I descale the kettle?"}]
    assert (generation.usage, generation.cost) == (stored.observations[1].usage, stored.observations[1].cost)
    assert by_turn.observations[0].documents[0]["content"] == "Use vinegar."


def test_turns_that_share_a_trace_id_are_found_together_and_apart(database: Database) -> None:
    shared = "c" * 32
    one, two = turn(trace_id=shared), turn(trace_id=shared)
    store(database, two, one)
    with database.read() as c:
        assert [trace.id for trace in traces.find_traces(c, shared)] == [one.id, two.id]
        assert [trace.id for trace in traces.find_traces(c, one.id)] == [one.id]
        assert traces.turn_ids(c, shared) == (one.id, two.id)


def test_counting_stops_at_the_cap(database: Database) -> None:
    store(database, *(turn() for _ in range(5)))
    with database.read() as c:
        assert (traces.count_traces(c, cap=4), traces.count_traces(c, cap=6)) == (4, 5)


def test_observation_pages_hold_every_step_once_without_content(database: Database) -> None:
    store(database, *(turn(started_at_us=START_US) for _ in range(5)))
    with database.read() as c:
        found = _every(lambda **page: observations.list_observations(c, **page), 3)
    assert len({step.id for step in found}) == len(found) == 10
    assert found == sorted(found, key=lambda step: (step.started_at_us, step.id), reverse=True)
    assert all(step.input is None and not step.documents for step in found)


def test_observation_filters_are_of_the_step(database: Database) -> None:
    store(database, turn(model="o3", user_id="u-9"), turn())
    with database.read() as c:
        (step,) = observations.list_observations(c, TraceFilter(model="o3")).items
        assert (step.type, step.user_id, step.session_id) == ("generation", "u-9", "s-1")
        by_user = observations.list_observations(c, TraceFilter(user_id="u-9")).items
        slow = observations.list_observations(c, TraceFilter(min_duration_ms=100)).items
        whole = observations.get_observation(c, step.id)
        assert observations.get_observation(c, "f" * 48) is None
    assert len(by_user) == 2
    assert {step.name for step in slow} == {"answer"}
    assert whole is not None
    assert (whole.output, whole.metadata) == ("With vinegar.", {"attempt": 1})


def test_a_prompt_filter_takes_a_name_or_a_version(database: Database) -> None:
    base = turn()
    step = replace(base.observations[1], prompt=PromptLink(name="support", version=3, variables={"product": "kettle"}))
    store(database, replace(base, observations=(step,)))
    with database.read() as c:
        found = [
            len(traces.list_traces(c, TraceFilter(prompt=prompt)).items)
            for prompt in ("support", "support@3", "support@4", "other")
        ]
        (trace,) = traces.find_traces(c, base.id)
    assert found == [1, 1, 0, 0]
    assert trace.observations[0].prompt == step.prompt


def test_sessions_belong_to_users(database: Database) -> None:
    store(
        database,
        turn(session_id="s", user_id="a", started_at_us=START_US),
        turn(session_id="s", user_id="a", started_at_us=START_US + SECOND_US),
        turn(session_id="s", user_id="b", started_at_us=START_US + 2 * SECOND_US),
    )
    with database.read() as c:
        listed = sessions.list_sessions(c, TraceFilter(session_id="s")).items
        of_a = sessions.get_session(c, "s", "a")
        with pytest.raises(sessions.SeveralUsers) as caught:
            sessions.get_session(c, "s")
        assert sessions.get_session(c, "unknown") is None
        assert sessions.get_session(c, "s", "") is None
    assert [(item.user_id, item.trace_count) for item in listed] == [("b", 1), ("a", 2)]
    assert of_a is not None
    assert (of_a.trace_count, of_a.cost_total_nano, of_a.input_tokens) == (2, 3_000_000, 200)
    assert [trace.started_at_us for trace in of_a.traces] == [START_US, START_US + SECOND_US]
    assert of_a.traces[0].observations[1].output == "With vinegar."
    assert set(caught.value.user_ids) == {"a", "b"}


def test_turns_before_the_login_stand_in_the_same_session(database: Database) -> None:
    store(
        database,
        turn(session_id="s", user_id=None, started_at_us=START_US),
        turn(session_id="s", user_id="a", started_at_us=START_US + SECOND_US),
    )
    with database.read() as c:
        whole, anonymous = sessions.get_session(c, "s"), sessions.get_session(c, "s", "")
    assert whole is not None
    assert anonymous is not None
    assert (whole.user_id, whole.trace_count, [trace.user_id for trace in whole.traces]) == ("a", 2, [None, "a"])
    assert (anonymous.user_id, [trace.user_id for trace in anonymous.traces]) == (None, [None])


def test_a_session_whose_first_turn_still_runs_is_there(database: Database) -> None:
    store(database, in_progress(session_id="new"), kind=FrameKind.START)
    with database.read() as c:
        session = sessions.get_session(c, "new")
    assert session is not None
    assert (session.trace_count, session.traces[0].outcome) == (0, "in_progress")


def test_session_pages_hold_every_session_once(database: Database) -> None:
    store(
        database,
        *(turn(session_id=f"s-{n}", user_id=user, started_at_us=START_US) for n in range(4) for user in ("a", "b")),
    )
    with database.read() as c:
        found = _every(lambda **page: sessions.list_sessions(c, **page), 3)
    assert len({(item.session_id, item.user_id) for item in found}) == len(found) == 8


def test_users_come_from_the_roll_ups_costliest_first(database: Database) -> None:
    store(
        database,
        turn(user_id="cheap", cost_nano=1),
        turn(user_id="dear", cost_nano=5_000_000, session_id="s-1"),
        failed(user_id="dear", cost_nano=5_000_000, session_id="s-2", error_type="Boom"),
        turn(user_id="unknown-price", cost_nano=None),
    )
    with database.read() as c:
        found = _every(lambda **page: users.list_users(c, **page), 2)
    by_id = {user.user_id: user for user in found}
    assert [user.user_id for user in found] == ["dear", "cheap", "unknown-price"]
    dear = by_id["dear"]
    assert (dear.trace_count, dear.error_count, dear.session_count) == (2, 1, 2)
    assert (dear.cost_total_nano, dear.last_error_type) == (10_000_000, "Boom")
    assert by_id["unknown-price"].cost_total_nano is None


def _score(**fields: Any) -> Score:
    defaults: dict[str, Any] = {"id": "x", "name": "thumbs", "value": True, "data_type": "boolean", "source": "user"}
    return Score(**{**defaults, **fields})


def test_scores_filter_traces_by_name_and_value(database: Database) -> None:
    good, bad = turn(), turn()
    store(database, good, bad, turn())
    with database.write() as c:
        for number, (scored, value) in enumerate(((good, 0.9), (bad, 0.2))):
            score = _score(id=f"n{number}", name="quality", value=value, data_type="numeric", turn_id=scored.id)
            score_writes.upsert(c, score, now_us=START_US)
        score_writes.upsert(c, _score(id="b", turn_id=good.id), now_us=START_US)
        score_writes.upsert(
            c, _score(id="c", name="topic", value="tea", data_type="categorical", turn_id=bad.id), now_us=START_US
        )
    cases = {
        "quality": {good.id, bad.id},
        "quality>0.5": {good.id},
        "quality <= 0.2": {bad.id},
        "quality=0.9": {good.id},
        "quality=1e400": set(),
        "thumbs=true": {good.id},
        "thumbs=false": set(),
        "topic=tea": {bad.id},
        "nothing": set(),
    }
    with database.read() as c:
        for text, expected in cases.items():
            assert {trace.id for trace in traces.list_traces(c, TraceFilter(score=text)).items} == expected, text
        for text in ("quality>good", "<3", "=x", "quality<1e400", "quality>nan"):
            with pytest.raises(InvalidInput, match="score"):
                traces.list_traces(c, TraceFilter(score=text))
        assert {score.name for score in traces.find_traces(c, good.id)[0].scores} == {"quality", "thumbs"}
        assert len(scores.list_scores(c, scores.ScoreFilter(trace_id=good.trace_id)).items) == 2
        paged = _every(lambda **page: scores.list_scores(c, **page), 3)
        assert len({score.id for score in paged}) == 4


def test_feedback_is_counted_for_its_user(database: Database) -> None:
    stored = turn(user_id="a")
    store(database, stored)
    with database.write() as c:
        score_writes.upsert(c, _score(id="1", turn_id=stored.id), now_us=START_US)
        score_writes.upsert(c, _score(id="2", turn_id=stored.id, value=False), now_us=START_US)
    with database.read() as c:
        (user,) = users.list_users(c).items
    assert (user.feedback_count, user.feedback_positive) == (2, 1)
