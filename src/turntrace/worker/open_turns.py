"""Turns that have begun and not ended: kept in memory only, rebuilt from the segments after a restart."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from turntrace.errors import FrameInvalid
from turntrace.pipeline import decode, merge
from turntrace.records.fragment import END_LOST, Fragment, FrameKind, TurnHeader
from turntrace.spool.reader import Frame
from turntrace.worker.peek import id_of

log = logging.getLogger("turntrace.worker")
SHOW_EVERY_SECONDS = 1.0
MAX_PARTS = 64
UNREAD = "frames_unreadable"  # flag of a turn of which nothing could be read


@dataclass(slots=True)
class OpenTurn:
    """The START and DELTA fragments of one turn so far, and where they came from."""

    process_id: str
    segment: str
    parts: list[Fragment] = field(default_factory=list)
    unread: list[Frame] = field(default_factory=list)  # what came after `parts` and is read only if it is asked for
    is_changed: bool = True
    shown_at: float = 0.0
    is_stored: bool = False  # as a running turn
    has_start: bool = False  # else its first frame fell to damage
    seen: dict[str, int] = field(default_factory=dict)  # last sequence taken, by segment

    def take(self, frame: Frame, fragment: Fragment | None) -> None:
        """Take the next fragment (None: it is in the frame, unread), unless it comes again; a START moves the turn to
        its segment."""
        if frame.sequence <= self.seen.get(frame.segment, 0):
            return
        self.seen[frame.segment] = frame.sequence
        if frame.kind is FrameKind.START:
            self.segment, self.has_start = frame.segment, True
        if fragment is None:
            self.unread.append(frame)
            self.is_changed = True
        else:
            self.read()
            self._add(fragment)

    def read(self) -> list[Fragment]:
        """All parts, those that were kept unread as well; a frame that cannot be read is passed over."""
        unread, self.unread = self.unread, []
        for frame in unread:
            try:
                self._add(decode(frame.kind, frame.payload))
            except FrameInvalid:
                log.warning("a frame could not be read: FrameInvalid")
        if unread and not self.parts and (turn_id := id_of(unread[0].payload)) is not None:
            self._add(_bare(turn_id))
        return self.parts

    def _add(self, fragment: Fragment) -> None:
        """A START is cumulative and replaces what was there."""
        if fragment.kind is FrameKind.START:
            self.parts = [fragment]
        else:
            self.parts.append(fragment)
            if len(self.parts) > MAX_PARTS:
                self.parts = [merge(self.parts)]
        self.is_changed = True

    def merged(self, outcome: str) -> Fragment:
        """What is known of the turn, as one fragment with this outcome."""
        whole = merge(self.read())
        kind = FrameKind.END if outcome == "interrupted" else FrameKind.START
        return Fragment(kind=kind, turn=_with_outcome(whole.turn, outcome), spans=whole.spans)


def _bare(turn_id: str) -> Fragment:
    """All that is known of a turn of which no frame can be read: that it was, and since when (UUIDv7)."""
    started_at_us = int(turn_id[:12], 16) * 1000
    header = TurnHeader(
        id=turn_id, trace_id=turn_id, span_id=turn_id[16:], started_at_us=started_at_us, flags=(UNREAD,)
    )
    return Fragment(kind=FrameKind.START, turn=header)


def _with_outcome(turn: TurnHeader, outcome: str) -> TurnHeader:
    return replace(turn, outcome=outcome)


class OpenTurns:
    """All open turns by id."""

    def __init__(self) -> None:
        self._turns: dict[str, OpenTurn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, frame: Frame, fragment: Fragment) -> None:
        """Take a START or DELTA frame; frames that are delivered again change nothing."""
        turn = self._turns.get(fragment.turn.id)
        if turn is None:
            turn = self._turns[fragment.turn.id] = OpenTurn(frame.process_id, frame.segment)
        turn.take(frame, fragment)

    def add_unread(self, frame: Frame, turn_id: str) -> None:
        """The same, for a turn whose END is known to follow: the frame is read only if END should not do."""
        turn = self._turns.get(turn_id)
        if turn is None:
            turn = self._turns[turn_id] = OpenTurn(frame.process_id, frame.segment)
        turn.take(frame, None)

    def has_start(self, turn_id: str) -> bool:
        """Whether the turn is open and its beginning was seen."""
        turn = self._turns.get(turn_id)
        return turn is not None and turn.has_start

    def show_again(self) -> None:
        """What was shown may not have been stored."""
        for turn in self._turns.values():
            turn.is_changed, turn.shown_at = True, 0.0

    def note_stored(self, turn_ids: Iterable[str]) -> None:
        """These are in the database as running turns."""
        for turn_id in turn_ids:
            if turn_id in self._turns:
                self._turns[turn_id].is_stored = True

    def unstored(self) -> int:
        """Turns of which the database knows nothing yet."""
        return sum(not turn.is_stored for turn in self._turns.values())

    def completed(self, end: Fragment) -> Fragment:
        """The END of a turn; one that had to be written bare, with what was written of the turn before."""
        turn = self._turns.get(end.turn.id)
        return end if turn is None or END_LOST not in end.turn.flags else merge([*turn.read(), end])

    def close(self, turn_id: str) -> None:
        """The turn has ended."""
        self._turns.pop(turn_id, None)

    def pinned(self) -> frozenset[str]:
        """Segments that hold what an open turn needs."""
        return frozenset(turn.segment for turn in self._turns.values())

    def of_process(self, process_id: str) -> list[Fragment]:
        """The turns that a dead process left open, as interrupted ones."""
        return [turn.merged("interrupted") for turn in self._turns.values() if turn.process_id == process_id]

    def to_show(self, now: float) -> Iterator[Fragment]:
        """Open turns that changed and were last shown a while ago, as in-progress fragments."""
        for turn in self._turns.values():
            if turn.is_changed and now - turn.shown_at >= SHOW_EVERY_SECONDS:
                turn.is_changed, turn.shown_at = False, now
                yield turn.merged("in_progress")
