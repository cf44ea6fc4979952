"""Scores summed up: over time, by what their turns were, and compared with what people said of the same targets.

A score's time is that of the turn it is about, so that history given to an evaluator lies where it happened; a score of
a session has its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, literal, or_, select

from turntrace.records.dimension import Dimension
from turntrace.records.filter import TraceFilter
from turntrace.records.score import Score
from turntrace.storage import tables
from turntrace.storage.queries import hosted
from turntrace.storage.queries.condition import fits
from turntrace.storage.queries.row import to_score

JUDGED_TYPES: Final = ("numeric", "boolean", "categorical")
GROUPS: Final = ("evaluator", "prompt", "model", "feature", "release", "environment", "experiment", "data_source")
MOST_PAIRS: Final = 5_000

_s = tables.score.c
_t = tables.trace.c
_o = tables.observation.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Mass:
    """Scores of one name in one cell: how many, their sum and sum of squares (true counts 1, false 0).

    Categories are cells of their own: `label` is theirs, and the sums count nothing. `at_us` is the start of an
    interval, `group` the value grouped by, `first_at_us` when the cell's first turn was.
    """

    name: str
    data_type: str
    n: int
    total: float
    squares: float
    label: str | None = None
    at_us: int = 0
    group: str = ""
    source: str = ""
    evaluator: str | None = None
    version: int | None = None
    first_at_us: int = 0


def masses(
    c: Connection,
    filter: TraceFilter,
    *,
    name: str | None = None,
    step_us: int | None = None,
    group: str | None = None,
    dimension: Dimension | None = None,
) -> list[Mass]:
    """Scores of turns and steps in the filter's period, summed by name, source and evaluator.

    Args:
        filter: `from_us`, `to_us`, `environment`, `feature` and `release` are honoured.
        step_us: sum intervals of this length apart.
        group: sum values of one of `GROUPS` apart.
        dimension: instead, values of a column of the host's own; "" of what its table does not know.

    Raises:
        InvalidInput: the database has no such table or column of the host's, or they cannot be read.
    """
    at = func.coalesce(_t.started_at_us, _s.created_at_us)
    start = at - at % step_us if step_us else literal(0)
    value = case((_s.data_type == "boolean", case((_s.flag.is_(True), 1.0), else_=0.0)), else_=_s.number)
    label = case((_s.data_type == "categorical", _label()), else_=None)
    statement = select(
        *(_s.id, _s.name, _s.data_type, _s.source, _s.evaluator, _s.evaluator_version),
        *(label.label("label"), start.label("start"), value.label("value"), at.label("at")),
        (_group(group) if dimension is None else hosted.value_of(dimension)).label("its_group"),
    )
    joined = _joined(statement, group)
    if dimension is not None:
        joined = hosted.join_turns(joined, dimension, c.dialect.name)
    inner = joined.where(*_conditions(filter, name)).distinct().subquery()
    keys = [inner.c[key] for key in ("name", "data_type", "source", "evaluator", "evaluator_version")]
    keys += [inner.c.label, inner.c.start, inner.c.its_group]
    sums = (func.count(), func.sum(inner.c.value), func.sum(inner.c.value * inner.c.value), func.min(inner.c.at))
    return [
        Mass(
            name=row[0],
            data_type=row[1],
            source=row[2],
            evaluator=row[3],
            version=row[4],
            label=row[5],
            at_us=int(row[6]),
            group=row[7] or "",
            n=int(row[8]),
            total=float(row[9] or 0),
            squares=float(row[10] or 0),
            first_at_us=int(row[11]),
        )
        for row in _rows(c, select(*keys, *sums).group_by(*keys), dimension)
    ]


def _rows(c: Connection, statement: Select[Any], dimension: Dimension | None) -> Sequence[Any]:
    if dimension is None:
        return c.execute(statement).all()
    return hosted.read(c, statement, dimension)


def _label() -> ColumnElement[str]:
    """A categorical value, short: MariaDB groups by no long text."""
    return func.substr(_s.text, 1, 200)


def _group(group: str | None) -> ColumnElement[Any]:
    if group is None or group == "evaluator":
        return literal("")
    if group == "prompt":
        return case((_o.prompt_version.is_(None), _o.prompt_name), else_=_o.prompt_name + "@" + _o.prompt_version)
    if group in ("model", "data_source"):
        return _o[group]
    return _t[group]


def _joined(statement: Select[Any], group: str | None) -> Select[Any]:
    joined = statement.join_from(tables.score, tables.trace, _t.id == _s.turn_id, isouter=True)
    if group == "data_source":  # what was found anywhere in the turn: the step that is judged has found nothing itself
        return joined.join(tables.observation, and_(_o.turn_id == _s.turn_id, _o.type == "retrieval"))
    if group not in ("model", "prompt"):
        return joined
    its_call = and_(_o.turn_id == _s.turn_id, _o.type == "generation", _is_same_step())
    return joined.join(tables.observation, its_call)


def _is_same_step() -> ColumnElement[bool]:
    """A score of a step is about its own call; one of a turn about each call of the turn."""
    return func.coalesce(_s.span_id, _o.span_id) == _o.span_id


def _conditions(filter: TraceFilter, name: str | None) -> list[Any]:
    at = func.coalesce(_t.started_at_us, _s.created_at_us)
    found: list[Any] = [_s.data_type.in_(JUDGED_TYPES)]
    if name is not None:
        found.append(_s.name == name)
    if filter.from_us is not None:
        # A score is never older than its turn: the index of scores bounds what is read.
        found += [_s.created_at_us >= filter.from_us, at >= filter.from_us]
    if filter.to_us is not None:
        found.append(at < filter.to_us)
    environment = func.coalesce(_t.environment, _s.environment)
    if filter.environment is not None:
        found.append(fits(func.coalesce(environment, ""), filter.environment))
    found += [_t[key] == getattr(filter, key) for key in ("feature", "release") if getattr(filter, key) is not None]
    return found


def worst(
    c: Connection, filter: TraceFilter, *, name: str, is_low_bad: bool, bad: Sequence[str] = (), limit: int = 10
) -> list[Score]:
    """The worst scores of a name, the newest of equals first: the lowest or highest numbers, bad booleans, and of
    categories those in `bad`."""
    value = case((_s.data_type == "boolean", case((_s.flag.is_(True), 1.0), else_=0.0)), else_=_s.number)
    statement = _joined(select(tables.score), None).where(*_conditions(filter, name), _s.turn_id.is_not(None))
    is_bad = [_s.data_type == "numeric", and_(_s.data_type == "boolean", _s.flag.is_(not is_low_bad))]
    statement = statement.where(or_(*is_bad, _s.text.in_(bad)))
    order = (value.asc() if is_low_bad else value.desc(), _s.created_at_us.desc(), _s.id)
    rows = c.execute(statement.order_by(*order).limit(limit)).mappings()
    return [to_score(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What an evaluator and a person, two persons, or two versions of an evaluator said of the same thing under the
    same name. `other_version` is of the third kind; `at_us` is when the second of the two said it."""

    name: str
    evaluator: str | None
    version: int | None
    ours: float | bool | str
    theirs: float | bool | str
    other_version: int | None = None
    at_us: int = 0


