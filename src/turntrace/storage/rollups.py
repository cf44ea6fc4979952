"""Roll-ups and histograms: facts are summed in memory, appended as deltas, and merged by one elected compactor.

Deltas are only ever appended by writers: several hosts that update the same hot row would deadlock each other. The
compactor adds hours to their days as well, and what a person did by one model to their whole day.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, delete, false, select, true, update

from turntrace.failpoint import reach
from turntrace.records.rollup import RollupFact, size_of
from turntrace.storage import bulk, cardinality, clean, leases, tables
from turntrace.storage.database import Database
from turntrace.storage.histograms import Counts, add_packed, bucket_of, packed
from turntrace.storage.tables.rollup import WHOLE

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
MINUTES_KEPT_US: Final = 2 * DAY_US
BUCKETS_AT_ONCE: Final = 200
COMPACTOR: Final = "compactor"
PEOPLE: Final = ("user", "session")
UNKNOWN_MODEL: Final = "unknown"  # of calls that name none: rows without a model are turns'

_SUMS: Final = [
    "turns",
    "calls",
    "errors",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_input_nano",
    "cost_output_nano",
    "cost_total_nano",
    "duration_us",
    "duration_count",
    "ttft_us",
    "ttft_count",
    "own_us",
]
_ROLLUP_KEY: Final = [
    "grain",
    "at_us",
    "dimension",
    "value",
    "model",
    "provider",
    "feature",
    "environment",
    "price_version",
    "tier",
]
# What is of a turn or of one call alone, and means nothing in a sum over both.
_OF_CALLS: Final = frozenset({"errors", "duration_us", "duration_count", "ttft_us", "ttft_count"})
_HISTOGRAM_KEY: Final = ["grain", "at_us", "metric", "model", "feature", "environment", "size"]

_h: Final = tables.histogram.c

Key = tuple[Any, ...]
Sums = dict[Key, list[int]]


class Rollup:
    """Sums of facts, as rows to append. Not thread-safe."""

    def __init__(self) -> None:
        # By everything but user and session first: few keys, which are spread over the dimensions at the end.
        self._core: Sums = {}
        self._people: Sums = {}
        self._narrow: Sums = {}
        self._lengths: dict[Key, Counts] = {}

    def add(self, fact: RollupFact, sign: int = 1) -> None:
        """Count a fact, or take it back with sign -1."""
        sums = _sums_of(fact, sign)
        at_us = fact.at_us
        if fact.step and not fact.calls:
            self._add_step(fact, "", sums, sign)
            return
        model = fact.model or (UNKNOWN_MODEL if fact.calls else "")
        base = (model, fact.provider, fact.feature, fact.environment)
        paid = (fact.price_version, fact.tier)
        values = (fact.route, fact.release, fact.experiment, fact.prompt, fact.tags)
        _add(self._core, (at_us // MINUTE_US, base, paid, values), sums)
        if fact.calls:
            self._add_step(fact, model, sums, sign)
            if size := size_of(fact.input_tokens):
                _add(self._narrow, (at_us // HOUR_US, "input_length", size, model, fact.environment, *paid), sums)
        day = at_us // DAY_US
        for dimension, value in zip(PEOPLE, (fact.user_id, fact.session_id), strict=True):
            if value:
                _add(self._people, (dimension, value, day, model, fact.environment, paid), sums)
        self._add_lengths(fact, model, sign)

    def _add_step(self, fact: RollupFact, model: str, sums: list[int], sign: int) -> None:
        """A step counts once by its name, as a call does by its model."""
        if fact.step:
            key = (fact.at_us // HOUR_US, "step", fact.step, model, fact.environment, fact.price_version, fact.tier)
            _add(self._narrow, key, sums if fact.calls else [0, sign, *sums[2:]])

    def _add_lengths(self, fact: RollupFact, model: str, sign: int) -> None:
        hour = fact.at_us // HOUR_US
        if model:
            place = (model, "", fact.environment, size_of(fact.input_tokens))
            found = _lengths_of_call(fact)
        else:
            place = ("", fact.feature, fact.environment, "")
            found = (("duration", fact.duration_us), ("ttft", fact.ttft_us))
        for metric, number in found:
            if number is not None:
                counts = self._lengths.setdefault((hour, metric, *place), {})
                bucket = bucket_of(number)
                counts[bucket] = counts.get(bucket, 0) + sign

    def tags(self) -> set[str]:
        """Every tag that facts so far named."""
        return {tag for *_, values in self._core for tag in values[-1]}

    def rows(self) -> list[bulk.Values]:
        """Rows of the rollup table, in the order of its columns; sums of nothing are left out."""
        spread: Sums = {
            ("day", day * DAY_US, dimension, value, model, "", "", environment, *paid): sums
            for (dimension, value, day, model, environment, paid), sums in self._people.items()
        }
        for (hour, dimension, value, model, environment, *paid), sums in self._narrow.items():
            spread["hour", hour * HOUR_US, dimension, value, model, "", "", environment, *paid] = sums
        for (minute, base, paid, values), sums in self._core.items():
            for key in _dimensions(minute, base, paid, values):
                _add(spread, key, sums)
        return [(False, *key, *sums) for key, sums in spread.items() if any(sums)]

    def histogram_rows(self) -> list[bulk.Values]:
        """Rows of the histogram table, in the order of its columns."""
        return [
            (False, "hour", hour * HOUR_US, *key, packed(counts))
            for (hour, *key), counts in self._lengths.items()
            if any(counts.values())
        ]

    def append(self, connection: Connection, *, is_cleaned: bool = False) -> None:
        """Append everything as deltas; `is_cleaned` after the database refused the rows as they were."""
        for table, rows in ((tables.rollup, self.rows()), (tables.histogram, self.histogram_rows())):
            bulk.insert_rows(connection, table, clean.rows(table, rows) if is_cleaned else rows)


def _sums_of(fact: RollupFact, sign: int) -> list[int]:
    duration, ttft = fact.duration_us, fact.ttft_us
    sums = [
        fact.turns,
        fact.calls,
        fact.errors,
        fact.unpriced,
        fact.input_tokens,
        fact.output_tokens,
        fact.cache_read_tokens,
        fact.cache_write_tokens,
        fact.reasoning_tokens,
        fact.cost_input_nano,
        fact.cost_output_nano,
        fact.cost_total_nano,
        duration or 0,
        0 if duration is None else 1,
        ttft or 0,
        0 if ttft is None else 1,
        fact.own_us,
    ]
    return sums if sign == 1 else [-n for n in sums]


def _lengths_of_call(fact: RollupFact) -> tuple[tuple[str, int | None], ...]:
    tpot_us = None
    if fact.duration_us is not None and fact.ttft_us is not None and fact.output_tokens > 1:
        tpot_us = max(0, fact.duration_us - fact.ttft_us) // (fact.output_tokens - 1)
    return (
        ("call_duration", fact.duration_us),
        ("call_ttft", fact.ttft_us),
        ("call_tpot", tpot_us),
        ("call_input", fact.input_tokens or None),
        ("call_output", fact.output_tokens or None),
    )


def _add(sums: Sums, key: Key, more: list[int]) -> None:
    found = sums.get(key)
    # Never in place: lists are shared between keys.
    sums[key] = more if found is None else list(map(add, found, more))


def _dimensions(minute: int, base: Key, paid: Key, values: Key) -> Iterator[Key]:
    """Every row that sums of one minute belong to, users and sessions aside."""
    at_us = minute * MINUTE_US
    hour = at_us - at_us % HOUR_US
    yield ("minute", at_us, "", "", *base, *paid)
    yield ("hour", hour, "", "", *base, *paid)
    *single, tags = values
    narrow = (base[0], "", "", base[3], *paid)
    for dimension, value in zip(("route", "release", "experiment", "prompt"), single, strict=True):
        if value:
            yield ("hour", hour, dimension, value, *narrow)
    for tag in tags:
        yield ("hour", hour, "tag", tag, *narrow)


# --- compaction -----------------------------------------------------------------------------------------------------


def compact(
    database: Database,
    *,
    limit: int = 5000,
    rounds: int = 20,
    most_values: int = cardinality.MOST_VALUES,
    is_stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Merge deltas into one row per key. Only the holder of the compactor's lease may call this.

    Args:
        limit: deltas of one transaction; a host's SQLite file is given small ones, not to hold its lock long.
        rounds: transactions at the most.
        most_values: of one dimension and day that keep their name.
        is_stopped: asked between transactions: whether to leave the rest to the next run.

    Returns:
        Number of deltas merged.
    """
    size = min(limit, 200) if database.is_guest else limit
    total = 0
    for compact_once in (_compact_sums, _compact_lengths):
        for _ in range(rounds):
            merged = database.transact(compact_once, size, most_values)
            total += merged
            if merged < size or is_stopped():
                break
    return total


