"""Costs, overview, facets, loss and system facts: from roll-ups, exact."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.turns import SECOND_US, START_US, facts_of, failed, store, turn
from turntrace.errors import InvalidInput
from turntrace.records.batch import Batch, Worked
from turntrace.records.filter import TraceFilter
from turntrace.records.fragment import FrameKind
from turntrace.records.observation import PromptLink
from turntrace.records.rollup import RollupFact
from turntrace.records.trace import Trace
from turntrace.storage import rollups
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.histograms import bucket_of
from turntrace.storage.queries.costs import CostRow, costs
from turntrace.storage.queries.facets import facets
from turntrace.storage.queries.loss import balance
from turntrace.storage.queries.overview import overview
from turntrace.storage.queries.percentile import percentile
from turntrace.storage.queries.rollups import DAY_US, HOUR_US, MINUTE_US
from turntrace.storage.queries.system import system

DAY = START_US - START_US % DAY_US


def _costs(database: Database, **arguments: Any) -> list[CostRow]:
    with database.read() as c:
        return costs(c, **arguments)


def _by_key(rows: Sequence[CostRow]) -> dict[tuple[str, ...], CostRow]:
    return {tuple(row.keys.values()): row for row in rows}


def test_one_sum_of_everything_is_exact(database: Database) -> None:
    store(database, turn(cost_nano=1), turn(cost_nano=10**15), turn(cost_nano=333_333_333))
    (row,) = _costs(database)
    assert row.cost_total_nano == 1 + 10**15 + 333_333_333
    assert (row.requests, row.turns, row.calls, row.input_tokens, row.output_tokens) == (3, 3, 3, 300, 60)
    assert row.cost_input_nano is not None
    assert row.cost_output_nano is not None
    assert row.cost_input_nano + row.cost_output_nano == row.cost_total_nano


def test_nothing_recorded_gives_no_rows(database: Database) -> None:
    assert _costs(database) == []
    assert _costs(database, group_by=["model"], interval="day") == []


def test_compaction_changes_no_sum(database: Database) -> None:
    for _ in range(3):
        store(database, turn(), failed(model="o3"))
    before = _costs(database, group_by=["model", "feature"], interval="hour")
    with database.read() as c:
        seen = overview(c, from_us=START_US, to_us=START_US + HOUR_US)
    rollups.compact(database)
    store(database, turn(id="d" * 32, cost_nano=0, started_at_us=START_US + DAY_US))
    after = _costs(
        database, group_by=["model", "feature"], interval="hour", filter=TraceFilter(to_us=START_US + HOUR_US)
    )
    assert after == before
    with database.read() as c:
        assert overview(c, from_us=START_US, to_us=START_US + HOUR_US) == seen


def test_grouping_by_model_counts_calls_and_by_feature_counts_turns(database: Database) -> None:
    two_calls = turn(feature="search")
    second = replace(two_calls.observations[1], id=two_calls.id + "3" * 16, span_id="3" * 16, model="o3")
    store(database, replace(two_calls, observations=(*two_calls.observations, second)), turn(feature="support"))
    by_model = _by_key(_costs(database, group_by=["model"]))
    assert {key: row.requests for key, row in by_model.items()} == {("gpt-4o-mini",): 2, ("o3",): 1}
    assert by_model[("o3",)].turns is None
    by_feature = _by_key(_costs(database, group_by=["feature"]))
    assert {key: (row.requests, row.calls) for key, row in by_feature.items()} == {
        ("search",): (1, 2),
        ("support",): (1, 1),
    }


def test_errors_are_of_turns_unless_models_are_grouped_by(database: Database) -> None:
    store(database, failed(), turn())
    assert _costs(database)[0].errors == 1
    assert _costs(database, group_by=["model"])[0].errors == 0


def test_an_unknown_price_is_no_cost_never_zero(database: Database) -> None:
    store(database, turn(model="mystery", cost_nano=None), turn(model="free", cost_nano=0))
    by_model = _by_key(_costs(database, group_by=["model"]))
    assert (by_model[("mystery",)].cost_total_nano, by_model[("mystery",)].unpriced) == (None, 1)
    assert by_model[("free",)].cost_total_nano == 0


def test_all_four_basic_groups_combine(database: Database) -> None:
    store(database, turn(), turn(environment="staging"), turn(feature=None))
    rows = _costs(database, group_by=["environment", "provider", "model", "feature"])
    assert {tuple(row.keys.items()) for row in rows} == {
        (("environment", environment), ("provider", "openai"), ("model", "gpt-4o-mini"), ("feature", feature))
        for environment, feature in (("default", "support"), ("staging", "support"), ("default", ""))
    }


_MARGINALS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("user", {"user_id": "Zoë"}, {"Zoë", "u-1"}),
    ("session", {"session_id": "other"}, {"other", "s-1"}),
    ("experiment", {"experiment": "tone"}, {"tone"}),
    ("route", {"route": "/ask"}, {"/ask", "/chat"}),
    ("release", {"release": "v2"}, {"v2"}),
    ("tag:team", {"tags": ("team:blue", "teamster:x", "plain")}, {"blue"}),
]


def test_each_marginal_is_kept_with_model_and_environment(database: Database) -> None:
    store(database, turn(), *(turn(**fields) for _, fields, _ in _MARGINALS))
    for group, _, expected in _MARGINALS:
        rows = _costs(database, group_by=[group, "model", "environment"], interval="day")
        assert {row.keys[group] for row in rows} == expected
        assert {(row.keys["model"], row.keys["environment"], row.start_at_us) for row in rows} == {
            ("gpt-4o-mini", "default", DAY)
        }
        assert sum(row.calls for row in _costs(database, group_by=[group])) == sum(row.calls for row in rows)


def test_costs_by_prompt_version(database: Database) -> None:
    base = turn()
    linked = tuple(replace(step, prompt=PromptLink(name="support", version=3)) for step in base.observations)
    store(database, replace(base, observations=linked), turn())
    assert [(row.keys["prompt"], row.calls) for row in _costs(database, group_by=["prompt"])] == [("support@3", 1)]


_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"group_by": ["colour"]}, "group_by"),
    ({"group_by": ["tag:"]}, "group_by"),
    ({"group_by": ["user", "session"]}, "group_by"),
    ({"group_by": ["user", "feature"]}, "group_by"),
    ({"group_by": ["route", "provider"]}, "group_by"),
    ({"group_by": ["user"], "interval": "hour"}, "interval"),
    ({"interval": "week"}, "interval"),
    ({"filter": TraceFilter(user_id="u", feature="f")}, "group_by"),
    ({"filter": TraceFilter(user_id="u", route="/")}, "group_by"),
    ({"group_by": ["route"], "filter": TraceFilter(user_id="u")}, "group_by"),
    ({"filter": TraceFilter(status="error")}, "status"),
    ({"filter": TraceFilter(q="x")}, "q"),
]


def test_a_combination_that_is_not_kept_is_refused(database: Database) -> None:
    for arguments, named in _REFUSED:
        with pytest.raises(InvalidInput) as caught:
            _costs(database, **arguments)
        assert caught.value.field == named, arguments


def test_intervals_are_utc_hours_days_and_months(database: Database) -> None:
    moments = [START_US, START_US + HOUR_US - 1, START_US + HOUR_US, START_US + DAY_US, START_US + 11 * DAY_US]
    store(database, *(turn(started_at_us=at) for at in moments))
    december = START_US - START_US % DAY_US + 11 * DAY_US  # 2026-12-01
    hours = _costs(database, interval="hour")
    assert [row.start_at_us for row in hours] == [START_US, *(moments[2:])]
    assert [row.requests for row in hours] == [2, 1, 1, 1]
    assert [row.requests for row in _costs(database, interval="day")] == [3, 1, 1]
    months = _costs(database, interval="month", group_by=["model"])
    assert [(row.start_at_us, row.requests) for row in months] == [(DAY - 19 * DAY_US, 4), (december, 1)]
    assert months[0].cost_total_nano == 4 * 1_500_000


def test_filters_narrow_sums(database: Database) -> None:
    store(
        database,
        turn(model="o3", user_id="a", started_at_us=START_US),
        turn(started_at_us=START_US + 2 * HOUR_US, environment="staging", feature="search", tags=("team:x",)),
    )
    cases: dict[str, TraceFilter] = {
        "model": TraceFilter(model="o3"),
        "user": TraceFilter(user_id="a"),
        "early": TraceFilter(to_us=START_US + HOUR_US),
        "late": TraceFilter(from_us=START_US + HOUR_US),
        "environment": TraceFilter(environment="staging"),
        "feature": TraceFilter(feature="search"),
        "tag": TraceFilter(tag="team:x"),
    }
    for name, filter in cases.items():
        assert [row.calls for row in _costs(database, filter=filter)] == [1], name


def test_the_overview_has_every_bucket_and_compares_with_the_period_before(database: Database) -> None:
    store(
        database,
        turn(started_at_us=START_US - HOUR_US, duration_us=100_000),
        turn(started_at_us=START_US, duration_us=1_000_000, ttft_us=200_000),
        turn(started_at_us=START_US + 1, duration_us=2_000_000, feature="search"),
        failed(started_at_us=START_US + 2 * HOUR_US, duration_us=3_000_000, error_type="Boom"),
        failed(started_at_us=START_US + 2 * HOUR_US + 1, error_type="Boom"),
        failed(started_at_us=START_US + 2 * HOUR_US + 2, error_type="Crash"),
    )
    with database.read() as c:
        seen = overview(c, from_us=START_US, to_us=START_US + 3 * HOUR_US)
        searched = overview(c, from_us=START_US, to_us=START_US + HOUR_US, filter=TraceFilter(feature="search"))
    assert [bucket.totals.turns for bucket in seen.series] == [2, 0, 3]
    assert [bucket.totals.errors for bucket in seen.series] == [0, 0, 3]
    assert seen.series[1].totals.duration_p50_us is None
    assert seen.series[0].totals.duration_p50_us == pytest.approx(1_000_000, rel=0.011)
    assert seen.series[0].totals.duration_p95_us == pytest.approx(2_000_000, rel=0.011)
    assert seen.totals.ttft_p50_us == pytest.approx(200_000, rel=0.011)
    assert (seen.totals.turns, seen.previous.turns) == (5, 1)
    assert seen.totals.cost_total_nano == 5 * 1_500_000
    assert [(kind.type, kind.count) for kind in seen.errors] == [("Boom", 2), ("Crash", 1)]
    assert [(item.feature, item.totals.turns) for item in seen.features] == [("support", 4), ("search", 1)]
    assert searched.totals.turns == 1


def test_short_periods_are_shown_by_the_minute(database: Database) -> None:
    store(database, turn(started_at_us=START_US + 90 * SECOND_US))
    with database.read() as c:
        seen = overview(c, from_us=START_US, to_us=START_US + 3 * MINUTE_US)
        with pytest.raises(InvalidInput):
            overview(c, from_us=START_US, to_us=START_US)
        with pytest.raises(InvalidInput):
            overview(c, from_us=START_US, to_us=START_US + DAY_US, bucket_us=90 * SECOND_US)
        with pytest.raises(InvalidInput):
            overview(c, from_us=0, to_us=START_US, bucket_us=MINUTE_US)
    assert [bucket.totals.turns for bucket in seen.series] == [0, 1, 0]
    assert seen.totals.duration_p50_us is not None


# --- odd periods: whole days come from day rows, edges from hours, what is not compacted from deltas -----------------


def _spread(seed: int) -> list[Trace]:
    """Turns over four days, some on the very border of an hour or a day."""
    draw = random.Random(seed)
    borders = [DAY + DAY_US, DAY + DAY_US - 1, DAY + 2 * DAY_US, DAY + 2 * DAY_US + HOUR_US, DAY + 3 * DAY_US - 1]
    moments = borders + [DAY + draw.randrange(4 * DAY_US) for _ in range(35)]
    return [
        turn(
            started_at_us=at,
            duration_us=draw.randrange(1000, 10**7),
            feature=draw.choice(["support", "search"]),
            model=draw.choice(["gpt-4o-mini", "o3"]),
            user_id=draw.choice(["anna", "bob"]),
            route=draw.choice(["/chat", "/ask"]),
            tags=("team:blue",) if draw.random() < 0.5 else (),
            cost_nano=draw.randrange(10**9),
        )
        for at in moments
    ]


def _odd_periods(seed: int) -> list[tuple[int | None, int | None]]:
    draw = random.Random(seed)
    found: list[tuple[int | None, int | None]] = [
        (None, None),
        (DAY + DAY_US, DAY + 3 * DAY_US),
        (DAY + DAY_US - 1, DAY + 3 * DAY_US + 1),
        (DAY + DAY_US + 1, DAY + 3 * DAY_US - 1),
        (DAY + 5 * HOUR_US, DAY + 9 * HOUR_US + 1),
        (DAY + DAY_US + 1, None),
        (None, DAY + 2 * DAY_US + HOUR_US),
    ]
    for _ in range(4):
        start = DAY + draw.randrange(3 * DAY_US)
        found.append((start, start + draw.randrange(1, 2 * DAY_US)))
    return found


def _within(
    facts: Sequence[RollupFact], period: tuple[int | None, int | None], width: int = HOUR_US
) -> list[RollupFact]:
    """The facts of a period widened to whole buckets, said without any roll-up."""
    start, end = period
    return [
        fact
        for fact in facts
        if (start is None or fact.at_us // width >= start // width)
        and (end is None or fact.at_us // width * width < end)
    ]


def _expected(facts: Sequence[RollupFact], key: Any) -> dict[Any, tuple[int, int, int]]:
    found: dict[Any, tuple[int, int, int]] = {}
    for fact in facts:
        turns, calls, cost = found.get(key(fact), (0, 0, 0))
        found[key(fact)] = (turns + fact.turns, calls + fact.calls, cost + fact.cost_total_nano)
    return found


def _agrees(database: Database, facts: Sequence[RollupFact]) -> None:
    """Every cost of odd periods equals the sum of the facts."""
    for start, end in _odd_periods(7):
        wanted, within = TraceFilter(from_us=start, to_us=end), _within(facts, (start, end))

        def seen(group: str | None = None, interval: str | None = None, **filters: Any) -> dict[Any, Any]:
            rows = _costs(
                database,
                group_by=[group] if group else [],
                interval=interval,
                filter=replace(wanted, **filters),  # noqa: B023 (used within the turn of the loop)
            )
            return {
                (row.start_at_us, *row.keys.values()): (row.turns or 0, row.calls, row.cost_total_nano) for row in rows
            }

        assert seen() == _expected(within, lambda fact: (None,)), (start, end)
        assert seen("feature", "day") == _expected(within, lambda fact: (fact.at_us // DAY_US * DAY_US, fact.feature))
        assert seen("feature", "hour") == _expected(within, lambda fact: (_hour(fact), fact.feature))
        assert seen("route") == _expected(within, lambda fact: (None, fact.route))
        calls = [fact for fact in within if fact.calls]
        assert seen("model") == _expected(calls, lambda fact: (None, fact.model))
        asked = [fact for fact in within if fact.route == "/ask"]
        assert seen(None, "day", route="/ask") == _expected(asked, lambda fact: (fact.at_us // DAY_US * DAY_US,))
        tagged = [fact for fact in within if fact.tags]
        assert seen("tag:team") == _expected(tagged, lambda fact: (None, "blue"))
        assert seen("user") == _expected(_within(facts, (start, end), DAY_US), lambda fact: (None, fact.user_id))


def _hour(fact: RollupFact) -> int:
    return fact.at_us - fact.at_us % HOUR_US


def test_costs_of_odd_periods_are_the_sums_of_the_facts_compacted_or_not(database: Database) -> None:
    earlier, later = _spread(1), _spread(2)
    facts = [fact for trace in earlier for fact in facts_of(trace)]
    store(database, *earlier)
    _agrees(database, facts)
    rollups.compact(database)
    _agrees(database, facts)
    store(database, *later)
    _agrees(database, facts + [fact for trace in later for fact in facts_of(trace)])
    rollups.compact(database, limit=40, rounds=3)
    _agrees(database, facts + [fact for trace in later for fact in facts_of(trace)])


def _lengths(facts: Sequence[RollupFact], share: float) -> int | None:
    counts = Counter(bucket_of(fact.duration_us) for fact in facts if fact.turns and fact.duration_us is not None)
    return percentile(counts, share)


@pytest.mark.parametrize("bucket_us", [HOUR_US, 6 * HOUR_US, DAY_US])
def test_the_overview_of_odd_periods_is_made_of_the_facts(database: Database, bucket_us: int) -> None:
    earlier, later = _spread(3), _spread(4)
    facts = [fact for trace in (*earlier, *later) for fact in facts_of(trace) if fact.turns or fact.calls]
    store(database, *earlier)
    rollups.compact(database)
    store(database, *later)
    start, end = DAY + DAY_US + 7 * HOUR_US + 1, DAY + 3 * DAY_US + 5 * HOUR_US - 1
    with database.read() as c:
        seen = overview(c, from_us=start, to_us=end, bucket_us=bucket_us)
        before = overview(c, from_us=2 * seen.from_us - seen.to_us, to_us=seen.from_us, bucket_us=bucket_us)
    within = [fact for fact in facts if seen.from_us <= fact.at_us < seen.to_us]
    assert (seen.from_us, seen.to_us) == (start - start % bucket_us, end + -end % bucket_us)
    assert (seen.totals.turns, seen.totals.calls) == (len(within) // 2, len(within) // 2)
    assert seen.totals.cost_total_nano == sum(fact.cost_total_nano for fact in within)
    assert (seen.totals.duration_p50_us, seen.totals.duration_p95_us) == (_lengths(within, 0.5), _lengths(within, 0.95))
    assert seen.previous == before.totals
    for point in seen.series:
        part = [fact for fact in within if point.start_at_us <= fact.at_us < point.start_at_us + bucket_us]
        assert (point.totals.turns, point.totals.duration_p95_us) == (len(part) // 2, _lengths(part, 0.95))
    for item in seen.features:
        part = [fact for fact in within if fact.feature == item.feature]
        assert item.totals.cost_total_nano == sum(fact.cost_total_nano for fact in part)
        assert item.totals.duration_p50_us == _lengths(part, 0.5)


def test_facets_count_traces_of_the_filter(database: Database) -> None:
    store(database, turn(model="o3", tags=("a",)), turn(feature="search"), failed())
    with database.read() as c:
        everything = facets(c)
        searched = facets(c, TraceFilter(feature="search"))
        sampled = facets(c, sample=2)
    counts = {name: {item.value: item.count for item in found} for name, found in everything.values.items()}
    assert counts["feature"] == {"support": 2, "search": 1}
    assert counts["status"] == {"ok": 2, "error": 1}
    assert counts["model"] == {"gpt-4o-mini": 2, "o3": 1}
    assert counts["type"] == {"retrieval": 3, "generation": 3}
    assert counts["tag"] == {"a": 1}
    assert (everything.sampled, everything.is_complete) == (3, True)
    assert (searched.sampled, sampled.sampled, sampled.is_complete) == (1, 2, False)


def test_a_sampled_turn_is_paid_for_and_balanced_but_not_stored(database: Database) -> None:
    left_out = turn()
    worked = Worked(kind=FrameKind.END, trace=left_out, facts=facts_of(left_out), is_kept=False)
    write_batch(database, Batch(worked=(worked,), loss={"dropped:poison": 2}), now_us=START_US)
    store(database, turn())
    with database.read() as c:
        loss = balance(c, {"p": (4, {})}, 0)
    assert (loss.stored, loss.sampled, dict(loss.dropped)) == (1, 1, {"poison": 2})
    assert loss.is_balanced
    assert _costs(database)[0].requests == 2


def test_system_facts_are_there_on_every_database(database: Database) -> None:
    store(database, turn(), turn())
    with database.read() as c:
        facts = system(c)
    assert facts.schema_version
    assert facts.database_bytes
    assert {"trace", "observation"} <= facts.table_rows.keys()
    assert facts.last_turn_at_us is not None
    assert facts.loss.stored == 2