def with_people(c: Connection, *, from_us: int, name: str | None = None) -> list[Pair]:
    """Verdicts of evaluators beside those of people on the same turns and steps, the newest first."""
    return _pairs(c, "evaluator", from_us, name)


def among_people(c: Connection, *, from_us: int, name: str | None = None) -> list[Pair]:
    """Verdicts of two people on the same turns and steps, the newest first."""
    return _pairs(c, "human", from_us, name)


def between_versions(c: Connection, *, from_us: int, name: str, evaluator: str) -> list[Pair]:
    """Verdicts of two versions of an evaluator on the same turns and steps, the newest first."""
    return _pairs(c, "evaluator", from_us, name, evaluator=evaluator)


def _pairs(c: Connection, source: str, from_us: int, name: str | None, *, evaluator: str | None = None) -> list[Pair]:
    one, other = tables.score.alias("one"), tables.score.alias("other")
    a, b = one.c, other.c
    is_same = and_(
        a.turn_id == b.turn_id,
        func.coalesce(a.span_id, "") == func.coalesce(b.span_id, ""),
        a.name == b.name,
        a.data_type == b.data_type,
        a.id != b.id,
    )
    if evaluator is None:
        is_same = and_(is_same, b.source == "human")
    else:
        is_same = and_(is_same, b.source == source, b.evaluator == evaluator, a.evaluator_version < b.evaluator_version)
    if source == "human":
        is_same = and_(is_same, a.author < b.author)
    columns: list[Any] = [a.name, a.evaluator, a.evaluator_version, a.data_type]
    columns += [b.evaluator_version.label("other_version"), b.created_at_us.label("at_us")]
    columns += [table.c[key].label(f"{mark}_{key}") for table, mark in ((one, "a"), (other, "b")) for key in _VALUES]
    statement = select(*columns).join_from(one, other, is_same)
    wanted = [a.source == source, a.created_at_us >= from_us, a.data_type.in_(JUDGED_TYPES)]
    if name is not None:
        wanted.append(a.name == name)
    if evaluator is not None:
        wanted.append(a.evaluator == evaluator)
    rows = c.execute(statement.where(*wanted).order_by(a.created_at_us.desc()).limit(MOST_PAIRS)).mappings()
    return [
        Pair(
            name=row["name"],
            evaluator=row["evaluator"],
            version=row["evaluator_version"],
            ours=_value(row, "a"),
            theirs=_value(row, "b"),
            other_version=row["other_version"],
            at_us=int(row["at_us"]),
        )
        for row in rows
    ]


