"""History priced anew: preview, change, and every sum follows, on three databases."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from tests.integration.turns import START_US, facts_of, store, turn
from turntrace.errors import InvalidInput
from turntrace.jobs import reprice
from turntrace.jobs.erase import erase_at_once
from turntrace.jobs.reprice import DAY_US, Span
from turntrace.keyring import KeyRing
from turntrace.pipeline.price import Pricer
from turntrace.records.batch import Batch, Worked
from turntrace.records.erasure import Target
from turntrace.records.filter import TraceFilter
from turntrace.records.fragment import FrameKind
from turntrace.records.trace import Trace
from turntrace.records.usage import Cost, Price, Usage
from turntrace.storage import reprice as stored
from turntrace.storage import rollups, tables
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs

DAY = START_US - START_US % DAY_US
TODAY = Span(from_us=DAY, to_us=DAY + DAY_US)
# 100 tokens in, 50 of them from the cache, 20 out: 50 × $2 + 50 × $1 + 20 × $4, each per million
NEW_NANO = 50 * 2000 + 50 * 1000 + 20 * 4000
PRICE = Price(
    id="p1",
    provider="openai",
    model="gpt-4o-mini",
    effective_from_us=DAY,
    rates_per_mtok={"input_mtok": "2", "cache_read_mtok": "1", "output_mtok": "4"},
)
PRICER = Pricer((PRICE,))
KEYS = KeyRing([b"k" * 32], is_explicit=True)


def _turn(**fields: Any) -> Trace:
    made = turn(**fields)
    steps = []
    for step in made.observations:
        cost = replace(step.cost, price_version="test") if step.cost else None
        steps.append(replace(step, provider="openai", cost=cost) if step.model else step)
    return replace(made, observations=tuple(steps))


def _sum(database: Database, **by: Any) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        rows = costs(connection, **by)
    return sorted((*row.keys.values(), row.cost_total_nano, row.input_tokens, row.unpriced) for row in rows)


def _settled(database: Database) -> None:
    while rollups.compact(database):
        pass


@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_corrected_price_changes_calls_turns_sessions_and_every_sum(database: Database, is_compacted: bool) -> None:
    traces = [_turn(cost_nano=700), _turn(cost_nano=None, user_id="u-2"), _turn(model="o3", cost_nano=900)]
    store(database, *traces)
    if is_compacted:
        _settled(database)
    found = reprice.preview(database, PRICER, TODAY)
    change = found.models["gpt-4o-mini"]
    assert (change.calls, change.changed, change.unpriced_before, change.unpriced_after) == (2, 2, 1, 0)
    assert (change.before_nano, change.after_nano) == (700, 2 * NEW_NANO)
    assert found.rest == {}
    assert _sum(database, group_by=["user"])[0][1] != NEW_NANO  # a preview changes nothing

    only = replace(TODAY, model="gpt-4o-mini")
    assert reprice.apply(database, PRICER, only).changed == 2
    for _ in range(2):
        assert _sum(database) == [(2 * NEW_NANO + 900, 300, 0)]
        assert _sum(database, group_by=["user"]) == [("u-1", NEW_NANO + 900, 200, 0), ("u-2", NEW_NANO, 100, 0)]
        assert _sum(database, group_by=["feature", "model"])[0] == ("support", "gpt-4o-mini", 2 * NEW_NANO, 200, 0)
        assert _sum(database, group_by=["route"], interval="hour") == [("/chat", 2 * NEW_NANO + 900, 300, 0)]
        _settled(database)
    with database.read() as connection:
        t, s = tables.trace.c, tables.session.c
        totals = [tuple(row) for row in connection.execute(select(t.cost_total_nano, t.unpriced_count).order_by(t.id))]
        sessions = connection.execute(select(s.cost_total_nano, s.trace_count)).all()
        o = tables.observation.c
        calls = connection.execute(select(o.price_version, o.input_tokens).where(o.model == "gpt-4o-mini")).all()
    assert sorted(totals) == sorted([(NEW_NANO, 0), (NEW_NANO, 0), (900, 0)])
    assert sum(row[0] for row in sessions) == 2 * NEW_NANO + 900
    assert {tuple(row) for row in calls} == {("override p1", 100)}
    assert reprice.apply(database, PRICER, only).changed == 0


def test_what_a_provider_stated_is_not_priced_by_us(database: Database) -> None:
    made = _turn(cost_nano=5)
    stated = Cost(input_nano=2, output_nano=3, total_nano=5, source="provider")
    steps = tuple(replace(step, cost=stated) if step.model else step for step in made.observations)
    trace = replace(made, observations=steps)
    facts = tuple(replace(fact, price_version="") for fact in facts_of(trace))
    write_batch(database, Batch(worked=(Worked(kind=FrameKind.END, trace=trace, facts=facts),)), now_us=START_US)
    assert reprice.preview(database, PRICER, TODAY).models == {}
    reprice.apply(database, PRICER, TODAY)
    assert _sum(database)[0][0] == 5


def test_what_only_roll_ups_hold_is_priced_by_its_sums_and_flagged(database: Database) -> None:
    kept, gone = _turn(cost_nano=700), _turn(cost_nano=None, session_id="s-2", user_id="u-2")
    store(database, kept)
    left_out = Worked(kind=FrameKind.END, trace=gone, facts=facts_of(gone), is_kept=False)
    write_batch(database, Batch(worked=(left_out,)), now_us=START_US)
    _settled(database)
    rest = reprice.preview(database, PRICER, TODAY).rest["gpt-4o-mini"]
    assert (rest.calls, rest.before_nano, rest.after_nano) == (1, 0, NEW_NANO)
    for _ in range(2):
        reprice.apply(database, PRICER, TODAY)
        for _ in range(2):
            assert _sum(database) == [(2 * NEW_NANO, 200, 0)]
            assert _sum(database, group_by=["user"]) == [("u-1", NEW_NANO, 100, 0), ("u-2", NEW_NANO, 100, 0)]
            _settled(database)
    with database.read() as connection:
        r = tables.rollup.c
        found = connection.execute(
            select(r.price_version).where(r.cost_total_nano != 0, r.dimension == "").distinct()
        ).scalars()
        assert set(found) == {"override p1", "override p1~"}


def test_history_without_rows_is_priced_after_retention(database: Database) -> None:
    store(database, *(_turn(cost_nano=700) for _ in range(10)))
    with database.write() as connection:
        for table in (tables.trace, tables.observation, tables.content):
            connection.execute(delete(table))
    reprice.apply(database, PRICER, TODAY)
    assert _sum(database) == [(10 * NEW_NANO, 1000, 0)]
    with database.read() as connection:
        (row,) = costs(connection, filter=TraceFilter(from_us=DAY, to_us=DAY + DAY_US), group_by=["session"])
    assert row.cost_total_nano == 10 * NEW_NANO


def test_sums_of_somebody_who_is_erased_meanwhile_do_not_get_the_name_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user, session in (("u-1", "s-1"), ("u-2", "s-2")):
        gone = _turn(cost_nano=None, user_id=user, session_id=session)
        left_out = Worked(kind=FrameKind.END, trace=gone, facts=facts_of(gone), is_kept=False)
        write_batch(database, Batch(worked=(left_out,)), now_us=START_US)
    _settled(database)
    moved = stored.moved

    def erase_first(*given: Any) -> Any:
        """Sums have been read and are not moved yet."""
        monkeypatch.undo()
        erase_at_once(database, Target(kind="subject", user_ids=("u-1",)), KEYS, actor="test")
        return moved(*given)

    monkeypatch.setattr(stored, "moved", erase_first)
    reprice.apply(database, PRICER, TODAY)
    for _ in range(2):
        with database.read() as connection:
            values = connection.execute(select(tables.rollup.c.value).distinct()).scalars().all()
        assert "u-1" not in values
        assert _sum(database) == [(2 * NEW_NANO, 200, 0)]
        assert _sum(database, group_by=["user"]) == [("erased", None, 100, 1), ("u-2", NEW_NANO, 100, 0)]
        _settled(database)


def test_many_calls_are_read_in_pages_and_a_preview_can_stop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reprice, "READ", 7)
    monkeypatch.setattr(reprice, "BATCH", 3)
    store(database, *(_turn(cost_nano=1, started_at_us=START_US) for _ in range(30)))
    assert not reprice.preview(database, PRICER, TODAY, most=10).is_whole
    seen: list[int] = []
    assert reprice.apply(database, PRICER, TODAY, tell=seen.append).changed == 30
    assert seen[-1] == 30
    assert _sum(database) == [(30 * NEW_NANO, 3000, 0)]


@pytest.mark.parametrize(("start", "end"), [(DAY + 1, DAY + DAY_US), (DAY, DAY), (DAY, DAY + 5)])
def test_a_span_is_whole_days(start: int, end: int) -> None:
    with pytest.raises(InvalidInput):
        Span(from_us=start, to_us=end)


def test_the_average_call_decides_what_sums_cost() -> None:
    from turntrace.storage.reprice import estimated

    row = {
        **{"model": "gpt-4o-mini", "provider": "openai", "at_us": DAY, "price_version": "old", "calls": 3},
        **{"input_tokens": 1_000_000, "output_tokens": 10, "cache_read_tokens": 0, "cache_write_tokens": 0},
        **{"reasoning_tokens": 0, "cost_total_nano": 1, "tier": ""},
    }
    found = estimated(row, lambda model, provider, usage, at_us, tier: _priced(usage))
    assert found is not None
    assert (found.total_nano, found.price_version) == (1_000_000 * 2000 + 10 * 4000, "new~")
    assert estimated({**row, "price_version": "new~"}, lambda *_: _priced(Usage())) is None
    assert estimated({**row, "price_version": ""}, lambda *_: _priced(Usage())) is None


def test_two_at_once_do_not_move_sums_twice(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = _turn(cost_nano=700)
    left_out = Worked(kind=FrameKind.END, trace=gone, facts=facts_of(gone), is_kept=False)
    write_batch(database, Batch(worked=(left_out,)), now_us=START_US)
    _settled(database)
    moved = stored.moved

    def other_first(*given: Any) -> Any:
        """Sums have been read and are not moved yet."""
        monkeypatch.undo()
        with pytest.raises(InvalidInput, match="another process"):
            reprice.apply(database, PRICER, TODAY)
        return moved(*given)

    monkeypatch.setattr(stored, "moved", other_first)
    for _ in range(2):
        reprice.apply(database, PRICER, TODAY)
        assert _sum(database) == [(NEW_NANO, 100, 0)]
        _settled(database)


def test_a_process_whose_lease_ran_out_moves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = _turn(cost_nano=700)
    left_out = Worked(kind=FrameKind.END, trace=gone, facts=facts_of(gone), is_kept=False)
    write_batch(database, Batch(worked=(left_out,)), now_us=START_US)
    moved = stored.moved

    def paused(*given: Any) -> Any:
        monkeypatch.undo()
        with database.write() as connection:
            connection.execute(update(tables.lease).values(expires_at_us=0))
        reprice.apply(database, PRICER, TODAY)
        return moved(*given)

    monkeypatch.setattr(stored, "moved", paused)
    with pytest.raises(InvalidInput, match="took over"):
        reprice.apply(database, PRICER, TODAY)
    assert _sum(database) == [(NEW_NANO, 100, 0)]


def test_sums_of_a_tier_keep_its_prices(database: Database) -> None:
    made = _turn()
    usage = Usage(input_tokens=1000, output_tokens=100)
    steps = tuple(
        replace(step, usage=usage, service_tier="batch", cost=replace(step.cost, tier="batch")) if step.cost else step
        for step in made.observations
    )
    gone = replace(made, observations=steps, usage=usage)
    facts = tuple(replace(fact, tier="batch") if fact.calls else fact for fact in facts_of(gone))
    left_out = Worked(kind=FrameKind.END, trace=gone, facts=facts, is_kept=False)
    write_batch(database, Batch(worked=(left_out,)), now_us=START_US)
    reprice.apply(database, Pricer(), TODAY)
    exact = reprice.price_of(Pricer(), steps[1])
    assert exact is not None
    assert exact.tier == "batch"
    assert _sum(database) == [(exact.total_nano, 1000, 0)]


def test_sums_keep_what_is_charged_by_the_call(database: Database) -> None:
    gone = [_turn(cost_nano=None) for _ in range(3)]
    left_out = tuple(Worked(kind=FrameKind.END, trace=each, facts=facts_of(each), is_kept=False) for each in gone)
    write_batch(database, Batch(worked=left_out), now_us=START_US)
    by_the_call = replace(PRICE, rates_per_mtok={**PRICE.rates_per_mtok, "requests_kcount": "5"})
    reprice.apply(database, Pricer((by_the_call,)), TODAY)
    assert _sum(database) == [(3 * (NEW_NANO + 5_000_000), 300, 0)]


def test_calls_that_failed_do_not_make_the_others_free() -> None:
    row = {
        **{"model": "gpt-4o-mini", "provider": "openai", "at_us": DAY, "price_version": "old", "tier": ""},
        **{"calls": 1000, "input_tokens": 90_000, "output_tokens": 500, "cache_read_tokens": 0},
        **{"cache_write_tokens": 0, "reasoning_tokens": 0, "cost_total_nano": 1},
    }
    found = stored.estimated(row, lambda model, provider, usage, at_us, tier: _priced(usage))
    assert found is not None
    assert found.total_nano == 90_000 * 2000 + 500 * 4000


def _priced(usage: Usage) -> Cost:
    given, answered = (usage.input_tokens or 0) * 2000, (usage.output_tokens or 0) * 4000
    return Cost(input_nano=given, output_nano=answered, total_nano=given + answered, price_version="new")
