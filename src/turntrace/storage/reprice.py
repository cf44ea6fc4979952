"""Costs of a span of history computed anew from the usage that is stored: raw usage never changes.

Turns that still have their rows are priced call by call, exactly. What only the roll-ups hold (sampled out, or past
retention) can be priced by its sums of tokens; such rows carry a `~` behind their price version: an estimate.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from turntrace.records.observation import Observation
from turntrace.records.usage import Cost, Usage
from turntrace.storage import bulk, late, restate, rollups, tables, tombstones
from turntrace.storage.late import StoredTurn
from turntrace.storage.queries.row import to_observation
from turntrace.storage.rollups import Rollup
from turntrace.storage.sessions import SessionTotals
from turntrace.storage.tables import length

ESTIMATE: Final = "~"
_o, _t, _r = tables.observation.c, tables.trace.c, tables.rollup.c
_KEY: Final = (
    *("grain", "at_us", "dimension", "value", "model", "provider", "feature", "environment"),
    *("price_version", "tier"),
)
_SUMS: Final = (
    *("turns", "calls", "errors", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_write_tokens", "reasoning_tokens", "cost_input_nano", "cost_output_nano", "cost_total_nano"),
    *("duration_us", "duration_count", "ttft_us", "ttft_count", "own_us"),
)

Price = Callable[[Observation], Cost | None]
# Model, provider, usage, instant, tier → cost.
PriceSums = Callable[[str, str, Usage, int, str], Cost | None]
Place = tuple[int, str, str]  # started_at_us, turn_id, span_id


@dataclass(slots=True)
class Change:
    """Calls of one model: how many, how many get another cost, and the sums before and after (nano-dollars)."""

    calls: int = 0
    changed: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0
    before_nano: int = 0
    after_nano: int = 0
    changed_before_nano: int = 0
    changed_after_nano: int = 0


@dataclass(slots=True)
class Preview:
    """What re-pricing would change, by model."""

    models: dict[str, Change] = field(default_factory=dict)

    def add(self, observation: Observation, cost: Cost | None) -> None:
        """Count one call and what it would cost."""
        change = self.models.setdefault(observation.model or rollups.UNKNOWN_MODEL, Change())
        old = observation.cost
        before, after = old.total_nano if old else 0, cost.total_nano if cost else 0
        change.calls += 1
        change.unpriced_before += old is None
        change.unpriced_after += cost is None
        change.before_nano += before
        change.after_nano += after
        if not same(old, cost):
            change.changed += 1
            change.changed_before_nano += before
            change.changed_after_nano += after


def same(old: Cost | None, new: Cost | None) -> bool:
    """Whether two costs are alike in all that is stored of them."""
    return old == new


def calls(
    connection: Connection, *, from_us: int, to_us: int, model: str | None, after: Place | None, limit: int
) -> list[Observation]:
    """Model calls with usage in a span, oldest first; what a provider stated itself is not priced by anybody else."""
    where: list[ColumnElement[bool]] = [
        _o.started_at_us >= (after[0] if after else from_us),
        _o.started_at_us < to_us,
        _o.type.in_(restate.MODEL_CALLS),
        _o.is_usage_estimated.is_not(None),
        func.coalesce(_o.cost_source, "") != "provider",
    ]
    if model is not None:
        where.append(_o.model == model)
    if after is not None:
        where.append(_later(after))
    names = select(_t.trace_id, _t.session_id, _t.user_id).where(_t.id == _o.turn_id)
    columns = [column for column in tables.observation.c]
    order = (_o.started_at_us, _o.turn_id, _o.span_id)
    statement = select(*columns).where(*where, names.exists()).order_by(*order).limit(limit)
    nobody = {"trace_id": "", "session_id": None, "user_id": None}
    return [to_observation(row, nobody) for row in connection.execute(statement).mappings()]


def _later(after: Place) -> ColumnElement[bool]:
    at_us, turn_id, span_id = after
    same_time = and_(_o.started_at_us == at_us, _o.turn_id == turn_id, _o.span_id > span_id)
    return (_o.started_at_us > at_us) | and_(_o.started_at_us == at_us, _o.turn_id > turn_id) | same_time


def place_of(observation: Observation) -> Place:
    """Where to go on after this call."""
    return observation.started_at_us, observation.turn_id, observation.span_id


def apply(connection: Connection, observations: Sequence[Observation], price: Price, *, now_us: int) -> int:
    """Price these calls anew; answers how many got another cost. Rows, totals and roll-ups change together."""
    tombstones.take_fence(connection, exclusive=True)
    wanted = {(each.turn_id, each.span_id): price(each) for each in observations}
    turns = late.load(connection, {turn_id for turn_id, _ in wanted}, with_content=set())
    rollup, sessions = Rollup(), SessionTotals()
    declared = late.declared(connection, rollup, (), turns.values())
    changed = 0
    for turn_id in sorted(turns):
        changed += _reprice(connection, turns[turn_id], wanted, declared, rollup, sessions, now_us)
    sessions.store(connection)
    rollup.append(connection)
    return changed


def _reprice(
    connection: Connection,
    turn: StoredTurn,
    wanted: Mapping[tuple[str, str], Cost | None],
    declared: frozenset[str],
    rollup: Rollup,
    sessions: SessionTotals,
    now_us: int,
) -> int:
    turn_id = turn.row["id"]
    changes = {
        span_id: found
        for span_id, row in turn.observations.items()
        if (turn_id, span_id) in wanted and (found := _columns(wanted[turn_id, span_id])) and _differs(row, found)
    }
    if not changes:
        return 0
    old_row = dict(turn.row)
    before = Counter(restate.facts_of(old_row, [dict(row) for row in turn.observations.values()], declared))
    for span_id, found in changes.items():
        turn.observations[span_id] = {**turn.observations[span_id], **found}
        connection.execute(update(tables.observation).where(_o.turn_id == turn_id, _o.span_id == span_id).values(found))
    turn.row.update(restate.sums_of(turn.observations.values()))
    names = ("cost_input_nano", "cost_output_nano", "cost_total_nano", "unpriced_count")
    values = {name: turn.row[name] for name in names}
    connection.execute(update(tables.trace).where(_t.id == turn_id).values(**values, updated_at_us=now_us))
    if turn.row["is_final"]:
        after = Counter(restate.facts_of(turn.row, turn.observations.values(), declared))
        for facts, sign in ((before - after, -1), (after - before, 1)):
            for fact in facts.elements():
                rollup.add(fact, sign)
        sessions.add_row(old_row, -1)
        sessions.add_row(turn.row, 1)
    return len(changes)


def _columns(cost: Cost | None) -> dict[str, Any]:
    return {
        "cost_input_nano": cost.input_nano if cost else None,
        "cost_output_nano": cost.output_nano if cost else None,
        "cost_total_nano": cost.total_nano if cost else None,
        "cost_source": cost.source if cost else None,
        "price_version": cost.price_version if cost else None,
        "price_tier": cost.tier if cost else None,
    }


def _differs(row: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    compared = ("cost_input_nano", "cost_output_nano", "cost_total_nano", "price_version", "price_tier")
    return any((row[name] or None) != (found[name] or None) for name in compared)


# --- what only roll-ups hold ----------------------------------------------------------------------------------------


def rest(connection: Connection, *, from_us: int, to_us: int, model: str | None) -> Iterator[dict[str, Any]]:
    """Sums of model calls by key, of whole days."""
    where = [_r.at_us >= from_us, _r.at_us < to_us, _r.model != "", _is_own_grain()]
    if model is not None:
        where.append(_r.model == model)
    columns = [_r[name] for name in _KEY]
    sums = [func.sum(_r[name]).label(name) for name in _SUMS]
    for row in connection.execute(select(*columns, *sums).where(*where).group_by(*columns)).mappings():
        found = {**row, **{name: int(row[name] or 0) for name in _SUMS}}
        if any(found[name] for name in _SUMS):
            yield found


def _is_own_grain() -> ColumnElement[bool]:
    """Rows that are written as such: days of hours are the compactor's."""
    of_people = _r.dimension.in_(rollups.PEOPLE)
    return and_(of_people, _r.grain == "day") | and_(~of_people, _r.grain.in_(("hour", "minute")))