DISPUTED_DISTANCE: Final = 0.5  # between the lowest and the highest of numbers


def disputed(c: Connection, name: str, *, from_us: int, to_us: int, limit: int) -> frozenset[str]:
    """Turns of a period about which two scores of one name say different things: a judge and a person, two judges, two
    persons. Numbers do where they lie `DISPUTED_DISTANCE` or more apart."""
    values = (func.count(_s.flag.distinct()), func.count(case((_s.data_type == "categorical", _label())).distinct()))
    is_apart = func.max(_s.number) - func.min(_s.number) >= DISPUTED_DISTANCE
    statement = (
        select(_s.turn_id)
        .join_from(tables.score, tables.trace, _t.id == _s.turn_id)
        .where(_s.name == name, _t.started_at_us >= from_us, _t.started_at_us < to_us)
        .group_by(_s.turn_id, func.coalesce(_s.span_id, ""))
        .having(or_(*(value > 1 for value in values), is_apart))
    )
    return frozenset(c.execute(statement.limit(limit)).scalars())


def label_counts(c: Connection, *, from_us: int) -> dict[tuple[str, str], int]:
    """How many verdicts of each evaluator people have judged as well, by name of the score and of the evaluator; among
    the newest 5,000 judgements of people."""
    by_people = select(_s.turn_id, _s.span_id, _s.name).where(
        _s.source == "human", _s.created_at_us >= from_us, _s.turn_id.is_not(None)
    )
    newest = by_people.order_by(_s.created_at_us.desc(), _s.id.desc()).limit(MOST_PAIRS).subquery("human")
    judged, human = tables.score.alias("judged").c, newest.c
    is_same = and_(
        judged.turn_id == human.turn_id,
        func.coalesce(judged.span_id, "") == func.coalesce(human.span_id, ""),
        judged.name == human.name,
        judged.source == "evaluator",
    )
    statement = (
        select(judged.name, judged.evaluator, func.count())
        .join_from(newest, judged.id.table, is_same)
        .where(judged.evaluator.is_not(None))
        .group_by(judged.name, judged.evaluator)
    )
    return {(name, evaluator): int(n) for name, evaluator, n in c.execute(statement)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A verdict with the length of what it is about, in tokens of the answer."""

    value: float | bool | str
    tokens: int


def sized(c: Connection, filter: TraceFilter, *, name: str, evaluator: str, limit: int = MOST_PAIRS) -> list[Sized]:
    """An evaluator's latest verdicts on turns and steps whose answer's length is known."""
    its_step = and_(_o.turn_id == _s.turn_id, _o.span_id == _s.span_id)
    tokens = func.coalesce(_o.output_tokens, _t.output_tokens)
    columns = [_s.data_type, *(_s[key].label(f"a_{key}") for key in _VALUES), tokens.label("tokens")]
    statement = (
        select(*columns)
        .join_from(tables.score, tables.trace, _t.id == _s.turn_id)
        .join(tables.observation, its_step, isouter=True)
        .where(*_conditions(filter, name), _s.source == "evaluator", _s.evaluator == evaluator, tokens > 0)
    )
    rows = c.execute(statement.order_by(_s.created_at_us.desc(), _s.id).limit(limit)).mappings()
    return [Sized(value=_value(row, "a"), tokens=int(row["tokens"])) for row in rows]


_VALUES: Final = ("number", "flag", "text")


def _value(row: Any, mark: str) -> float | bool | str:
    if row["data_type"] == "numeric":
        return float(row[f"{mark}_number"])
    return bool(row[f"{mark}_flag"]) if row["data_type"] == "boolean" else str(row[f"{mark}_text"])
