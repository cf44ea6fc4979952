"""What a person may see, whatever the statement: on the three databases."""

import time
from dataclasses import replace

import pytest
from sqlalchemy import Connection, select, text

from tests.integration.panel.scene import scene, store
from turntrace.errors import Forbidden
from turntrace.records.filter import TraceFilter
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import scores as stored_scores
from turntrace.storage import tables
from turntrace.storage.database import Database
from turntrace.storage.queries import costs, facets, overview, sessions, users
from turntrace.storage.queries.observations import get_observation, list_observations
from turntrace.storage.queries.scores import list_scores
from turntrace.storage.queries.traces import count_traces, find_traces, list_traces
from turntrace.storage.seal import Sealed
from turntrace.storage.sight import COMMON, CONTENT, TEXTS, Scope, Sight, seen_by

NUMBERS = Sight(with_content=False)
# Text columns that hold no texts of the host's users: names, counts, settings, what staff wrote for everybody.
PLAIN = {
    "trace": {"tags", "models", "usage_details", "flags"},
    "observation": {"usage_details", "usage_aggregate", "finish_reasons", "tags", "flags"},
    "alert_rule": {"definition", "sealed"},
    "alert": {"details"},
    "probe": {"definition", "sealed"},
    "dataset": {"description", "details"},
    "experiment": {"description", "details"},
    "experiment_run": {"details", "summary"},
    "erasure": {"counts", "verification"},
    "audit": {"details"},
    "price": {"rates"},
    "saved_view": {"query"},
    "process": {"dropped", "faults"},
    "job_run": {"details"},
    "setting": {"value"},
    "prompt": {"description"},
    "prompt_version": {"body", "config", "commit_message"},
    "evaluator_version": {"definition", "sealed"},
    "backfill": {"cursor"},
    "score_config": {"categories", "description"},
    "annotation_queue": {"description", "definition"},
    "histogram": {"counts"},
    "spending": {"grants"},
}


def _now() -> int:
    return time.time_ns() // 1000