def _compact_sums(connection: Connection, limit: int, most_values: int) -> int:
    if not leases.is_alone(connection, COMPACTOR):
        return 0
    deltas = _deltas(connection, tables.rollup, [*_ROLLUP_KEY, *_SUMS], limit)
    wanted: Sums = {}
    end = len(_ROLLUP_KEY)
    guard = cardinality.Guard(connection, _ROLLUP_KEY, most_values)
    guard.look_at(row[1 : end + 1] for row in deltas)
    for _, *row in deltas:
        key, sums = guard.fold(tuple(row[:end])), row[end:]
        for each in _with_day(key):
            _add(wanted, each, sums)
        if key[2] in PEOPLE:
            _add(wanted, _whole(key), sums if key[4] == "" else _beside_turns(sums))
    known = {key: row_id for row_id, key in _compacted(connection, tables.rollup, _ROLLUP_KEY, wanted)}
    found = [(key, sums) for key, sums in wanted.items() if any(sums)]
    new = [(True, *key, *sums) for key, sums in found if key not in known]
    bulk.insert_rows(connection, tables.rollup, new)
    grown = [(*sums, known[key]) for key, sums in found if key in known]
    bulk.add_to_rows(connection, tables.rollup, tuple(_SUMS), grown)
    if deltas:
        reach("rollups.before_drop")
    return _drop(connection, tables.rollup, deltas)


