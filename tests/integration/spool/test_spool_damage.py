"""Whatever happens to the bytes of a segment: intact records come back, nothing else does, nothing is fatal."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spooled import bury_dead, number_of, read_all, store_all, turn

from turntrace.keyring import KeyRing
from turntrace.records.fragment import FrameKind
from turntrace.spool.frame import FILE_HEAD_BYTES, RECORD_BYTES, RECORD_MAGIC, TAG_BYTES
from turntrace.spool.reader import SpoolReader
from turntrace.spool.writer import SpoolWriter

# Damaged files in all: more than 2,000, in the long form more than 100,000.
IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
EFFORT = 170 if IS_LONG else 4

pytestmark = pytest.mark.timeout(3600 if IS_LONG else 180)


def examples(number: int) -> settings:
    return settings(max_examples=number * EFFORT, deadline=None)


KEYS = KeyRing([b"k" * 32], is_explicit=True)
SIZES = (0, 300, 7, 1500, 64, 0, 2000, 12)
COUNT = len(SIZES)


def payload(number: int) -> bytes:
    return turn(number, SIZES[number])


@contextmanager
def written() -> Iterator[tuple[Path, Path]]:
    """A root with one segment of `COUNT` turns whose writer is gone, and the path of the segment."""
    root = Path(tempfile.mkdtemp(prefix="turntrace-"))
    try:
        writer = SpoolWriter(root, KEYS)
        for number in range(COUNT):
            writer.append(FrameKind.END, payload(number), is_first=True)
        writer.close()
        (segment,) = root.glob("p-*/*.seg")
        segment.chmod(0o600)
        yield root, segment
    finally:
        shutil.rmtree(root)


def starts() -> list[int]:
    """Where each record begins, and the end of the file."""
    found = [FILE_HEAD_BYTES]
    for number in range(COUNT):
        found.append(found[-1] + RECORD_BYTES + TAG_BYTES + len(payload(number)))
    return found


STARTS = starts()


def recovered(root: Path) -> tuple[list[int], dict[str, int], int, int]:
    """Numbers of the turns that were read, what was skipped, turns dropped and accepted."""
    reader = SpoolReader(root, KEYS, mark=lambda segment: 0)
    try:
        reader.dead()
        frames = store_all(reader)
        assert all(frame.payload == payload(number_of(frame)) for frame in frames)
        reader.dead()
        (counts,) = reader.counts()
        lost = sum(frame.lost for frame in frames) + sum(counts.dropped.values())
        return [number_of(frame) for frame in frames], dict(reader.skipped), lost, counts.accepted
    finally:
        reader.close()


def assert_balanced(found: list[int], lost: int, accepted: int) -> None:
    assert accepted == COUNT
    assert lost == COUNT - len(found)


def untouched(begin: int, end: int) -> list[int]:
    """Turns whose records lie wholly outside the bytes from `begin` to `end`."""
    return [n for n in range(COUNT) if STARTS[n + 1] <= begin or STARTS[n] >= end]


positions = st.integers(FILE_HEAD_BYTES, STARTS[-1] - 1)


@examples(150)
@given(at=positions, bit=st.integers(0, 7))
def test_one_wrong_bit_costs_one_record_and_is_accounted_for(at: int, bit: int) -> None:
    with written() as (root, segment):
        data = bytearray(segment.read_bytes())
        data[at] ^= 1 << bit
        segment.write_bytes(data)
        found, skipped, lost, accepted = recovered(root)
        assert found == untouched(at, at + 1)
        assert sum(skipped.values()) == 1
        assert_balanced(found, lost, accepted)


@examples(100)
@given(begin=positions, length=st.integers(1, 3000), noise=st.randoms(use_true_random=False))
def test_records_before_and_after_an_overwritten_stretch_come_back(begin: int, length: int, noise: Random) -> None:
    with written() as (root, segment):
        data = segment.read_bytes()
        end = min(begin + length, len(data))
        noisy = bytes(old ^ (noise.randrange(255) + 1) for old in data[begin:end])  # every byte another one
        segment.write_bytes(data[:begin] + noisy + data[end:])
        found, _, lost, accepted = recovered(root)
        assert found == untouched(begin, end)
        assert_balanced(found, lost, accepted)


@examples(100)
@given(begin=positions, length=st.integers(1, 3000))
@example(begin=FILE_HEAD_BYTES + 1, length=STARTS[3] - FILE_HEAD_BYTES)
def test_a_stretch_that_is_missing_costs_only_what_was_in_it(begin: int, length: int) -> None:
    with written() as (root, segment):
        data = segment.read_bytes()
        left = data[:begin] + data[min(begin + length, len(data)) :]
        segment.write_bytes(left)
        found, _, lost, accepted = recovered(root)
        # All records begin alike: what is left of one's first bytes may be those of another.
        assert found == [n for n in range(COUNT) if data[STARTS[n] : STARTS[n + 1]] in left]
        assert_balanced(found, lost, accepted)


@examples(60)
@given(at=positions, garbage=st.one_of(st.binary(min_size=1, max_size=400), st.just(RECORD_MAGIC * 30)))
def test_bytes_put_in_between_cost_at_most_the_record_they_are_put_into(at: int, garbage: bytes) -> None:
    with written() as (root, segment):
        data = segment.read_bytes()
        segment.write_bytes(data[:at] + garbage + data[at:])
        found, _, lost, accepted = recovered(root)
        assert set(untouched(at, at)) <= set(found)
        assert_balanced(found, lost, accepted)


@examples(60)
@given(length=st.integers(0, STARTS[-1]))
def test_a_file_cut_off_anywhere_gives_what_is_whole(length: int) -> None:
    with written() as (root, segment):
        segment.write_bytes(segment.read_bytes()[:length])
        found, skipped, lost, accepted = recovered(root)
        assert found == [n for n in range(COUNT) if STARTS[n + 1] <= length]
        if length >= FILE_HEAD_BYTES:
            assert skipped == ({} if length in STARTS else {"torn": 1})
            assert_balanced(found, lost, accepted)


@examples(40)
@given(number=st.integers(0, COUNT - 1), place=st.integers(0, COUNT))
def test_a_record_copied_to_another_place_is_not_read_twice(number: int, place: int) -> None:
    with written() as (root, segment):
        data = segment.read_bytes()
        copy = data[STARTS[number] : STARTS[number + 1]]
        segment.write_bytes(data[: STARTS[place]] + copy + data[STARTS[place] :])
        found, _, lost, accepted = recovered(root)
        assert len(found) == len(set(found))
        assert number in found
        assert_balanced(found, lost, accepted)


@examples(80)
@given(data=st.one_of(st.binary(max_size=500), st.builds(lambda tail: b"ttspool\n" + tail, st.binary(max_size=500))))
def test_any_bytes_at_all_are_survived(data: bytes) -> None:
    with written() as (root, segment):
        segment.with_name("00000002.seg").write_bytes(data)
        reader = SpoolReader(root, KEYS, mark=lambda segment: 0)
        assert [number_of(frame) for frame in bury_dead(reader)] == list(range(COUNT))
        reader.close()


@pytest.mark.parametrize("head", [b"\xff" * FILE_HEAD_BYTES, None])
def test_a_segment_that_lost_its_head_is_counted_and_never_fatal(head: bytes | None) -> None:
    with written() as (root, segment):
        data = segment.read_bytes()
        broken = head or data[:8] + bytes(FILE_HEAD_BYTES - 8)
        segment.write_bytes(broken + data[FILE_HEAD_BYTES:])
        found, skipped, _, accepted = recovered(root)
        assert (found, accepted) == ([], COUNT)
        assert skipped == ({"foreign": 1} if head else {"corrupt": 1})


def test_damage_in_one_segment_is_told_by_the_next_and_told_once() -> None:
    root = Path(tempfile.mkdtemp(prefix="turntrace-"))
    try:
        writer = SpoolWriter(root, KEYS, segment_bytes=3000)
        for number in range(6):  # two to a segment
            writer.append(FrameKind.END, turn(number, 1000), is_first=True)
        first = sorted(root.glob("p-*/*.seg"))[0]
        first.chmod(0o600)
        first.write_bytes(first.read_bytes()[:-20])
        reader = SpoolReader(root, KEYS, mark=lambda segment: 0)
        frames = read_all(reader)
        assert [(number_of(frame), frame.lost) for frame in frames] == [(0, 0), (2, 1), (3, 0), (4, 0), (5, 0)]
        marks = {frame.segment: frame.sequence for frame in frames}
        again = SpoolReader(root, KEYS, mark=lambda segment: marks.get(segment, 0))
        assert sum(frame.lost for frame in read_all(again)) == 0
        writer.close()
        reader.close()
        again.close()
    finally:
        shutil.rmtree(root)


def test_a_half_written_record_of_a_living_process_is_waited_for() -> None:
    with written() as (root, segment):
        data = segment.read_bytes()
        home = segment.parent
        writer = SpoolWriter(root, KEYS)
        writer.append(FrameKind.END, turn(99), is_first=True)
        (living,) = (path for path in root.glob("p-*/*.seg") if path.parent != home)
        reader = SpoolReader(root, KEYS, mark=lambda segment: 0)
        for length in range(STARTS[6], STARTS[8], 97):
            living.write_bytes(data[:length])
            whole = [n for n in range(COUNT) if STARTS[n + 1] <= length]
            reader.rewind()
            found = [number_of(f) for f in read_all(reader) if f.process_id == writer.process_id]
            assert found in (whole, [99, *whole])
        assert "torn" not in reader.skipped
        writer.close()
        reader.close()
