"""Roll-ups compared with the rows they were counted from, and made anew from them, day by day.

Roll-ups know more than rows: turns that sampling left out, that are past their retention, or that were erased. So a
day is made anew only where its rows hold at least the turns that its sums hold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from turntrace.errors import InvalidInput
from turntrace.records.rollup import RollupFact
from turntrace.storage import late, leases, restate, tables, tombstones
from turntrace.storage.rollups import COMPACTOR, DAY_US, Rollup

PAGE: Final = 500
COMPARED: Final = (
    *("turns", "calls", "errors", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_write_tokens", "reasoning_tokens", "cost_input_nano", "cost_output_nano", "cost_total_nano"),
    *("duration_us", "duration_count", "ttft_us", "ttft_count"),
)
# What sums by step are compared by, under these names.
_STEPS: Final = {
    "steps": "calls",
    "steps_own_us": "own_us",
    "steps_errors": "errors",
    "steps_cost_nano": "cost_total_nano",
}
NAMES: Final = (*COMPARED, *_STEPS)
_t, _r = tables.trace.c, tables.rollup.c
_COLUMNS: Final = [column.name for column in tables.rollup.c][1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day (UTC): sums by name of the roll-ups and of the rows."""

    at_us: int
    rollups: dict[str, int]
    rows: dict[str, int]

    @property
    def is_equal(self) -> bool:
        """Whether they say the same."""
        return self.rollups == self.rows

    @property
    def is_complete(self) -> bool:
        """Whether the rows hold at least the turns and calls that the roll-ups hold."""
        return all(self.rows[name] >= self.rollups[name] for name in ("turns", "calls"))


def check(connection: Connection, day_at_us: int) -> Day:
    """Compare one day."""
    summed = dict.fromkeys(NAMES, 0)
    for row in _counted(connection, day_at_us, frozenset()).rows():
        values = dict(zip(_COLUMNS, row, strict=True))
        if values["grain"] == "hour" and not values["dimension"]:
            for name in COMPARED:
                summed[name] += values[name]
        elif values["dimension"] == "step":
            for name, column in _STEPS.items():
                summed[name] += values[column]
    kept = {
        **_kept(connection, "", dict.fromkeys(COMPARED), day_at_us),
        **_kept(connection, "step", _STEPS, day_at_us),
    }
    if not kept["steps"]:  # sums made before there were any by step
        summed |= dict.fromkeys(_STEPS, 0)
        kept |= dict.fromkeys(_STEPS, 0)
    return Day(at_us=day_at_us, rollups=kept, rows=summed)


def _kept(connection: Connection, dimension: str, names: Mapping[str, str | None], day_at_us: int) -> dict[str, int]:
    """Sums of one dimension: by name, of the column of that name or of another."""
    where = (_r.dimension == dimension, _r.grain == "hour", _r.at_us >= day_at_us, _r.at_us < day_at_us + DAY_US)
    columns = (func.sum(_r[column or name]) for name, column in names.items())
    found = connection.execute(select(*columns).where(*where)).one()
    return {name: int(n or 0) for name, n in zip(names, found, strict=True)}


def rebuild(
    connection: Connection, day_at_us: int, rollup_tags: tuple[str, ...] = (), *, is_lossy: bool = False
) -> Day:
    """Make the roll-ups of one day anew from its rows; answers how they compared before.

    Args:
        is_lossy: also where the rows hold fewer turns: what is known by sums alone is lost.

    Raises:
        InvalidInput: sums would be lost.
    """
    leases.be_alone(connection, COMPACTOR)  # what it has merged and not committed would be counted twice
    tombstones.take_fence(connection, exclusive=True)  # nobody stores turns meanwhile
    found = check(connection, day_at_us)
    if not found.is_complete and not is_lossy:
        lost = found.rollups["turns"] - found.rows["turns"]
        raise InvalidInput(f"{lost} turns of this day are known by their sums alone, which would be lost")
    rollup = _counted(connection, day_at_us, frozenset(rollup_tags))
    for table in (tables.rollup, tables.histogram):
        at = table.c.at_us
        connection.execute(delete(table).where(at >= day_at_us, at < day_at_us + DAY_US))
    rollup.append(connection)
    return found


def days(connection: Connection, from_us: int | None, to_us: int | None) -> list[int]:
    """The days that have roll-ups or rows, oldest first."""
    first = connection.execute(select(func.min(_r.at_us)).where(_r.dimension == "", _r.grain == "hour")).scalar()
    last = connection.execute(select(func.max(_r.at_us)).where(_r.dimension == "", _r.grain == "hour")).scalar()
    rows = connection.execute(select(func.min(_t.started_at_us), func.max(_t.started_at_us))).one()
    starts = [at for at in (first, rows[0]) if at is not None]
    ends = [at for at in (last, rows[1]) if at is not None]
    if not starts:
        return []
    start = max(min(starts), from_us or 0)
    end = max(ends) + 1 if to_us is None else to_us
    return list(range(start - start % DAY_US, end, DAY_US))


def _counted(connection: Connection, day_at_us: int, tag_keys: frozenset[str]) -> Rollup:
    rollup = Rollup()
    for fact in _facts(connection, day_at_us, tag_keys):
        if day_at_us <= fact.at_us < day_at_us + DAY_US:
            rollup.add(fact)
    return rollup


def _facts(connection: Connection, day_at_us: int, tag_keys: frozenset[str]) -> Iterator[RollupFact]:
    """Facts of the turns of this day, and of those before that went on into it."""
    ids: list[str] = list(
        connection.execute(
            select(_t.id).where(
                _t.started_at_us >= day_at_us - DAY_US, _t.started_at_us < day_at_us + DAY_US, _t.is_final
            )
        ).scalars()
    )
    for start in range(0, len(ids), PAGE):
        turns = late.load(connection, set(ids[start : start + PAGE]), with_content=set())
        for turn in turns.values():
            yield from _facts_of(turn.row, turn.observations, tag_keys)


def _facts_of(row: dict[str, Any], observations: Any, tag_keys: frozenset[str]) -> list[RollupFact]:
    return restate.facts_of(row, observations.values(), tag_keys)
