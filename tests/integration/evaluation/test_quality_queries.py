"""Scores summed up by what their turns were, by where documents came from, and by what the host knows of its users."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.integration.accounts import PLAN, TIER, accounts
from tests.integration.evaluation.bench import NOW_US, put, some
from turntrace.errors import InvalidInput
from turntrace.records.dimension import Dimension
from turntrace.records.filter import TraceFilter
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import scores
from turntrace.storage.database import Database
from turntrace.storage.queries import quality as queries


@pytest.fixture
def host(database: Database) -> Iterator[Database]:
    with accounts(database) as found:
        yield found


def judged(database: Database, trace: Trace, value: bool, *, version: int = 1, span_id: str | None = None) -> None:
    score = Score(
        id=f"{trace.id[-12:]}-{version}",
        name="grounded",
        value=value,
        data_type="boolean",
        source="evaluator",
        turn_id=trace.id,
        span_id=span_id,
        evaluator="grounder",
        evaluator_version=version,
    )
    database.transact(scores.upsert, score, now_us=NOW_US)


def _by(
    database: Database, group: str | None = None, dimension: Dimension | None = None
) -> dict[str, tuple[int, float]]:
    with database.read() as c:
        found = queries.masses(c, TraceFilter(), name="grounded", group=group, dimension=dimension)
    return {mass.group: (mass.n, mass.total) for mass in found}


def test_scores_are_told_apart_by_where_the_documents_came_from(database: Database) -> None:
    first, second, third = some(3)
    retrieval, call = second.observations
    second = replace(second, observations=(replace(retrieval, retrieval={"data_source": "faq", "top_k": 3}), call))
    third = replace(third, observations=(replace(third.observations[0], retrieval=None), third.observations[1]))
    put(database, first, second, third)
    judged(database, first, True)
    judged(database, second, False, span_id="2" * 16)  # of the model's step: what it was given counts
    judged(database, third, True)
    assert _by(database, "data_source") == {"kb": (1, 1.0), "faq": (1, 0.0), "": (1, 1.0)}


def test_scores_are_told_apart_by_the_hosts_column_and_none_counts_twice(host: Database) -> None:
    traces = [replace(trace, user_id=user) for trace, user in zip(some(4), ("1", "2", "3", "x"), strict=True)]
    put(host, *traces)
    for trace, value in zip(traces, (True, False, True, False), strict=True):
        judged(host, trace, value)
    assert _by(host, dimension=PLAN) == {"pro": (2, 2.0), "free": (1, 0.0), "": (1, 0.0)}


def test_the_hosts_column_is_found_by_a_tag_too(host: Database) -> None:
    tags: tuple[tuple[str, ...], ...] = (("tenant:acme",), ("x:acme", "tenant:blue"), ("tenant:acm",))
    traces = [replace(trace, tags=own) for trace, own in zip(some(3), tags, strict=True)]
    put(host, *traces)
    for trace in traces:
        judged(host, trace, True)
    assert _by(host, dimension=TIER) == {"2": (1, 1.0), "1": (1, 1.0), "": (1, 1.0)}


def test_a_table_that_is_not_there_is_said(database: Database) -> None:
    with pytest.raises(InvalidInput, match="plan: the table 'account' cannot be read"):
        _by(database, dimension=PLAN)


def test_versions_are_compared_where_both_judged_the_same(database: Database) -> None:
    both, one = some(2)
    put(database, both, one)
    judged(database, both, True)
    judged(database, both, False, version=2)
    judged(database, one, True, version=2)
    with database.read() as c:
        (pair,) = queries.between_versions(c, from_us=0, name="grounded", evaluator="grounder")
        assert queries.with_people(c, from_us=0) == []
        sized = queries.sized(c, TraceFilter(), name="grounded", evaluator="grounder")
    assert (pair.version, pair.other_version, pair.ours, pair.theirs) == (1, 2, True, False)
    assert sorted((item.value, item.tokens) for item in sized) == [(False, 20), (True, 20), (True, 20)]
