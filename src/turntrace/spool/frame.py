"""What is promised on disk: the layout of a segment file and of the records in it. Pure: bytes in, bytes out.

A segment is two copies of a 64-byte head (so that one damaged sector does not cost the file), then records. Integers
are little-endian.

head    magic "ttspool\\n" 8 | version u16 | size of a copy u16 | key id 4 | file UUID 16 | created u64 (µs, Unix) |
        accepted before this file u64 | library version 12, NUL padded | CRC32 u32
record  magic b"\\xf5TF\\x1a" 4 | kind u8 | flags u8 | 0 u16 | key id 4 | body length u32 | sequence u64 |
        accepted u64 | CRC32 u32 of the file UUID and the fields before | body

The body is AES-256-GCM: ciphertext and 16-byte tag; its key is HKDF(ring key, salt=file UUID), its nonce the sequence
(never used twice: it also advances past a record that failed to be written), its associated data the file UUID and
the record head. `accepted` counts the turns whose first frame this process has written, this record included: gaps in
it tell a reader how many turns were lost to damage, and the largest one is the truth after a kill.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple
from zlib import crc32

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from turntrace.keyring import KeyRing

FORMAT_VERSION: Final = 1
SEGMENT_MAGIC: Final = b"ttspool\n"
RECORD_MAGIC: Final = b"\xf5TF\x1a"
FIRST: Final = 1  # flag: the first frame of its turn
REEMITTED: Final = 2  # flag: an open turn, written again at the head of a segment
LONGEST_BODY: Final = 64 << 20
PURPOSE: Final = b"turntrace spool segment"

_HEAD: Final = struct.Struct("<8sHH4s16sQQ12s")
_RECORD: Final = struct.Struct("<4sBBH4sIQQ")
_CRC: Final = struct.Struct("<I")
_pack_record: Final = _RECORD.pack
HEAD_BYTES: Final = _HEAD.size + _CRC.size
FILE_HEAD_BYTES: Final = 2 * HEAD_BYTES
RECORD_BYTES: Final = _RECORD.size + _CRC.size
TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHead:
    """Who wrote a segment, and with which key. `uuid` is 16 bytes, `key_id` 8 hex digits."""

    uuid: bytes
    key_id: str
    created_at_us: int
    accepted_before: int
    library_version: str = ""

    @property
    def segment_id(self) -> str:
        """The segment's name in progress marks: 32 hex digits, unique for ever."""
        return self.uuid.hex()

    def pack(self) -> bytes:
        """Both copies."""
        copy = _HEAD.pack(
            SEGMENT_MAGIC,
            FORMAT_VERSION,
            HEAD_BYTES,
            bytes.fromhex(self.key_id),
            self.uuid,
            self.created_at_us,
            self.accepted_before,
            self.library_version.encode()[:12],
        )
        return (copy + _CRC.pack(crc32(copy))) * 2


class ForeignFile(ValueError):
    """Not a segment of ours."""


class NewerFormat(ValueError):
    """A segment of a newer release."""


class DamagedHead(ValueError):
    """A segment whose head is damaged in both copies."""


def read_head(start: bytes) -> SegmentHead:
    """The head in the first `FILE_HEAD_BYTES` (or more) of a file.

    Raises:
        ForeignFile, NewerFormat, DamagedHead
    """
    found = [at for at in _places(start) if at + HEAD_BYTES <= len(start)]
    for at in found:
        copy = start[at : at + HEAD_BYTES]
        if crc32(copy[: _HEAD.size]) == _CRC.unpack_from(copy, _HEAD.size)[0]:
            return _unpack_head(copy)
    if not found:
        raise ForeignFile
    version = _HEAD.unpack_from(start, found[0])[1]
    raise NewerFormat if version > FORMAT_VERSION else DamagedHead


def _places(start: bytes) -> Iterator[int]:
    at = start.find(SEGMENT_MAGIC)
    while at >= 0:
        yield at
        at = start.find(SEGMENT_MAGIC, at + 1)


def _unpack_head(copy: bytes) -> SegmentHead:
    _, version, _, key_id, uuid, created, accepted, library = _HEAD.unpack_from(copy)
    if version > FORMAT_VERSION:
        raise NewerFormat
    return SegmentHead(
        uuid=uuid,
        key_id=key_id.hex(),
        created_at_us=created,
        accepted_before=accepted,
        library_version=library.rstrip(b"\0").decode("ascii", "replace"),
    )


class RecordHead(NamedTuple):
    """The clear part of a record. `length` is that of the body in bytes, tag included."""

    kind: int
    flags: int
    length: int
    sequence: int
    accepted: int
    packed: bytes

    @property
    def end(self) -> int:
        """Bytes from the start of the record to the next one."""
        return RECORD_BYTES + self.length


class SegmentCipher:
    """Seals and opens the records of one segment."""

    __slots__ = ("_aead", "_encrypt", "_key_id", "_seed", "_uuid")

    def __init__(self, keys: KeyRing, uuid: bytes, key_id: str) -> None:
        """Raises `KeyMissing` where the ring has no such key."""
        self._aead = AESGCM(keys.derive(PURPOSE, salt=uuid, key_id=key_id))
        self._encrypt = self._aead.encrypt
        self._key_id = bytes.fromhex(key_id)
        self._uuid = uuid
        self._seed = crc32(uuid)

    def seal(self, kind: int, flags: int, sequence: int, accepted: int, payload: bytes) -> bytes:
        """One record, ready to be written by one `write`."""
        fields = _pack_record(RECORD_MAGIC, kind, flags, 0, self._key_id, len(payload) + TAG_BYTES, sequence, accepted)
        head = fields + crc32(fields, self._seed).to_bytes(4, "little")
        return head + self._encrypt(sequence.to_bytes(12, "little"), payload, self._uuid + head)

    def head_at(self, data: bytes, at: int) -> RecordHead | None:
        """The record head at `at`, or None where there is no intact one. `data` must reach `RECORD_BYTES` further."""
        magic, kind, flags, _, _, length, sequence, accepted = _RECORD.unpack_from(data, at)
        if magic != RECORD_MAGIC or not TAG_BYTES <= length <= LONGEST_BODY + TAG_BYTES:
            return None
        packed = data[at : at + RECORD_BYTES]
        if crc32(packed[: _RECORD.size], self._seed) != _CRC.unpack_from(packed, _RECORD.size)[0]:
            return None
        return RecordHead(kind, flags, length, sequence, accepted, packed)

    def open(self, head: RecordHead, body: bytes) -> bytes | None:
        """The payload, or None where the body is not what was written."""
        try:
            return self._aead.decrypt(head.sequence.to_bytes(12, "little"), body, self._uuid + head.packed)
        except InvalidTag:
            return None