def _compact_lengths(connection: Connection, limit: int, most_values: int) -> int:
    if not leases.is_alone(connection, COMPACTOR):
        return 0
    deltas = _deltas(connection, tables.histogram, [*_HISTOGRAM_KEY, "counts"], limit)
    wanted: dict[Key, Counts] = {}
    guard = cardinality.Guard(connection, _HISTOGRAM_KEY, most_values)
    guard.look_at(row[1:-1] for row in deltas)
    for _, *row, text in deltas:
        for key in _with_day(guard.fold(tuple(row))):
            add_packed(wanted.setdefault(key, {}), text)
    known = {
        row_id: key for row_id, key in _compacted(connection, tables.histogram, _HISTOGRAM_KEY, wanted) if key in wanted
    }
    _grow(connection, {row_id: wanted.pop(key) for row_id, key in known.items() if key in wanted})
    new = [(True, *key, packed(counts)) for key, counts in wanted.items() if any(counts.values())]
    bulk.insert_rows(connection, tables.histogram, new)
    return _drop(connection, tables.histogram, deltas)


def _grow(connection: Connection, more: dict[int, Counts]) -> None:
    """Add counts to the rows of these ids."""
    if not more:
        return
    grown = []
    # Locked: what is read here is written back.
    for row_id, text in connection.execute(select(_h.id, _h.counts).where(_h.id.in_(more)).with_for_update()):
        add_packed(more[row_id], text)
        grown.append({"row_id": row_id, "text": packed(more[row_id])})
    statement = update(tables.histogram).where(_h.id == bindparam("row_id")).values(counts=bindparam("text"))
    connection.execute(statement, grown)


def _with_day(key: Key) -> Iterator[Key]:
    """The key, and that of the day an hour adds to."""
    yield key
    grain, at_us, *others = key
    if grain == "hour":
        yield ("day", at_us - at_us % DAY_US, *others)


def _whole(key: Key) -> Key:
    """The key of a person's day by whatever model."""
    at_us, dimension, value, environment = key[1], key[2], key[3], key[7]
    return (WHOLE, at_us, dimension, value, "", "", "", environment, "", "")


def _beside_turns(sums: list[int]) -> list[int]:
    """What calls add to the row of their turns."""
    return [0 if name in _OF_CALLS else n for name, n in zip(_SUMS, sums, strict=True)]


def _deltas(connection: Connection, table: Table, names: Sequence[str], limit: int) -> list[Key]:
    """The id and the columns of the oldest deltas."""
    columns = [table.c[name] for name in ("id", *names)]
    statement = select(*columns).where(table.c.is_compacted == false()).order_by(table.c.id).limit(limit)
    # Two compactors at once (a lease just lost): the second waits, and finds these gone.
    return [tuple(row) for row in connection.execute(statement.with_for_update())]


def _drop(connection: Connection, table: Table, deltas: Sequence[Key]) -> int:
    bulk.delete_keys(connection, table, "id", [row[0] for row in deltas])
    return len(deltas)


def _compacted(
    connection: Connection, table: Table, key: list[str], wanted: Iterable[Key]
) -> Iterator[tuple[int, Key]]:
    """Id and key of the compacted rows that `wanted` keys have already, of others beside."""
    columns = [table.c[name] for name in ("is_compacted", "id", *key)]
    for conditions in _look_ups(table, key[2], wanted):
        for is_compacted, row_id, *found in connection.execute(select(*columns).where(*conditions)):
            if is_compacted:
                yield row_id, tuple(found)


def _look_ups(table: Table, kind: str, wanted: Iterable[Key]) -> Iterator[list[ColumnElement[bool]]]:
    """Conditions that an index finds keys by: a look-up for some buckets of time."""
    groups: dict[Key, dict[int, list[Key]]] = {}
    for key in wanted:
        grain, at_us, name, *_ = key
        # One look-up by value finds rows of every grain.
        place = ("" if table is tables.rollup and name else grain, name)
        groups.setdefault(place, {}).setdefault(at_us, []).append(key)
    for (grain, name), by_time in groups.items():
        ordered = sorted(by_time)
        for start in range(0, len(ordered), BUCKETS_AT_ONCE):
            times = ordered[start : start + BUCKETS_AT_ONCE]
            found = [table.c[kind] == name, table.c.at_us.in_(times)]
            if not grain:
                # By value alone: a day may have many more users than these.
                yield [*found, table.c.value.in_({key[3] for at_us in times for key in by_time[at_us]})]
            else:
                yield [*found, table.c.grain == grain, table.c.is_compacted == true()]


def prune_minutes(connection: Connection, *, now_us: int) -> int:
    """Delete minute rows older than 48 hours; answers how many."""
    r = tables.rollup.c
    old = and_(
        r.dimension == "", r.grain == "minute", r.is_compacted.in_((True, False)), r.at_us < now_us - MINUTES_KEPT_US
    )
    return connection.execute(delete(tables.rollup).where(old)).rowcount
