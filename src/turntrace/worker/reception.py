"""What comes over OTLP, on its way to its turn: read together with all that came of the turn before.

Pieces are kept in the database, so that workers of several hosts make the same turn; sealed, because they are not
redacted.
"""

import hmac
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from turntrace.errors import KeyMissing
from turntrace.keyring import KeyRing
from turntrace.pipeline import decode
from turntrace.pipeline.gather import as_late, gather
from turntrace.records.batch import Piece, Reception
from turntrace.records.fragment import Fragment, FrameKind
from turntrace.storage import received
from turntrace.storage.database import Database

log = logging.getLogger("turntrace.worker")

SEAL_PURPOSE: Final = b"turntrace received spans"
DIGEST_PURPOSE: Final = b"turntrace received digest"
# More than this of one turn is not made anew at each arrival: what comes then joins its rows one by one.
MOST_BYTES: Final = 32 << 20
# Pieces that are in memory at once; a single turn may have more.
AT_ONCE_BYTES: Final = 16 << 20
_NONCE_BYTES: Final = 12
_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """One frame of spans or log records, read and as it came."""

    fragment: Fragment
    payload: bytes

    @property
    def turn_id(self) -> str:
        return self.fragment.turn.id


@dataclass(slots=True)
class Gathered:
    """What is to be worked on, and what goes with it."""

    fragments: list[Fragment] = field(default_factory=list)
    receptions: dict[str, Reception] = field(default_factory=dict)  # by turn id
    before: dict[str, Fragment] = field(default_factory=dict)  # earlier state of turns that sampling left out
    waiting: list[Reception] = field(default_factory=list)
    faults: int = 0  # turns that could not be put together


class Desk:
    """Puts arrivals together with what was received of their turns before.

    Args:
        keys: the ring that seals pieces.
        most_bytes: of one turn, before sealing.
    """

    def __init__(self, database: Database, keys: KeyRing, *, most_bytes: int = MOST_BYTES) -> None:
        self._database, self._keys, self._most_bytes = database, keys, most_bytes
        self._digest_key = keys.derive(DIGEST_PURPOSE)

    def portions(self, arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
        """The arrivals in portions whose turns fit into memory together; all of one turn are in one portion."""
        by_turn: dict[str, list[Arrival]] = {}
        for arrival in arrivals:
            by_turn.setdefault(arrival.turn_id, []).append(arrival)
        with self._database.read() as connection:
            known = received.sizes(connection, by_turn)
        portion: list[Arrival] = []
        size = 0
        for turn_id, members in by_turn.items():
            more = min(known.get(turn_id, 0), self._most_bytes) + sum(len(arrival.payload) for arrival in members)
            if portion and size + more > AT_ONCE_BYTES:
                yield portion
                portion, size = [], 0
            portion += members
            size += more
        if portion:
            yield portion

    def gather(self, arrivals: Iterable[Arrival]) -> Gathered:
        """The turns of these arrivals as wholes, where that can still be."""
        by_turn: dict[str, list[Arrival]] = {}
        for arrival in arrivals:
            by_turn.setdefault(arrival.turn_id, []).append(arrival)
        with self._database.read() as connection:
            stored = received.load(connection, by_turn)
        gathered = Gathered()
        for turn_id, members in by_turn.items():
            try:
                self._take(gathered, turn_id, members, stored[turn_id])
            except Exception as error:  # else one turn would hold up all others, at every try
                log.error("a turn was set aside: %s", type(error).__name__)
                gathered.faults += 1
        return gathered

    def _take(self, gathered: Gathered, turn_id: str, arrivals: list[Arrival], stored: received.Stored) -> None:
        known = {piece.digest for piece in stored.pieces}
        fresh = {digest: arrival for arrival in arrivals if (digest := self._digest(arrival)) not in known}
        if not fresh:
            return
        is_over = sum(piece.size for piece in stored.pieces) + _size(fresh.values()) > self._most_bytes
        earlier = None if is_over else self._opened(turn_id, stored.pieces)
        new = [arrival.fragment for arrival in fresh.values()]
        # Settled, too large, or sealed by a host whose key we lack: the rows are all there is to go by, for good.
        is_late = (stored.is_known or stored.is_sampled) and (earlier is None or not _has_spans(earlier))
        is_hollow = is_over or is_late
        reception = Reception(
            turn_id=turn_id,
            pieces=tuple(self._sealed(turn_id, digest, item, is_hollow) for digest, item in fresh.items()),
            seen=frozenset(known),
        )
        if is_late:
            gathered.fragments += as_late(new)
            gathered.receptions[turn_id] = reception
            return
        self._whole(gathered, reception, earlier or [], new, stored)

    def _whole(
        self,
        gathered: Gathered,
        reception: Reception,
        earlier: list[Fragment],
        new: list[Fragment],
        stored: received.Stored,
    ) -> None:
        whole = gather([*earlier, *new])
        before = gather(earlier) if earlier else None
        is_stored = stored.is_known or stored.is_sampled
        if whole is None or (is_stored and whole == before):
            # Nothing new of a span, but log records may be early: their span is still to come.
            if any(fragment.kind is FrameKind.LOGS for fragment in new):
                gathered.waiting.append(reception)
            return
        gathered.fragments.append(whole)
        gathered.receptions[reception.turn_id] = reception
        if stored.is_sampled and before is not None:
            gathered.before[reception.turn_id] = before

    def _digest(self, arrival: Arrival) -> str:
        return hmac.digest(self._digest_key, bytes([arrival.fragment.kind]) + arrival.payload, "sha256")[:16].hex()

    def _sealed(self, turn_id: str, digest: str, arrival: Arrival, is_hollow: bool) -> Piece:
        """The arrival as a piece; hollow: only that it came, so that the turn is not made anew from a part of it."""
        key_id = self._keys.current_id
        payload = b"" if is_hollow else zlib.compress(arrival.payload, _LEVEL)
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(self._keys.derive(SEAL_PURPOSE, salt=bytes.fromhex(turn_id), key_id=key_id))
        body = bytes([arrival.fragment.kind]) + payload
        data = nonce + cipher.encrypt(nonce, body, bytes.fromhex(turn_id + digest))
        size = max(len(arrival.payload), self._most_bytes + 1) if is_hollow else len(arrival.payload)
        return Piece(digest=digest, size=size, key_id=key_id, data=data)

    def _opened(self, turn_id: str, pieces: Iterable[Piece]) -> list[Fragment] | None:
        """The fragments of these pieces, or None where one of them cannot be read here."""
        try:
            return [self._open(turn_id, piece) for piece in pieces]
        except (KeyMissing, InvalidTag, zlib.error, ValueError):
            return None

    def _open(self, turn_id: str, piece: Piece) -> Fragment:
        cipher = AESGCM(self._keys.derive(SEAL_PURPOSE, salt=bytes.fromhex(turn_id), key_id=piece.key_id))
        nonce, sealed = piece.data[:_NONCE_BYTES], piece.data[_NONCE_BYTES:]
        body = cipher.decrypt(nonce, sealed, bytes.fromhex(turn_id + piece.digest))
        return decode(FrameKind(body[0]), zlib.decompress(body[1:]))


def _size(arrivals: Iterable[Arrival]) -> int:
    return sum(len(arrival.payload) for arrival in arrivals)


def _has_spans(fragments: Iterable[Fragment]) -> bool:
    return any(fragment.kind is FrameKind.OTLP and fragment.spans for fragment in fragments)
