"""Writer and reader together, in good times: order, marks, rotation, several processes, bounds."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from spooled import Clock, bury_dead, number_of, read_all, store_all, turn

from turntrace.keyring import KeyRing
from turntrace.records.fragment import FrameKind
from turntrace.spool.allowance import bytes_below
from turntrace.spool.reader import SpoolReader
from turntrace.spool.writer import SpoolWriter

START, DELTA, END, AMEND = FrameKind.START, FrameKind.DELTA, FrameKind.END, FrameKind.AMEND
NewWriter = Callable[..., SpoolWriter]
NewReader = Callable[..., SpoolReader]


def segments(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("p-*/*.seg"))


def test_nothing_is_touched_before_the_first_frame(root: Path, new_writer: NewWriter, new_reader: NewReader) -> None:
    writer = new_writer()
    assert not root.exists()
    assert new_reader().poll(10, 1000) == []
    assert writer.append(END, turn(1), is_first=True)
    assert root.is_dir()


def test_frames_are_read_as_they_were_written_while_their_writer_lives(
    new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer, reader = new_writer(), new_reader()
    for kind, is_first in ((START, True), (DELTA, False), (END, False), (AMEND, False)):
        assert writer.append(kind, turn(1), is_first=is_first)
    frames = read_all(reader)
    assert [(f.kind, f.is_first, f.is_done, f.sequence) for f in frames] == [
        (START, True, False, 1),
        (DELTA, False, False, 2),
        (END, False, False, 3),
        (AMEND, False, False, 4),
    ]
    assert {(f.process_id, f.segment) for f in frames} == {(writer.process_id, writer.segment_id)}
    assert all(f.payload == turn(1) and f.lost == 0 for f in frames)
    assert read_all(reader) == []
    writer.append(END, turn(2), is_first=True)
    assert [number_of(f) for f in read_all(reader)] == [2]


def test_a_poll_gives_no_more_than_asked_for(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(), new_reader()
    for number in range(10):
        writer.append(END, turn(number, size=1000), is_first=True)
    assert len(reader.poll(3, 1 << 20)) == 3
    assert len(reader.poll(100, 2500)) == 3
    assert [number_of(f) for f in read_all(reader)] == [6, 7, 8, 9]


def test_files_and_directories_are_private(root: Path, new_writer: NewWriter) -> None:
    new_writer().append(END, turn(1), is_first=True)
    home = next(root.glob("p-*"))
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}


def test_content_is_not_readable_in_the_files(root: Path, new_writer: NewWriter) -> None:
    new_writer().append(END, b'{"turn": {"name": "my very secret question"}}', is_first=True)
    assert all(b"secret" not in path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_a_later_reader_knows_what_is_stored_by_the_marks(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer = new_writer()
    for number in range(6):
        writer.append(START if number in (0, 4) else END, turn(number), is_first=True)
    first = new_reader()
    frames = first.poll(4, 1 << 20)
    marks = {frame.segment: frame.sequence for frame in frames}
    first.close()
    again = read_all(new_reader(mark=lambda segment: marks.get(segment, 0)))
    assert [(number_of(f), f.is_done) for f in again] == [
        (0, False),  # START: open turns are rebuilt from the segments
        (1, True),
        (2, True),
        (3, True),
        (4, False),
        (5, False),
    ]


def test_what_was_not_committed_is_delivered_again_after_a_rewind(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(), new_reader()
    for number in range(4):
        writer.append(END, turn(number), is_first=True)
    frames = read_all(reader)
    reader.commit({frames[0].segment: frames[1].sequence})
    assert read_all(reader) == []
    reader.rewind()
    assert [(number_of(f), f.is_done) for f in read_all(reader)] == [(0, True), (1, True), (2, False), (3, False)]


def test_a_segment_goes_when_it_is_full_stored_and_not_pinned(
    root: Path, new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer, reader = new_writer(segment_bytes=3000), new_reader()
    for number in range(5):  # two to a segment
        writer.append(END, turn(number, size=1000), is_first=True)
    assert len(segments(root)) == 3
    frames = read_all(reader)
    assert [number_of(f) for f in frames] == [0, 1, 2, 3, 4]
    reader.release(frozenset())
    assert len(segments(root)) == 3  # nothing is stored
    reader.commit({frame.segment: frame.sequence for frame in frames})
    reader.release(frozenset({frames[0].segment}))
    assert segments(root) == ["00000001.seg", "00000003.seg"]  # pinned; still written to
    reader.release(frozenset())
    assert segments(root) == ["00000003.seg"]


def test_a_segment_that_is_half_stored_stays(root: Path, new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(segment_bytes=3000), new_reader()
    for number in range(4):
        writer.append(END, turn(number, size=1000), is_first=True)
    frames = read_all(reader)
    reader.commit({frames[0].segment: 1})
    reader.release(frozenset())
    assert len(segments(root)) == 2


def test_an_old_segment_is_followed_by_a_new_one_and_an_empty_one_is_not(
    root: Path, new_writer: NewWriter, clock: Clock
) -> None:
    writer = new_writer()
    writer.append(END, turn(1), is_first=True)
    clock.now += 29
    writer.append(END, turn(2), is_first=True)
    assert len(segments(root)) == 1
    clock.now += 2
    writer.append(END, turn(3), is_first=True)
    assert len(segments(root)) == 2
    first = root / f"p-{writer.process_id}" / "00000001.seg"
    assert first.stat().st_mode & 0o777 == 0o400


def test_open_turns_are_written_again_at_the_head_of_a_new_segment(
    root: Path, new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    writer, reader = new_writer(open_turns=lambda: [turn(1, size=500)]), new_reader()
    writer.append(START, turn(1), is_first=True)
    clock.now += 31
    writer.append(DELTA, turn(1), is_first=False)
    frames = store_all(reader)
    assert [(f.kind, f.is_first, len(f.payload) > 500) for f in frames] == [
        (START, True, False),
        (START, False, True),
        (DELTA, False, False),
    ]
    assert frames[0].segment != frames[1].segment
    assert segments(root) == ["00000002.seg"]  # the long stream keeps no old segment
    assert reader.counts()[0].accepted == 1


def test_a_turn_that_ends_while_open_turns_are_written_is_taken_up_afterwards(
    new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    def open_turns() -> list[bytes]:
        assert writer.append(END, turn(9), is_first=True)  # a finaliser called inside the writer
        return []

    writer = new_writer(open_turns=open_turns)
    writer.append(END, turn(1), is_first=True)
    clock.now += 31
    writer.append(END, turn(2), is_first=True)
    assert [number_of(f) for f in read_all(new_reader())] == [1, 2, 9]


def test_open_turns_that_fail_cost_nothing_but_a_count(
    new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    def open_turns() -> list[bytes]:
        raise RuntimeError("in the host's data")

    writer = new_writer(open_turns=open_turns)
    writer.append(END, turn(1), is_first=True)
    clock.now += 31
    assert writer.append(END, turn(2), is_first=True)
    assert len(read_all(new_reader())) == 2
    assert writer.counters.get("fault:spool.open_turns") == 1


def test_threads_append_whole_frames(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer = new_writer(segment_bytes=100_000)

    def work(base: int) -> None:
        for number in range(300):
            assert writer.append(END, turn(base + number, size=number), is_first=True)

    threads = [threading.Thread(target=work, args=(1000 * base,)) for base in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = new_reader()
    assert len({number_of(f) for f in read_all(reader)}) == 1200
    assert reader.counts()[0].accepted == 1200
    assert not reader.skipped


def test_a_busy_process_does_not_starve_the_others(new_writer: NewWriter, new_reader: NewReader) -> None:
    busy, quiet, reader = new_writer(), new_writer(), new_reader()
    for number in range(100):
        busy.append(END, turn(number), is_first=True)
    quiet.append(END, turn(999), is_first=True)
    seen = [number_of(frame) for _ in range(2) for frame in reader.poll(10, 1 << 20)]
    assert 999 in seen


def test_unread_turns_are_known_before_and_after_a_part_is_read(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(segment_bytes=3000), new_reader()
    for number in range(7):
        writer.append(END, turn(number, size=1000), is_first=True)
        writer.append(AMEND, turn(number), is_first=False)
    assert reader.unread() == 7
    reader.poll(5, 1 << 20)
    assert reader.unread() == 4
    store_all(reader)
    assert reader.unread() == 0
    writer.append(END, turn(8), is_first=True)
    assert reader.unread() == 1


def test_the_spool_of_a_process_that_closed_is_adopted_and_its_directory_removed(
    root: Path, new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    assert reader.dead() == []
    writer.close()
    assert reader.dead() == []  # adopted just now: what it wrote last is to be read first
    assert [number_of(f) for f in store_all(reader)] == [1]
    assert reader.dead() == [writer.process_id]
    assert reader.counts()[0].is_dead
    reader.release(frozenset())
    reader.forget(writer.process_id)
    assert list(root.iterdir()) == []


def test_a_directory_whose_frames_are_not_stored_is_not_removed(
    root: Path, new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    writer.close()
    reader.dead()
    read_all(reader)
    assert reader.dead() == [writer.process_id]
    reader.release(frozenset())
    reader.forget(writer.process_id)
    assert len(segments(root)) == 1
    reader.close()
    assert [number_of(f) for f in bury_dead(new_reader())] == [1]


def test_a_writer_that_was_closed_begins_a_new_directory(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    former = writer.process_id
    writer.close()
    assert writer.append(END, turn(2), is_first=True)
    assert writer.process_id != former
    assert [number_of(f) for f in bury_dead(reader)] in ([1, 2], [2, 1])
    assert {c.process_id: c.accepted for c in reader.counts()} == {writer.process_id: 1}


def test_two_keys_are_read_and_a_third_is_left_alone(root: Path, new_writer: NewWriter, new_reader: NewReader) -> None:
    old, new, foreign = b"o" * 32, b"n" * 32, b"f" * 32
    for number, key in enumerate((old, new, foreign)):
        writer = new_writer(keys=KeyRing([key], is_explicit=True))
        writer.append(END, turn(number), is_first=True)
        writer.close()
    reader = new_reader(keys=KeyRing([new, old], is_explicit=True))
    assert sorted(number_of(f) for f in bury_dead(reader)) == [0, 1]
    assert reader.skipped == {"key_missing": 1}
    assert len(segments(root)) == 1
    assert reader.unread() == 1
    reader.close()
    later = new_reader(keys=KeyRing([new, old, foreign], is_explicit=True))
    assert [number_of(f) for f in bury_dead(later)] == [2]
    assert list(root.iterdir()) == []


def test_the_spool_never_outgrows_its_bound_and_recovers_when_it_is_read(
    root: Path, new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    bound = 1 << 20
    writer, other, reader = new_writer(max_bytes=bound), new_writer(max_bytes=bound), new_reader()
    taken = 0
    for number in range(400):
        clock.now += 0.3
        taken += writer.append(END, turn(number, size=5000), is_first=True)
        taken += other.append(END, turn(1000 + number, size=5000), is_first=True)
        assert bytes_below(root) <= bound
    assert 100 < taken < 250
    counts = reader.counts() or (reader.poll(1, 1), reader.counts())[1]
    assert sum(c.accepted for c in counts) == 800
    assert sum(c.dropped["spool_full"] for c in counts) == 800 - taken
    reader.rewind()
    assert len(store_all(reader)) == taken
    clock.now += 3
    assert writer.append(END, turn(5000), is_first=True)
    assert sum(c.dropped["spool_full"] for c in reader.counts()) == 800 - taken


def test_turns_that_began_before_the_spool_was_full_can_still_end(
    new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    writer = new_writer(max_bytes=1 << 20)
    for number in range(3):
        writer.append(START, turn(number), is_first=True)
    while writer.append(END, turn(9, size=5000), is_first=True):
        pass
    for number in range(3):
        assert writer.append(END, turn(number, size=2000), is_first=False)
    ended = [number_of(f) for f in read_all(new_reader()) if f.kind is END and not f.is_first]
    assert ended == [0, 1, 2]


def test_a_frame_that_is_too_large_is_dropped_and_counted(
    new_writer: NewWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turntrace.spool.writer.LONGEST_BODY", 1000)
    writer = new_writer()
    assert not writer.append(END, turn(1, size=2000), is_first=True)
    assert not writer.append(AMEND, turn(2, size=2000), is_first=False)
    assert writer.counters.values()["accepted"] == 1
    assert writer.counters.get("dropped:too_large") == 1
    assert writer.counters.get("lost_frames:too_large") == 1


def test_what_is_not_ours_is_left_alone(root: Path, new_writer: NewWriter, new_reader: NewReader) -> None:
    writer = new_writer()
    writer.append(END, turn(1), is_first=True)
    home = root / f"p-{writer.process_id}"
    (home / "99999990.seg").write_bytes(b"SQLite format 3\0" * 100)
    newer = bytearray((home / "00000001.seg").read_bytes())
    newer[8] = newer[72] = 9
    (home / "99999991.seg").write_bytes(newer)
    (home / "99999992.seg").mkdir()
    os.mkfifo(home / "99999993.seg")
    (home / "99999994.seg").symlink_to("/etc/passwd")
    (home / "notes.txt").write_text("keep me")
    (root / "README").write_text("keep me")
    writer.close()
    reader = new_reader()
    assert [number_of(f) for f in bury_dead(reader)] == [1]
    assert reader.skipped == {"foreign": 4, "newer_format": 1}
    assert segments(root) == [f"9999999{n}.seg" for n in range(5)]
    assert reader.dead() == []  # done with, and not begun again at every poll
    assert bury_dead(reader) == []


def test_an_empty_segment_of_a_dead_process_is_removed(
    root: Path, new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer = new_writer()
    writer.append(END, turn(1), is_first=True)
    (root / f"p-{writer.process_id}" / "00000002.seg").write_bytes(b"")
    writer.close()
    assert len(bury_dead(new_reader())) == 1
    assert list(root.iterdir()) == []
