"""What becomes of every fragment of a batch: stored, replaced, left out, joined to its turn, refused, or nothing."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, select

from turntrace.records.batch import Reception, Worked
from turntrace.records.fragment import FrameKind
from turntrace.storage import bulk, content, late, narrow, received, strays, tables, tombstones
from turntrace.storage.content import TurnContent
from turntrace.storage.queries.row import to_observation, to_trace
from turntrace.storage.residence import without_texts
from turntrace.storage.rollups import Rollup
from turntrace.storage.sessions import SessionTotals
from turntrace.storage.staging import LOST, Staging

# Flags of a turn whose late fragment came before its END: not yet counted as stored, or counted by its START.
LATE_UNCOUNTED: Final = "late_first"
LATE_COUNTED: Final = "late_early"

ACCEPTED: Final = "accepted"  # in the loss log: turns that no process counted
_t = tables.trace.c


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fragment with its rows, made before any lock is taken."""

    worked: Worked
    trace: bulk.Values = ()
    observations: tuple[bulk.Values, ...] = ()
    content: bulk.Values | None = None

    @classmethod
    def of(cls, worked: Worked, now_us: int, stores: Container[str] = ()) -> "Prepared":
        if worked.kind is FrameKind.AMEND or not worked.is_kept:
            return cls(worked)
        is_away = worked.trace.environment in stores
        return cls.whole(worked, is_final=_is_end(worked), now_us=now_us, is_away=is_away)

    @classmethod
    def whole(cls, worked: Worked, *, is_final: bool, now_us: int, is_away: bool = False) -> "Prepared":
        """`is_away`: its content lies in a store, and no text of it may stand in the rows."""
        trace = without_texts(worked.trace) if is_away else worked.trace
        packed = content.pack(content.of_trace(worked.trace, with_messages=is_away))
        return cls(
            worked,
            narrow.trace_row(trace, is_final=is_final, now_us=now_us),
            tuple(narrow.observation_row(observation, trace) for observation in trace.observations),
            late.content_row(trace.id, packed),
        )

    @property
    def id(self) -> str:
        return self.worked.trace.id


def _is_end(worked: Worked) -> bool:
    return worked.kind not in (FrameKind.START, FrameKind.DELTA, FrameKind.AMEND)


def left_out(connection: Connection, turn_ids: Iterable[str]) -> set[str]:
    """Those of these turns that sampling has left out."""
    sampled = tables.sampled.c.turn_id
    return set(connection.execute(select(sampled).where(sampled.in_(bulk.rounded(turn_ids)))).scalars())


@dataclass(slots=True)
class Counts:
    """Changes of the loss balance."""

    changes: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, n: int = 1) -> None:
        self.changes[reason] += n


@dataclass(frozen=True, slots=True)
class _Known:
    """What the tables have of a turn."""

    is_final: bool
    flags: str | None = None

    @property
    def has_late(self) -> bool:
        return bool(self.flags) and (LATE_UNCOUNTED in self.flags or LATE_COUNTED in self.flags)  # type: ignore[operator]

    @property
    def is_counted(self) -> bool:
        return not (self.flags and LATE_UNCOUNTED in self.flags)


