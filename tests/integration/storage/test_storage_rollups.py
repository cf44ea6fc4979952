"""Sums: what is appended, what the compactor merges, and lengths in buckets."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import stored as s

from turntrace.records.rollup import RollupFact, own_times, size_of
from turntrace.storage import histograms, losses, rollups, tables
from turntrace.storage.cardinality import OTHER
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs

HOUR = rollups.HOUR_US


def _facts(seed: int, number: int) -> list[RollupFact]:
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        model = draw.choice(["", "gpt-4o-mini", "claude-sonnet-4-5"])
        found.append(
            RollupFact(
                at_us=s.T0 + draw.randrange(3 * HOUR),
                environment=draw.choice(["production", "staging"]),
                feature=draw.choice(["", "support"]),
                model=model,
                provider="openai" if model else "",
                route="/chat",
                release=draw.choice(["", "1.2"]),
                prompt="support@3" if model else "",
                user_id=draw.choice(["", "anna", "bob"]),
                session_id=draw.choice(["", "s1"]),
                tags=("team:blue",) if draw.random() < 0.5 else (),
                price_version="v1" if model else "",
                turns=0 if model else 1,
                calls=1 if model else 0,
                errors=draw.randrange(2),
                input_tokens=draw.randrange(100),
                cost_total_nano=draw.randrange(10**12),
                duration_us=draw.randrange(1, 10**7),
                ttft_us=draw.choice([None, 1000]),
            )
        )
    return found


def _append(database: Database, facts: list[RollupFact], sign: int = 1) -> None:
    rollup = rollups.Rollup()
    for fact in facts:
        rollup.add(fact, sign)
    with database.write() as connection:
        rollup.append(connection)


def test_every_dimension_sums_to_the_same_facts(database: Database) -> None:
    facts = _facts(1, 300)
    for start in range(0, 300, 50):
        _append(database, facts[start : start + 50])
    found = s.summed(database)
    cost = s.SUMS.index("cost_total_nano")
    wanted = {
        ("hour", ""): facts,
        ("minute", ""): facts,
        ("hour", "route"): facts,
        ("hour", "release"): [fact for fact in facts if fact.release],
        ("hour", "prompt"): [fact for fact in facts if fact.prompt],
        ("hour", "tag"): [fact for fact in facts if fact.tags],
        ("hour", "input_length"): [fact for fact in facts if fact.calls and fact.input_tokens],
        ("day", "user"): [fact for fact in facts if fact.user_id],
        ("day", "session"): [fact for fact in facts if fact.session_id],
    }
    for (grain, dimension), part in wanted.items():
        sums = [value for key, value in found.items() if (key[0], key[2]) == (grain, dimension)]
        assert sum(value[cost] for value in sums) == sum(fact.cost_total_nano for fact in part), dimension
        assert sum(value[0] for value in sums) == sum(fact.turns for fact in part)
    assert {(key[0], key[2]) for key in found} == set(wanted)


def test_facts_taken_back_leave_nothing(database: Database) -> None:
    facts = _facts(2, 60)
    _append(database, facts)
    _append(database, facts, sign=-1)
    assert s.summed(database) == {}
    assert s.histogram(database) == {}


def test_calls_without_a_model_are_not_turns(database: Database) -> None:
    _append(database, [RollupFact(at_us=s.T0, calls=1, errors=1, duration_us=5)])
    assert {key[4] for key in s.summed(database)} == {rollups.UNKNOWN_MODEL}


def _written(found: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Any]:
    """Keys that writers have rows of: all but the days that the compactor adds hours to, and whole days of people."""
    grains = {"": ("minute", "hour"), "user": ("day",), "session": ("day",)}
    return {key: value for key, value in found.items() if key[0] in grains.get(key[2], ("hour",))}


def _whole_of(found: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Counter[str]]:
    """The whole days that days of people by model add up to."""
    whole: dict[tuple[Any, ...], Counter[str]] = {}
    for (grain, at_us, dimension, value, model, _, _, environment, *_), sums in found.items():
        if grain == "day" and dimension in rollups.PEOPLE:
            of_turns = {"errors", "duration_us", "duration_count", "ttft_us", "ttft_count"} if model else set()
            named = {name: n for name, n in zip(s.SUMS, sums, strict=True) if name not in of_turns}
            whole.setdefault((at_us, dimension, value, environment), Counter()).update(named)
    return whole


def _days_of(hours: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Counter[Any]]:
    """The days that hours add up to, each as a counter of its numbers."""
    found: dict[tuple[Any, ...], Counter[Any]] = {}
    for key, numbers in hours.items():
        if key[0] == "hour":
            day = ("day", key[1] - key[1] % rollups.DAY_US, *key[2:])
            items = numbers if isinstance(numbers, dict) else dict(enumerate(numbers))
            found.setdefault(day, Counter()).update(items)
    return found


def test_compaction_keeps_every_sum_and_leaves_one_row_a_key(database: Database) -> None:
    for seed in range(6):
        _append(database, _facts(seed, 40))
    before, lengths = s.summed(database), s.histogram(database)
    merged = rollups.compact(database, limit=100, rounds=100)
    assert merged > 0
    assert _written(s.summed(database)) == before
    assert _written(s.histogram(database)) == lengths
    _append(database, _facts(9, 40))
    grown = s.summed(database)
    rollups.compact(database)
    assert _written(s.summed(database)) == _written(grown)
    for name, found in (("rollup", s.summed(database)), ("histogram", s.histogram(database))):
        rows = s.rows(database, name)
        assert all(row["is_compacted"] for row in rows)
        assert len(rows) == len(found)
    assert rollups.compact(database) == 0


def test_days_are_the_sums_of_their_compacted_hours(database: Database) -> None:
    for seed in range(4):
        spread = [replace(fact, at_us=fact.at_us + seed * 17 * HOUR) for fact in _facts(seed, 40)]
        _append(database, spread)
        rollups.compact(database, limit=70, rounds=2 if seed < 3 else 100)
    _append(database, _facts(3, 20), sign=-1)
    rollups.compact(database)
    sums, lengths = s.summed(database), s.histogram(database)
    for found in (sums, lengths):
        days = {key for key in found if key not in _written(found) and key[0] == "day"}
        assert len({key[1] for key in days}) > 1
        wanted = {key: n for key, n in _days_of(found).items() if any(n.values())}
        assert days == wanted.keys()
        for key in days:
            numbers = found[key] if isinstance(found[key], dict) else dict(enumerate(found[key]))
            assert {place: n for place, n in numbers.items() if n} == {p: n for p, n in wanted[key].items() if n}


def test_whole_days_of_people_are_the_sums_of_what_they_did_by_model(database: Database) -> None:
    for seed in range(4):
        spread = [replace(fact, at_us=fact.at_us + seed * 17 * HOUR) for fact in _facts(seed, 40)]
        _append(database, spread)
        rollups.compact(database, limit=70, rounds=2 if seed < 3 else 100)
    _append(database, _facts(3, 20), sign=-1)
    rollups.compact(database)
    found = s.summed(database)
    whole = {(key[1], key[2], key[3], key[7]): sums for key, sums in found.items() if key[0] == "whole"}
    wanted = _whole_of(found)
    assert len({at_us for at_us, *_ in whole}) > 1
    assert whole.keys() == wanted.keys()
    for key, sums in whole.items():
        assert dict(zip(s.SUMS, sums, strict=True)) == wanted[key]
    with database.read() as c:
        for dimension in rollups.PEOPLE:
            spent: Counter[str] = Counter()
            for (_, of, value, _), sums in wanted.items():
                if of == dimension:
                    spent[value] += sums["cost_total_nano"]
            every = costs(c, group_by=(dimension,))
            assert {row.keys[dimension]: row.cost_total_nano for row in every} == spent
            by_model = costs(c, group_by=(dimension, "model"))
            assert sum(row.calls for row in every) == sum(row.calls for row in by_model) > 0


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_people_are_read_alike_however_much_is_merged(database: Database, rounds: int) -> None:
    _append(database, _facts(1, 80))
    with database.read() as c:
        wanted = [costs(c, group_by=names) for names in (("user",), ("session",), ("user", "environment"))]
    for _ in range(rounds):
        rollups.compact(database, limit=25, rounds=1)
    with database.read() as c:
        assert [costs(c, group_by=names) for names in (("user",), ("session",), ("user", "environment"))] == wanted
    assert all(wanted)


def test_two_compactors_at_once_add_nothing_twice(database: Database) -> None:
    for seed in range(8):
        _append(database, _facts(seed, 40))
    before, lengths = s.summed(database), s.histogram(database)
    with ThreadPoolExecutor(2) as pool:
        merged = [pool.submit(rollups.compact, database, limit=50, rounds=1000) for _ in range(2)]
    assert sum(item.result() for item in merged) > 0
    assert _written(s.summed(database)) == before
    assert _written(s.histogram(database)) == lengths


def test_turns_and_calls_have_histograms_of_their_own(database: Database) -> None:
    shared: dict[str, Any] = {"at_us": s.T0, "feature": "support", "environment": "production", "duration_us": 1000}
    _append(database, [RollupFact(turns=1, **shared), RollupFact(calls=1, model="o3", provider="openai", **shared)])
    hour = s.T0 - s.T0 % HOUR
    bucket = histograms.bucket_of(1000)
    assert s.histogram(database) == {
        ("hour", hour, "duration", "", "support", "production", ""): {bucket: 1},
        ("hour", hour, "call_duration", "o3", "", "production", ""): {bucket: 1},
    }


def test_counts_add_up_through_their_text() -> None:
    counts: histograms.Counts = {3: 1}
    for part in ({700: 2, 3: 1}, {700: -2, 12: 2**40}, {}):
        histograms.add_packed(counts, histograms.packed(part))
    assert histograms.packed(counts) == f"[3,2,12,{2**40}]"


def test_sums_that_came_to_nothing_are_not_kept_apart(database: Database) -> None:
    facts = _facts(3, 10)
    _append(database, facts)
    rollups.compact(database)
    _append(database, facts, sign=-1)
    rollups.compact(database)
    assert s.summed(database) == {}


def test_minutes_are_kept_for_two_days(database: Database) -> None:
    facts = _facts(4, 20)
    old = [replace(fact, at_us=fact.at_us - 3 * 24 * HOUR) for fact in facts]
    _append(database, facts + old)
    with database.write() as connection:
        rollups.prune_minutes(connection, now_us=s.T0 + 3 * HOUR)
    minutes = [key for key in s.summed(database) if key[0] == "minute"]
    assert minutes
    assert min(key[1] for key in minutes) >= s.T0 - HOUR
    assert min(key[1] for key in s.summed(database) if key[0] == "hour") < s.T0 - 24 * HOUR


@pytest.mark.parametrize("length", [1, 2, 3, 10, 999, 1000, 123_456, 10**7, 3600 * 10**6, 10**13])
def test_a_bucket_stands_for_its_lengths_within_one_percent(length: int) -> None:
    bucket = histograms.bucket_of(length)
    assert 0 <= bucket < 2**15
    assert abs(histograms.middle_us(bucket) - length) / length <= 0.0101


@pytest.mark.parametrize("length", [0, -5])
def test_no_length_falls_into_the_first_bucket(length: int) -> None:
    assert histograms.bucket_of(length) == 0


def test_the_loss_balance_survives_its_compaction(database: Database) -> None:
    for n in range(120):
        with database.write() as connection:
            losses.append(connection, {"stored": 3, "sampled": -1 if n % 2 else 2}, now_us=n)
    before = s.loss(database)
    with database.write() as connection:
        assert losses.compact(connection, now_us=s.NOW) == 240
        assert losses.compact(connection, now_us=s.NOW) == 0
    assert s.loss(database) == before
    with database.read() as connection:
        assert losses.totals(connection) == before
    assert len(s.rows(database, "loss")) == 2


def test_the_columns_of_rows_stand_in_the_order_of_the_table() -> None:
    assert s.SUMS == rollups._SUMS
    assert [column.name for column in tables.rollup.c][2:12] == rollups._ROLLUP_KEY
    assert [column.name for column in tables.histogram.c][2:] == [*rollups._HISTOGRAM_KEY, "counts"]


def test_beyond_a_number_of_values_a_day_further_ones_are_summed_as_other(database: Database) -> None:
    first = [
        RollupFact(at_us=s.T0, route=f"/{n % 3}", feature=f"f{n % 3}", turns=1, duration_us=n + 1, tags=(f"t:{n % 3}",))
        for n in range(9)
    ]
    late = [replace(first[0], route="/new", feature="new", tags=("t:new",)), first[0]]
    next_day = [replace(fact, at_us=s.T0 + 24 * HOUR) for fact in late]
    for facts in (first, late, next_day):
        _append(database, facts)
        while rollups.compact(database, most_values=3):
            pass
    with database.read() as connection:
        routes, features, tags = (
            {row.keys[name]: row.turns for row in costs(connection, group_by=[name])}
            for name in ("route", "feature", "tag:t")
        )
    # The day that was full sums the new one as others, the next day has room.
    assert routes == {"/0": 5, "/1": 3, "/2": 3, OTHER: 1, "/new": 1}
    assert features == {"f0": 5, "f1": 3, "f2": 3, OTHER: 1, "new": 1}
    assert tags == {"0": 5, "1": 3, "2": 3, OTHER: 1, "new": 1}
    lengths = {row["feature"] for row in s.rows(database, "histogram")}
    assert lengths == {"f0", "f1", "f2", OTHER, "new"}


def test_what_was_summed_as_other_is_taken_back_from_it(database: Database) -> None:
    facts = [RollupFact(at_us=s.T0, route=f"/{n}", turns=1) for n in range(4)]
    for sign in (1, -1):
        _append(database, facts, sign)
        while rollups.compact(database, most_values=2):
            pass
    with database.read() as connection:
        assert costs(connection, group_by=["route"]) == []


def test_steps_are_summed_by_type_and_name_with_the_time_that_they_took_themselves(database: Database) -> None:
    shared: dict[str, Any] = {"at_us": s.T0, "environment": "production"}
    _append(
        database,
        [
            RollupFact(**shared, turns=1, duration_us=100),
            RollupFact(**shared, step="chain:answer", duration_us=90, own_us=30, errors=1),
            RollupFact(
                **shared,
                step="generation:call",
                calls=1,
                model="m",
                duration_us=60,
                own_us=60,
                ttft_us=10,
                input_tokens=1500,
                output_tokens=11,
                cost_total_nano=7,
            ),
        ],
    )
    while rollups.compact(database):
        pass
    with database.read() as connection:
        steps = costs(connection, group_by=["step"])
        sizes = costs(connection, group_by=["input_length"])
        (base,) = costs(connection)
    assert [(row.keys["step"], row.requests, row.errors, row.own_us, row.cost_total_nano) for row in steps] == [
        ("generation:call", 1, 0, 60, 7),
        ("chain:answer", 1, 1, 30, 0),
    ]
    assert [(row.keys["input_length"], row.requests, row.input_tokens) for row in sizes] == [("1k to 4k", 1, 1500)]
    assert (base.turns, base.calls, base.cost_total_nano) == (1, 1, 7)
    lengths = {(row["metric"], row["size"]) for row in s.rows(database, "histogram")}
    of_call = {f"call_{name}" for name in ("duration", "ttft", "tpot", "input", "output")}
    assert lengths == {("duration", ""), *((name, "1k to 4k") for name in of_call)}


def test_own_times_count_children_that_run_at_once_a_single_time() -> None:
    pieces = [
        ("root", None, 0, 100),
        ("left", "root", 10, 30),
        ("right", "root", 20, 40),  # 20 of it beside `left`
        ("late", "root", 90, 50),  # goes on after its parent
        ("leaf", "left", 15, 5),
        ("stray", "gone", 0, 7),
        ("open", "root", 50, None),
    ]
    assert own_times(pieces) == {"root": 40, "left": 25, "right": 40, "late": 50, "leaf": 5, "stray": 7, "open": 0}


@pytest.mark.parametrize(
    ("tokens", "name"), [(0, ""), (1, "up to 1k"), (1000, "up to 1k"), (1001, "1k to 4k"), (300_000, "over 256k")]
)
def test_calls_are_kept_by_the_length_of_their_input(tokens: int, name: str) -> None:
    assert size_of(tokens) == name