def estimated(row: Mapping[str, Any], price: PriceSums) -> Cost | None:
    """What sums of a key cost at another price than theirs: that of the average call; None where there is no other.

    Tiers by the size of a call are those of the average. Costs that providers stated stand as they are.
    """
    if not row["calls"] or not row["input_tokens"] + row["output_tokens"]:
        return None
    if not row["price_version"] and row["cost_total_nano"]:
        return None
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    # Calls that failed count, too, without a token: no sum of tokens is to be nothing on the average.
    calls = min((row[name] for name in ("calls", "input_tokens", "output_tokens") if row[name]), key=abs)
    average = {name: row[name] // calls for name in names}
    found = price(row["model"], row["provider"], Usage(**average), row["at_us"], row["tier"])
    if found is None or found.price_version == row["price_version"].removesuffix(ESTIMATE):
        return None
    input_nano = _scaled(found.input_nano or 0, row["input_tokens"], average["input_tokens"])
    output_nano = _scaled(found.output_nano or 0, row["output_tokens"], average["output_tokens"])
    each_nano = found.total_nano - (found.input_nano or 0) - (found.output_nano or 0)  # charged by the call
    version = found.price_version[: length.PRICE_VERSION - 1] + ESTIMATE
    return Cost(
        input_nano=input_nano,
        output_nano=output_nano,
        total_nano=input_nano + output_nano + each_nano * row["calls"],
        source=found.source,
        price_version=version,
    )


def _scaled(nano: int, tokens: int, average: int) -> int:
    return round(Fraction(nano * tokens, average)) if average else 0


def moved(row: Mapping[str, Any], cost: Cost) -> list[bulk.Values]:
    """The two rows that move sums of a key to their new price: what was, taken back, and what is."""
    new = {
        **row,
        "price_version": cost.price_version,
        "unpriced": 0,
        "cost_input_nano": cost.input_nano or 0,
        "cost_output_nano": cost.output_nano or 0,
        "cost_total_nano": cost.total_nano,
    }
    old = {**row, **{name: -row[name] for name in _SUMS}}
    return [(False, *(each[name] for name in (*_KEY, *_SUMS))) for each in (old, new)]


def append(connection: Connection, rows: Sequence[bulk.Values]) -> None:
    """Add rows of the roll-ups, without those of a user or session that was erased since they were read."""
    tombstones.take_fence(connection)
    known = _known_people(connection, rows)
    bulk.insert_rows(connection, tables.rollup, [row for row in rows if not _names(row) or _names(row) in known])


def _names(row: bulk.Values) -> tuple[Any, ...] | None:
    """Dimension, value and day of a row that names a user or session."""
    _, _, at_us, dimension, value, *_ = row
    return (dimension, value, at_us) if dimension in rollups.PEOPLE else None


def _known_people(connection: Connection, rows: Sequence[bulk.Values]) -> set[tuple[Any, ...]]:
    """What there are sums of, among users and sessions that these rows name, on their days."""
    wanted = {names for row in rows if (names := _names(row))}
    found: set[tuple[Any, ...]] = set()
    for dimension in rollups.PEOPLE:
        values = {value for of, value, _ in wanted if of == dimension}
        days = {at_us for of, _, at_us in wanted if of == dimension}
        named = (_r.dimension == dimension, _r.value.in_(values), _r.at_us.in_(days))
        if values:
            statement = select(_r.dimension, _r.value, _r.at_us).where(*named).distinct()
            found.update(tuple(row) for row in connection.execute(statement))
    return found
