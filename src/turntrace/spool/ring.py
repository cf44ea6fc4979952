"""Frames in memory, bounded in bytes: the refuge while no disk can be written to, and the queue of a `MemorySpool`.

Frames are kept turn by turn, so that the oldest *turns* go first, each with all its frames: a half of a turn would make
the balance wrong. Frames of a turn whose beginning is on disk already go last, since their turn is accepted there.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

REMEMBER_SECONDS: Final = 600.0
_ENTRY_BYTES: Final = 256  # what an entry costs beside its payload, about


class Held(NamedTuple):
    """One frame in memory."""

    kind: int
    payload: bytes
    is_first: bool


class Evicted(NamedTuple):
    """What had to go: whole turns, and later frames of turns that are accounted for elsewhere."""

    turns: int
    frames: int


@dataclass(slots=True)
class _Turn:
    frames: list[Held] = field(default_factory=list)
    size: int = 0
    has_first: bool = False


def turn_id(payload: bytes) -> str | None:
    """The id of the turn a payload belongs to; None for those that belong to none."""
    try:
        found = orjson.loads(payload)["turn"]["id"]
    except (ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None


class Ring:
    """Not thread-safe: its owner's lock is held."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._turns: OrderedDict[str, _Turn] = OrderedDict()
        self._size = 0
        self._anonymous = 0
        self._abandoned: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Turns (or parts of them) that are held."""
        return len(self._turns)

    @property
    def is_idle(self) -> bool:
        """Nothing is held, and no evicted turn may still send frames."""
        return not self._turns and not self._abandoned

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def first_count(self) -> int:
        """Turns that are held from their first frame on."""
        return sum(turn.has_first for turn in self._turns.values())

    def put(self, frame: Held, now: float) -> Evicted:
        """Hold one frame, at the cost of the oldest turns."""
        key = turn_id(frame.payload) or self._anonymous_key()
        turn = self._turns.setdefault(key, _Turn())
        size = len(frame.payload) + _ENTRY_BYTES
        turn.frames.append(frame)
        turn.size += size
        turn.has_first |= frame.is_first
        self._size += size
        turns = frames = 0
        while self._size > self._max_bytes and self._turns:
            gone = self._evict(now)
            turns, frames = turns + gone.turns, frames + gone.frames
        return Evicted(turns, frames)

    def is_abandoned(self, payload: bytes, now: float) -> bool:
        """Whether a later frame belongs to a turn that was evicted and counted as dropped."""
        while self._abandoned and next(iter(self._abandoned.values())) < now - REMEMBER_SECONDS:
            self._abandoned.popitem(last=False)
        return bool(self._abandoned) and turn_id(payload) in self._abandoned

    def peek(self) -> Held | None:
        """The oldest frame of the oldest turn."""
        turn = next(iter(self._turns.values()), None)
        return turn.frames[0] if turn else None

    def pop(self) -> None:
        """Let go of the frame that `peek` gave: it is safe elsewhere."""
        key, turn = next(iter(self._turns.items()))
        frame = turn.frames.pop(0)
        size = len(frame.payload) + _ENTRY_BYTES
        turn.size -= size
        self._size -= size
        turn.has_first &= not frame.is_first
        if not turn.frames:
            del self._turns[key]

    def _anonymous_key(self) -> str:
        self._anonymous += 1
        return f"#{self._anonymous}"

    def _evict(self, now: float) -> Evicted:
        key = next((key for key, turn in self._turns.items() if turn.has_first), None)
        if key is None:
            _, turn = self._turns.popitem(last=False)
            self._size -= turn.size
            return Evicted(0, len(turn.frames))
        turn = self._turns.pop(key)
        self._size -= turn.size
        self._abandoned[key] = now
        return Evicted(1, 0)