def _scene(now_us: int) -> list[Trace]:
    """Turns of two tenants, told apart by environment, feature and tag; each text names its tenant."""
    turns = []
    for index, trace in enumerate(scene(now_us, turns=24)):
        tenant = ("acme", "zenith")[index // 4 % 2]
        changed = replace(trace, environment=tenant, feature=f"of-{tenant}", tags=(f"tenant:{tenant}",), scores=())
        turns.append(replace(changed, session_id=f"{tenant}-{index // 4}", user_id=f"{tenant}-user"))
    return turns


@pytest.fixture
def two(database: Database) -> Database:
    """A database with the turns of two tenants."""
    now_us = _now()
    traces = _scene(now_us)
    store(database, traces, now_us)
    for trace in traces:
        made = Score(id=f"s{trace.id}"[:64], name="note", value="secret word", data_type="text", source="human",
                     turn_id=trace.id, comment="secret comment")  # fmt: skip
        database.transact(stored_scores.upsert, made, now_us=now_us)
    return database


def _all_of(c: Connection) -> list[object]:
    """What every query of the read side answers."""
    page = list_traces(c, limit=100)
    first = page.items[0] if page.items else None
    found: list[object] = [page, list_observations(c, limit=500), list_scores(c, limit=100)]
    found += [sessions.list_sessions(c, limit=100), users.list_users(c, limit=100), facets.facets(c)]
    if first is not None:
        found += [find_traces(c, first.id), get_observation(c, list_observations(c, limit=1).items[0].id)]
        found += [sessions.get_session(c, first.session_id or "", first.user_id)]
    found.append(overview.overview(c, from_us=_now() - 7 * 86_400_000_000, to_us=_now()))
    found += [costs.costs(c, group_by=(name,)) for name in ("feature", "environment", "user", "session")]
    return found


def test_no_query_gives_texts_to_people_who_see_numbers(two: Database) -> None:
    with two.read() as whole, seen_by(two, NUMBERS).read() as c:
        assert "descale" in repr(_all_of(whole))
        assert "secret word" in repr(_all_of(whole))
        shown = repr(_all_of(c))
        for word in ("descale", "vinegar", "secret word", "secret comment", "Rate limit reached", "Be brief", "gold'"):
            assert word not in shown
        assert count_traces(c) == 24
        assert list_traces(c, limit=1).items[0].cost_total_nano == 225_600
        assert c.execute(select(tables.content)).all() == []
        # Searching for a text tells nothing about it either.
        for wanted in (TraceFilter(q="descale"), TraceFilter(score="note=secret word")):
            assert count_traces(whole, wanted) > 0
            assert count_traces(c, wanted) == 0
        assert count_traces(c, TraceFilter(q="acme")) == count_traces(whole, TraceFilter(q="acme")) > 0


def test_a_scope_hides_other_tenants_from_every_query(two: Database) -> None:
    with two.read() as whole:
        other = next(item for item in list_traces(whole, limit=100).items if item.environment == "zenith")
    for scope in (Scope(environments=("acme",)), Scope(features=("of-acme",)), Scope(tags=("tenant:acme",))):
        with seen_by(two, Sight(scope=scope)).read() as c:
            shown = repr(_all_of(c))
            assert "zenith" not in shown
            assert "acme" in shown
            assert "secret word" in shown
            assert count_traces(c) == 12
            assert len(list_observations(c, limit=500).items) == 72
            assert len(list_scores(c, limit=100).items) == 12
            assert len(sessions.list_sessions(c).items) == 3
            assert find_traces(c, other.id) == () == find_traces(c, other.trace_id)
            assert sessions.get_session(c, other.session_id or "") is None
    for scope in (Scope(environments=()), Scope(features=()), Scope(tags=())):
        with seen_by(two, Sight(scope=scope)).read() as c:
            assert count_traces(c) == 0
            assert "acme" not in repr(_all_of(c))
    mine = seen_by(two, Sight(scope=Scope(environments=("acme",))))
    with mine.write() as c:
        changed = c.execute(tables.score.update().values(comment="changed")).rowcount
        removed = c.execute(tables.score.delete().where(tables.score.c.environment == "zenith")).rowcount
    assert (changed, removed) == (12, 0)
    with two.read() as whole:
        assert sum(item.comment == "changed" for item in list_scores(whole, limit=100).items) == 12


def _shared(database: Database, **told_apart: tuple[object, object]) -> tuple[Trace, Trace]:
    """Two turns of nobody known in one conversation, alike but for what tells the tenants apart."""
    now_us = _now()
    made = [replace(item, session_id="1", user_id=None, scores=()) for item in scene(now_us, turns=2)]
    own, other = (
        replace(item, **{name: values[index] for name, values in told_apart.items()})  # type: ignore[arg-type]
        for index, item in enumerate(made)
    )
    store(database, [own, other], now_us)
    return own, other


@pytest.mark.parametrize(
    ("scope", "told_apart"),
    [
        (Scope(environments=("acme",)), {"environment": ("acme", "zenith")}),
        (Scope(features=("acme",)), {"feature": ("acme", "zenith")}),
        (Scope(tags=("acme",)), {"tags": (("acme",), ("zenith",))}),
    ],
)
def test_a_conversation_of_two_tenants_shows_each_its_own_sums(
    database: Database, scope: Scope, told_apart: dict[str, tuple[object, object]]
) -> None:
    own, _ = _shared(database, **told_apart)
    with database.read() as whole:
        assert sessions.list_sessions(whole).items[0].trace_count == 2
    with seen_by(database, Sight(scope=scope)).read() as c:
        (listed,) = sessions.list_sessions(c).items
        opened = sessions.get_session(c, "1")
        (turn,) = list_traces(c).items
    assert opened is not None
    assert turn.usage is not None
    for found in (listed, opened):
        assert found.trace_count == 1
        assert found.error_count == (own.status == "error")
        assert found.cost_total_nano == turn.cost_total_nano
        assert (found.input_tokens, found.output_tokens) == (turn.usage.input_tokens, turn.usage.output_tokens)
        assert found.duration_us == turn.duration_us
        assert isinstance(found.duration_us, int)
        assert (found.first_at_us, found.environment) == (turn.started_at_us, turn.environment)


def test_a_tag_of_another_tenant_that_differs_in_case_is_not_seen(database: Database) -> None:
    own, _ = _shared(database, tags=(("tenant:acme",), ("tenant:ACME",)))
    with seen_by(database, Sight(scope=Scope(tags=("tenant:acme",)))).read() as c:
        assert [item.id for item in list_traces(c).items] == [own.id]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_text_that_cannot_be_narrowed_is_refused(two: Database) -> None:
    with seen_by(two, NUMBERS).read() as c:
        for statement in ("SELECT input_preview FROM turntrace_trace", "SELECT * FROM turntrace_new_table"):
            with pytest.raises(Forbidden):
                c.execute(text(statement))
        with pytest.raises(Forbidden):
            c.exec_driver_sql("SELECT data FROM turntrace_content")
        assert c.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_table_that_nothing_is_said_of_has_no_rows_for_people_with_a_scope(two: Database) -> None:
    named = COMMON | {tables.trace, tables.session, tables.score, tables.rollup, tables.histogram}
    with seen_by(two, Sight(scope=Scope(environments=("acme",)))).read() as c:
        for table in (tables.process, tables.loss, tables.api_key, tables.tombstone, tables.erasure):
            assert table not in named
            assert c.execute(select(table)).all() == []


def test_every_text_column_is_known_as_content_or_not() -> None:
    for name, table in tables.metadata.tables.items():
        short = name.removeprefix(tables.PREFIX)
        texts = {column.name for column in table.c if str(column.type) in ("TEXT", "BLOB", "LONGTEXT")}
        sealed = {column.name for column in table.c if isinstance(column.type, Sealed)}
        assert sealed <= set(TEXTS.get(table, ())), f"{short}: what is sealed at rest is nothing for a viewer"
        hidden = set(TEXTS.get(table, ())) | (texts if table in CONTENT else set())
        assert texts <= hidden | PLAIN.get(short, set()), f"{short}: say in sight.TEXTS or here what these columns hold"


@pytest.mark.parametrize("given", [{}, {"team": "a"}, {"environment": 7}, {"tag": ["a", 3]}])
def test_a_scope_that_is_not_understood_is_refused(given: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Scope.of(given)
