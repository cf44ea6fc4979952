import zlib
from dataclasses import replace

import pytest

from turntrace.errors import KeyMissing
from turntrace.keyring import KeyRing
from turntrace.spool import frame
from turntrace.spool.frame import DamagedHead, ForeignFile, NewerFormat, SegmentCipher, SegmentHead, read_head

RING = KeyRing([b"k" * 32], is_explicit=True)
UUID = bytes(range(16))
HEAD = SegmentHead(
    uuid=UUID, key_id=RING.current_id, created_at_us=1_795_000_000_000_000, accepted_before=41, library_version="0.1.0"
)


def cipher(uuid: bytes = UUID) -> SegmentCipher:
    return SegmentCipher(RING, uuid, RING.current_id)


def test_a_segment_head_is_read_as_it_was_written() -> None:
    assert read_head(HEAD.pack()) == HEAD
    assert len(HEAD.pack()) == frame.FILE_HEAD_BYTES
    assert HEAD.segment_id == UUID.hex()


@pytest.mark.parametrize("damaged", range(0, frame.HEAD_BYTES))
def test_the_second_copy_stands_in_for_a_damaged_first_one_and_the_other_way_round(damaged: int) -> None:
    for copy in (0, frame.HEAD_BYTES):
        packed = bytearray(HEAD.pack())
        packed[copy + damaged] ^= 0x40
        assert read_head(bytes(packed)) == HEAD


def test_a_head_damaged_in_both_copies_is_said_to_be() -> None:
    packed = bytearray(HEAD.pack())
    packed[20] ^= 1
    packed[frame.HEAD_BYTES + 30] ^= 1
    with pytest.raises(DamagedHead):
        read_head(bytes(packed))


@pytest.mark.parametrize("start", [b"", b"\0" * 128, b"SQLite format 3\0" * 8, HEAD.pack()[:5]])
def test_what_has_not_our_magic_is_foreign(start: bytes) -> None:
    with pytest.raises(ForeignFile):
        read_head(start)


@pytest.mark.parametrize("is_crc_ours", [True, False])
def test_a_newer_format_is_known_by_its_number_whatever_its_layout(is_crc_ours: bool) -> None:
    copy = bytearray(HEAD.pack()[: frame.HEAD_BYTES - 4])
    copy[8:10] = (2).to_bytes(2, "little")
    crc = zlib.crc32(copy) if is_crc_ours else 0
    with pytest.raises(NewerFormat):
        read_head((bytes(copy) + crc.to_bytes(4, "little")) * 2)


@pytest.mark.parametrize("payload", [b"", b"x", b"{}" * 50_000])
def test_a_record_is_opened_as_it_was_sealed(payload: bytes) -> None:
    record = cipher().seal(3, frame.FIRST, 7, 42, payload)
    head = cipher().head_at(b"???" + record, 3)
    assert head is not None
    assert (head.kind, head.flags, head.sequence, head.accepted) == (3, frame.FIRST, 7, 42)
    assert head.end == len(record) == frame.RECORD_BYTES + frame.TAG_BYTES + len(payload)
    assert cipher().open(head, record[frame.RECORD_BYTES :]) == payload


def test_the_payload_is_not_in_the_record() -> None:
    assert b"my secret" not in cipher().seal(3, 0, 1, 1, b"my secret")


@pytest.mark.parametrize("at", range(frame.RECORD_BYTES))
def test_a_record_head_with_one_wrong_bit_is_none(at: int) -> None:
    record = bytearray(cipher().seal(3, 1, 1, 1, b"payload"))
    record[at] ^= 0x10
    assert cipher().head_at(bytes(record), 0) is None


@pytest.mark.parametrize("at", [frame.RECORD_BYTES, frame.RECORD_BYTES + 3, -1])
def test_a_body_with_one_wrong_bit_is_not_opened(at: int) -> None:
    record = bytearray(cipher().seal(3, 1, 1, 1, b"payload"))
    record[at] ^= 1
    head = cipher().head_at(bytes(record), 0)
    assert head is not None
    assert cipher().open(head, bytes(record[frame.RECORD_BYTES :])) is None


def test_a_record_of_another_segment_is_not_one_of_this() -> None:
    record = cipher(b"o" * 16).seal(3, 1, 1, 1, b"payload")
    assert cipher().head_at(record, 0) is None


def test_a_record_cannot_be_passed_off_under_another_sequence() -> None:
    record = cipher().seal(3, 1, 1, 1, b"payload")
    other = cipher().seal(3, 1, 2, 1, b"payload")
    head = cipher().head_at(other, 0)
    assert head is not None
    assert cipher().open(head, record[frame.RECORD_BYTES :]) is None


def test_a_segment_of_an_unknown_key_has_no_cipher() -> None:
    with pytest.raises(KeyMissing):
        SegmentCipher(RING, UUID, replace(HEAD, key_id="01020304").key_id)
