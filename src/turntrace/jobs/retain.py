"""Retention: texts and turns past their time go, oldest first, in transactions too short for anybody to notice.

Safe to stop anywhere: where it stands is committed with what was deleted. What is archived is on disk before it goes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from turntrace.failpoint import reach
from turntrace.jobs.archive import Archive
from turntrace.records.retention import Rule
from turntrace.storage import meter, retention
from turntrace.storage.database import Database
from turntrace.storage.pace import Pace, Stopwatch
from turntrace.storage.queries import traces

LOOKED_AT_ONCE: Final = 500
AGED_AT_ONCE: Final = 1000
STEP_SECONDS: Final = 0.05  # aimed at for one transaction, where the database is not a host's SQLite file
LEAST_AT_ONCE: Final = 50  # turns of one there, however long it takes: it locks no rows that anybody else wants
SECONDS: Final = 240.0  # of one run; the next goes on
LONGEST_PAUSE_SECONDS: Final = 0.5


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def retain(
    database: Database,
    *,
    rules: Mapping[str, Rule],
    archive_dir: str | None = None,
    seconds: float = SECONDS,
    wall: Callable[[], int] = now_us,
    tell: Callable[[str], None] = lambda text: None,
) -> Mapping[str, int]:
    """Delete what is past its time, for `seconds` at the most.

    Args:
        rules: days by kind, `content`, `numbers` and, where it differs from that, `sums`.
        archive_dir: where turns are written before they go.
        wall: Unix time in microseconds.
        tell: told how far it is, now and then.

    Returns:
        Counts: rows by table, and `left` 1 where the time was too short.
    """
    return Retainer(database, archive_dir=archive_dir, seconds=seconds, wall=wall, tell=tell).run(rules)


def rehearse(database: Database, *, rules: Mapping[str, Rule], wall: Callable[[], int] = now_us) -> Mapping[str, int]:
    """What `retain` would delete now: turns whose texts would go (`content`), and turns (`trace`)."""
    counts: Counter[str] = Counter()
    for walk in plan(rules):
        place = retention.BEGIN
        while True:
            with database.read() as connection:
                found = retention.look(connection, walk, place, wall(), LOOKED_AT_ONCE)
            counts["content" if walk.kind == "content" else "trace"] += len(found.turn_ids)
            place = found.position
            if found.is_last:
                break
    return {name: number for name, number in counts.items() if number}


def plan(rules: Mapping[str, Rule]) -> Iterator[retention.Walk]:
    """The walks of these rules: whole turns first, so that nothing is written to rows that go anyway."""
    for kind in ("numbers", "content"):
        rule = rules[kind]
        for environment in (*sorted(rule.environments), None):
            for days, spared in rule.steps(environment):
                yield retention.Walk(kind, environment, tuple(sorted(rule.environments)), days, spared)


class Retainer:
    """One run."""

    def __init__(
        self,
        database: Database,
        *,
        archive_dir: str | None,
        seconds: float,
        wall: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        self._database, self._wall, self._tell = database, wall, tell
        self._pace = (
            database.pace if database.is_guest else Pace(STEP_SECONDS, first=LEAST_AT_ONCE, least=LEAST_AT_ONCE)
        )
        self._archive = Archive(Path(archive_dir)) if archive_dir else None
        self._deadline = time.monotonic() + seconds
        self._counts: Counter[str] = Counter()
        self._is_left = False

    def run(self, rules: Mapping[str, Rule]) -> Mapping[str, int]:
        """All walks, then what has a time of its own, then a look at the meter.

        Each of them makes one step at least, however little time there is: a large one never keeps those behind it
        from their turn.
        """
        for walk in plan(rules):
            self._is_left |= not self._walk(walk)
        number = rules["numbers"]
        longest = max(number.days, *number.environments.values(), *number.flags.values(), 0)
        of_sums = max(longest, rules["sums"].days) if "sums" in rules else longest
        ends = (self._wall() - days * retention.DAY_US for days in (longest, of_sums))
        for found in retention.aged(*ends):
            self._is_left |= not self._prune(found)
        if self._archive is not None:
            self._archive.pack(at_us=self._wall())
        self._database.transact(meter.note, now_us=self._wall())
        counts = {name: n for name, n in sorted(self._counts.items()) if n}
        return {**counts, "left": int(self._is_left)}

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _walk(self, walk: retention.Walk) -> bool:
        """Go along the turns of a rule; False where the time was too short."""
        with self._database.read() as connection:
            place = retention.position(connection, walk, self._wall())
        while True:
            with self._database.read() as connection:
                found = retention.look(connection, walk, place, self._wall(), LOOKED_AT_ONCE)
            if not self._drop(walk, found.turn_ids):
                return False
            place = found.position
            self._database.transact(retention.keep_position, walk, place, self._wall())
            self._tell(f"{walk.kind}: {sum(self._counts.values()):,} rows")
            if found.is_last:
                return True
            if self._is_late():
                return False

    def _drop(self, walk: retention.Walk, turn_ids: tuple[str, ...]) -> bool:
        """Delete these turns, or their texts, a few at a time; False where the time was too short."""
        start = 0
        while start < len(turn_ids):
            if start and self._is_late():
                return False
            part = turn_ids[start : start + self._pace.items]
            self._put_away(walk, part)
            reach("retain.before_delete")
            with Stopwatch() as watch:
                self._counts.update(self._database.transact(retention.drop, walk, part))
            reach("retain.after_delete")
            self._pace.learn(len(part), watch.seconds)
            self._rest(watch.seconds)
            start += len(part)
        return True

    def _put_away(self, walk: retention.Walk, turn_ids: tuple[str, ...]) -> None:
        if self._archive is None:
            return
        with self._archive.alone():
            with self._database.read() as connection:
                # What cannot be read now is not deleted either: the next run finds it again.
                found = traces.by_ids(connection, turn_ids, is_strict=True)
            self._archive.write(walk.kind, found.values(), at_us=self._wall())
        self._counts["archived"] += len(found)

    def _prune(self, found: retention.Aged) -> bool:
        """Delete the old rows of a table; False where the time was too short."""
        size = AGED_AT_ONCE if not self._database.is_guest else 100
        while True:
            with Stopwatch() as watch:
                number = self._database.transact(retention.prune, found, size)
            self._counts[found.name] += number
            if number < size:
                return True
            if self._is_late():
                return False
            self._rest(watch.seconds)

    def _rest(self, seconds: float) -> None:
        """As long for everybody else as for us."""
        time.sleep(min(seconds, LONGEST_PAUSE_SECONDS))
