"""Roll-ups checked against the rows and made anew from them; the commands about money."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from tests.integration.turns import START_US, failed, turn
from turntrace import cli
from turntrace.records.batch import Batch, Worked
from turntrace.records.fragment import FrameKind
from turntrace.records.rollup import RollupFact
from turntrace.records.trace import Trace
from turntrace.storage import narrow, recount, restate, rollups, tables
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.costs import costs
from turntrace.storage.rollups import DAY_US

DAY = START_US - START_US % DAY_US


def _turn(made: Trace) -> Trace:
    """With the price version that the tests' facts have."""
    steps = tuple(
        replace(step, cost=replace(step.cost, price_version="test")) if step.cost else step
        for step in made.observations
    )
    return replace(made, observations=steps)


def _facts(trace: Trace) -> tuple[RollupFact, ...]:
    """As the pipeline counts: it is tested elsewhere that rows say the same."""
    row = dict(zip(narrow.TRACE_COLUMNS, narrow.trace_row(trace, is_final=True, now_us=0), strict=True))
    steps = [
        dict(zip(narrow.OBSERVATION_COLUMNS, narrow.observation_row(step, trace), strict=True))
        for step in trace.observations
    ]
    return tuple(restate.facts_of(row, steps, frozenset({"plan"})))


def _store(database: Database, *traces: Trace) -> None:
    made = [_turn(trace) for trace in traces]
    worked = tuple(Worked(kind=FrameKind.END, trace=trace, facts=_facts(trace)) for trace in made)
    write_batch(database, Batch(worked=worked), now_us=START_US)


def _compacted(database: Database) -> None:
    while rollups.compact(database):
        pass


def _report(database: Database) -> list[Any]:
    with database.read() as connection:
        return [costs(connection, group_by=[name]) for name in ("model", "user", "route", "tag:plan")]


@pytest.mark.parametrize("is_compacted", [False, True])
def test_sums_that_were_damaged_are_found_and_made_anew(database: Database, is_compacted: bool) -> None:
    _store(database, turn(tags=("plan:pro",)), turn(cost_nano=None, user_id="u-2"), failed(started_at_us=DAY - 5))
    before = _report(database)
    if is_compacted:
        _compacted(database)
    with database.read() as connection:
        assert recount.days(connection, None, None) == [DAY - DAY_US, DAY]
        assert all(recount.check(connection, at_us).is_equal for at_us in (DAY - DAY_US, DAY))
    with database.write() as connection:
        r = tables.rollup.c
        connection.execute(update(tables.rollup).where(r.cost_total_nano != 0).values(cost_total_nano=1))
    with database.read() as connection:
        day = recount.check(connection, DAY)
        assert not day.is_equal
        assert day.is_complete
    for at_us in (DAY - DAY_US, DAY):
        database.transact(recount.rebuild, at_us, ("plan",))
    for _ in range(2):
        assert _report(database) == before
        with database.read() as connection:
            assert recount.check(connection, DAY).is_equal
            lengths = connection.execute(select(func.count()).select_from(tables.histogram)).scalar_one()
            assert lengths > 0
        _compacted(database)


def test_turns_known_by_their_sums_alone_are_not_lost(database: Database) -> None:
    kept, gone = turn(), turn()
    _store(database, kept)
    left_out = Worked(kind=FrameKind.END, trace=gone, facts=_facts(gone), is_kept=False)
    write_batch(database, Batch(worked=(left_out,)), now_us=START_US)
    before = _report(database)
    with pytest.raises(ValueError, match="1 turns of this day"):
        database.transact(recount.rebuild, DAY)
    assert _report(database) == before
    database.transact(recount.rebuild, DAY, is_lossy=True)
    with database.read() as connection:
        assert costs(connection)[0].turns == 1


def _run(database: Database, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main([*words, "--database-url", database.url.render_as_string(hide_password=False)])
    said = capsys.readouterr()
    return code, said.out or said.err


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_commands_check_and_rebuild(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    _store(database, turn(), turn())
    assert _run(database, capsys, "rollups", "check") == (0, "2026-11-20  equal: 2 turns, 2 calls\n")
    with database.write() as connection:
        connection.execute(delete(tables.rollup))
    code, said = _run(database, capsys, "rollups", "check")
    assert code == 1
    assert "DIFFERENT in turns, calls" in said
    assert _run(database, capsys, "rollups", "rebuild") == (0, "1 days corrected\n")
    assert _run(database, capsys, "rollups", "check", "--from", "2026-11-20")[0] == 0


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_commands_import_preview_and_reprice(
    database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _store(database, turn(cost_nano=700))
    path = tmp_path / "prices.json"
    price = {
        "provider": "*",
        "model": "gpt-4o-mini",
        "effective_from": "2026-11-01T00:00:00Z",
        "rates_per_mtok": {"input_mtok": "2", "output_mtok": "4"},
    }
    path.write_text(json.dumps([price, price], indent=1))
    code, said = _run(database, capsys, "prices", "import", str(path))
    assert code == 1
    assert "line 11" in said
    path.write_text(json.dumps([price]))
    assert _run(database, capsys, "prices", "import", str(path))[0] == 0
    assert json.loads(_run(database, capsys, "prices", "export")[1]) == [price]
    (model,) = json.loads(_run(database, capsys, "prices", "export", "--shape", "langfuse")[1])
    assert (model["modelName"], model["inputPrice"]) == ("gpt-4o-mini", 2e-06)
    span = ("reprice", "--from", "2026-11-20", "--to", "2026-11-20", "--json")
    preview = json.loads(_run(database, capsys, *span)[1])
    assert preview["models"]["gpt-4o-mini"]["after"] == "0.000280000"
    with database.read() as connection:
        assert costs(connection)[0].cost_total_nano == 700
    assert json.loads(_run(database, capsys, *span, "--apply")[1])["changed"] == 1
    with database.read() as connection:
        assert costs(connection)[0].cost_total_nano == 280_000
    assert _run(database, capsys, "reprice", "--from", "yesterday")[0] == 1