class TurnWriter:
    """Decides what becomes of every fragment, then writes all of one kind at once.

    Args:
        staging: where content of some environments lies elsewhere.
    """

    def __init__(self, connection: Connection, now_us: int, clean: bool, staging: Staging | None = None) -> None:
        self._connection, self._now_us, self._clean, self._staging = connection, now_us, clean, staging
        self.rollup, self.sessions, self.counts = Rollup(), SessionTotals(), Counts()
        self._known: dict[str, _Known] = {}
        self._sampled: set[str] = set()
        self._insert: dict[str, Prepared] = {}
        self._remove: set[str] = set()
        self._leave_out: dict[str, int] = {}
        self._late: list[Worked] = []
        self._keep_after_all: set[str] = set()
        self._early: dict[str, TurnContent] = {}
        self._receptions: list[Reception] = []

    def sort(self, prepared: Sequence[Prepared], digest_key: str) -> None:
        """Decide by what the tables have: insert, replace, leave out, join, or nothing."""
        if not prepared:
            return
        ids = {item.id for item in prepared}
        refused = tombstones.find_refused(self._connection, (item.worked.trace for item in prepared), digest_key)
        self._look_up(ids)
        if refused:
            self._refuse(refused, prepared)
        wanted = [item for item in prepared if item.id not in refused]
        self._early = self._contents({item.id for item in wanted if self._ends_after_late(item)})
        for item in _in_order(wanted):
            self._decide(item)
        self._receptions = [item.worked.reception for item in wanted if item.worked.reception is not None]

    def _look_up(self, ids: set[str]) -> None:
        columns = (_t.id, _t.is_final, _t.flags)
        for row in self._connection.execute(select(*columns).where(_t.id.in_(bulk.rounded(ids)))):
            self._known[row[0]] = _Known(bool(row[1]), row[2])
        if len(self._known) < len(ids):
            self._sampled.update(left_out(self._connection, ids))

    def _ends_after_late(self, item: Prepared) -> bool:
        """Whether this is the END of a turn that a late fragment came before."""
        worked, known = item.worked, self._known.get(item.id)
        is_own_end = _is_end(worked) and worked.kind is not FrameKind.OTLP and worked.is_kept
        return is_own_end and known is not None and known.has_late and not known.is_final

    def _contents(self, turn_ids: set[str]) -> dict[str, TurnContent]:
        """Content by turn id, of all at once: what a store has of them, it is asked for once."""
        c = tables.content.c
        found = sorted(turn_ids)
        wanted = select(c.turn_id, c.codec, c.key_id, c.data).where(c.turn_id.in_(bulk.rounded(found)))
        rows = self._connection.execute(wanted).all() if found else ()
        return late.opened(self._connection, rows, self._staging)

    def _refuse(self, refused: tombstones.Refused, prepared: Iterable[Prepared]) -> None:
        """Nothing of an erased turn is stored; what a running or late one had left goes."""
        received.forget(self._connection, refused.known | refused.new)
        for item in prepared:
            if item.worked.kind is FrameKind.OTLP and item.id in refused.new and not self._has(item.id):
                self.counts.add(ACCEPTED)
        for turn_id in refused.new:
            known = self._known.get(turn_id)
            if known is not None and known.is_counted:
                self.counts.add("stored", -1)
            if turn_id in self._sampled:
                self.counts.add("sampled", -1)
            self.counts.add("erased")
            if known is not None and known.is_final:
                self._take_back(turn_id)
        self._remove |= {turn_id for turn_id in refused.new if turn_id in self._known}
        rows = (tombstones.Row(tombstones.TURN, turn_id, None) for turn_id in sorted(refused.new))
        tombstones.add(self._connection, rows, now_us=self._now_us)

    def _has(self, turn_id: str) -> bool:
        return turn_id in self._known or turn_id in self._sampled

    def _take_back(self, turn_id: str) -> None:
        """A stored turn turns out to be an erased subject's: its session loses it. Sums without names stay."""
        turn = late.load(self._connection, {turn_id}, with_content=set())[turn_id]
        self.sessions.add_row(turn.row, -1)

    def _decide(self, item: Prepared) -> None:
        worked = item.worked
        known = self._known.get(item.id)
        if worked.kind is FrameKind.AMEND:
            self._decide_late(item, known)
        elif worked.kind is FrameKind.OTLP:
            self._decide_received(item)
        elif item.id in self._sampled or item.id in self._leave_out or (known is not None and known.is_final):
            return  # delivered before
        elif not _is_end(worked):
            self._show(item, known)
        elif worked.is_kept:
            self._keep(item, known)
        else:
            self._sample_out(item, known)

    def _decide_received(self, item: Prepared) -> None:
        """All that was received of a turn, in place of what was stored of it before: only the difference counts."""
        if not self._has(item.id):
            # No capturing process counts what comes over OTLP: which frame is a turn's first shows only here.
            self.counts.add(ACCEPTED)
        elif item.id in self._known:
            self._take_out(item.worked)
        else:
            self._sampled.discard(item.id)
            self._keep_after_all.add(item.id)
            self.counts.add("sampled", -1)
            for fact in item.worked.counted:
                self.rollup.add(fact, -1)
        if item.worked.is_kept:
            self._keep(item, None)
        else:
            self._sample_out(item, None)

    def _take_out(self, worked: Worked) -> None:
        """What a stored turn has added to sums and sessions is taken back, and its rows go."""
        turn_id = worked.trace.id
        self._remove.add(turn_id)
        self.counts.add("stored", -1)
        turn, facts = late.counted(self._connection, worked, self.rollup)
        for fact in facts:
            self.rollup.add(fact, -1)
        self.sessions.add_row(turn.row, -1)
        del self._known[turn_id]

    def _show(self, item: Prepared, known: _Known | None) -> None:
        """A running turn: its rows so far replace the earlier ones."""
        if known is not None and known.has_late:
            return
        if known is None:
            self.counts.add("stored")
        else:
            self._remove.add(item.id)
        self._insert[item.id] = item
        self._known[item.id] = _Known(False)

    def _keep(self, item: Prepared, known: _Known | None) -> None:
        if known is None or not known.is_counted:
            self.counts.add("stored")
        if known is not None:
            if known.has_late:
                self._late.append(self._as_late(item))
            self._remove.add(item.id)
        self._insert[item.id] = item
        self._known[item.id] = _Known(True)
        self._count(item.worked)
        self.sessions.add_trace(item.worked.trace)

    def _sample_out(self, item: Prepared, known: _Known | None) -> None:
        if known is not None:
            if known.has_late:
                self._count_early(item.worked)
            self._remove.add(item.id)
            self._insert.pop(item.id, None)
            del self._known[item.id]
            if known.is_counted:
                self.counts.add("stored", -1)
        self._leave_out[item.id] = item.worked.trace.started_at_us
        self.counts.add("sampled")
        if item.worked.kind is FrameKind.OTLP:
            self._count(item.worked)  # no part of it comes later without the rest
        else:
            self._count_ended(item.worked)

    def _count(self, worked: Worked) -> None:
        for fact in worked.facts:
            self.rollup.add(fact)

    def _count_ended(self, worked: Worked) -> None:
        """There are no rows to tell what a step was counted as when it was open: it counts once it has ended."""
        for fact in worked.facts:
            if not fact.is_open:
                self.rollup.add(fact)

    def _count_early(self, worked: Worked) -> None:
        """Of steps that came before the END of a turn that is left out: those that it does not state as ended."""
        turn, (_, *facts) = late.counted(self._connection, worked, self.rollup)
        own = zip(worked.trace.observations, worked.facts[1:], strict=True)
        stated = {step.span_id for step, fact in own if not fact.is_open}
        for row, fact in zip(turn.observations.values(), facts, strict=True):
            if not fact.is_open and row["span_id"] not in stated:
                self.rollup.add(fact)

    def _decide_late(self, item: Prepared, known: _Known | None) -> None:
        worked = item.worked
        if item.id in self._sampled or item.id in self._leave_out:
            self._count_ended(worked)
        elif known is None:
            self._insert_early(worked)
        elif known.is_final:
            self._late.append(worked)
        else:
            flagged = replace(worked.trace, flags=(*worked.trace.flags, LATE_COUNTED))
            self._late.append(replace(worked, trace=flagged, amended=frozenset()))

    def _insert_early(self, worked: Worked) -> None:
        """A late fragment before its turn: kept as a running turn, and joined when the END comes."""
        flags = (*worked.trace.flags, LATE_UNCOUNTED)
        trace = replace(worked.trace, outcome="in_progress", flags=flags)
        is_away = self._staging is not None and self._staging.is_away(trace.environment)
        early = Prepared.whole(replace(worked, trace=trace), is_final=False, now_us=self._now_us, is_away=is_away)
        self._insert[trace.id] = early
        self._known[trace.id] = _Known(False, LATE_UNCOUNTED)

    def _as_late(self, item: Prepared) -> Worked:
        """What came before the END of a turn, as a late fragment to join it; it only adds, the END's fields win."""
        if item.id in self._insert:
            return replace(self._insert[item.id].worked, amended=frozenset())
        stored = self._connection.execute(select(tables.trace).where(_t.id == item.id)).mappings().one()
        o = tables.observation.c
        rows = self._connection.execute(select(tables.observation).where(o.turn_id == item.id)).mappings()
        trace = replace(to_trace(stored), observations=tuple(to_observation(row, stored) for row in rows))
        if item.id in self._early:
            trace = content.filled_trace(trace, self._early[item.id])
        flags = tuple(flag for flag in trace.flags if flag not in (LATE_COUNTED, LATE_UNCOUNTED))
        if self._staging is not None and self._staging.has_lost(item.id):
            flags = (*flags, LOST)
        return Worked(kind=FrameKind.AMEND, trace=replace(trace, flags=flags))

    def store_turns(self) -> None:
        """Rows of whole turns."""
        self._delete(self._remove)
        turns = [*self._insert.values()]
        self._put(tables.trace, [item.trace for item in turns])
        self._put(tables.observation, [row for item in turns for row in item.observations])
        contents = [item.content for item in turns if item.content]
        if self._staging is not None:
            contents = self._staging.placed(contents, {item.id: item.worked.trace.environment for item in turns})
        content.insert(self._connection, contents)
        bulk.delete_keys(self._connection, tables.sampled, "turn_id", sorted(self._keep_after_all))
        if self._leave_out:
            statement = bulk.insert_missing(self._connection.dialect.name, tables.sampled)
            rows = [{"turn_id": turn_id, "at_us": at_us} for turn_id, at_us in sorted(self._leave_out.items())]
            self._connection.execute(statement, rows)

    def to_send(self) -> Iterator[tuple[str, str]]:
        """Destination and id of every turn that has ended and was stored or changed here."""
        whole = ((item.id, item.worked.exports) for item in self._insert.values())
        late_ones = ((worked.trace.id, worked.exports) for worked in self._late)
        for turn_id, destinations in (*whole, *late_ones):
            known = self._known.get(turn_id)
            if known is not None and known.is_final:
                yield from ((destination, turn_id) for destination in destinations)

    def store_received(self, waiting: Iterable[Reception]) -> None:
        """What the turns were made from, and what waits for its turn.

        Raises:
            ReceivedMeanwhile: another worker was faster.
        """
        found = list(waiting)
        erased = tombstones.find_turns(self._connection, {reception.turn_id for reception in found})
        found = [reception for reception in found if reception.turn_id not in erased]
        received.store(self._connection, (*self._receptions, *found), now_us=self._now_us)

    def _delete(self, turn_ids: Iterable[str]) -> None:
        found = sorted(turn_ids)
        bulk.delete_keys(self._connection, tables.trace, "id", found)
        bulk.delete_keys(self._connection, tables.observation, "turn_id", found)
        strays.drop_contents(self._connection, found, self._staging.used if self._staging is not None else None)

    def _put(self, table: Any, rows: Sequence[bulk.Values]) -> None:
        late.insert(self._connection, table, rows, clean=self._clean)

    def store_late(self) -> None:
        """Late fragments join their turns, those of this very batch included."""
        if self._late:
            late.apply(
                self._connection,
                self._late,
                rollup=self.rollup,
                sessions=self.sessions,
                clean=self._clean,
                now_us=self._now_us,
                staging=self._staging,
            )


def _in_order(prepared: Sequence[Prepared]) -> Iterator[Prepared]:
    """Whole turns first, of each only its END or its latest state, then what joins them, in the order of arrival."""
    whole: dict[str, Prepared] = {}
    for item in prepared:
        if item.worked.kind is FrameKind.AMEND:
            continue
        earlier = whole.get(item.id)
        if earlier is None or not _is_end(earlier.worked):
            whole[item.id] = item
    yield from whole.values()
    for item in prepared:
        if item.worked.kind is FrameKind.AMEND:
            yield item
