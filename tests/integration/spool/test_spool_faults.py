"""Disks that fill up, fail, vanish and come back: the host never notices, and every turn is accounted for."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spooled import Clock, bury_dead, number_of, read_all, store_all, turn

from turntrace import failpoint
from turntrace.records.fragment import FrameKind
from turntrace.spool.counters import balance
from turntrace.spool.reader import SpoolReader
from turntrace.spool.segment import OpenSegment
from turntrace.spool.writer import SpoolWriter

START, DELTA, END = FrameKind.START, FrameKind.DELTA, FrameKind.END
NewWriter = Callable[..., SpoolWriter]
NewReader = Callable[..., SpoolReader]


@pytest.fixture(autouse=True)
def _no_fail_points() -> Iterator[None]:
    yield
    failpoint.activate("")


@pytest.mark.parametrize(("action", "reason"), [("enospc", "disk_full"), ("eio", "io_error")])
def test_turns_wait_in_memory_until_the_disk_is_back(
    action: str, reason: str, new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    writer, reader = new_writer(), new_reader()
    assert writer.append(END, turn(0), is_first=True)
    failpoint.activate(f"spool.before_write={action},spool.before_open={action}")
    for number in range(1, 5):
        assert writer.append(END, turn(number), is_first=True)
    assert [number_of(f) for f in store_all(reader)] == [0]
    assert reader.unread() == 4  # in the memory of a living process
    failpoint.activate("")
    assert writer.append(END, turn(5), is_first=True)
    assert store_all(reader) == []  # not probed yet
    clock.now += 3
    assert writer.append(END, turn(6), is_first=True)
    assert writer.append(END, turn(7), is_first=True)
    assert sorted(number_of(f) for f in store_all(reader)) == [1, 2, 3, 4, 5, 6, 7]
    counts = reader.counts()[0]
    assert (counts.accepted, counts.dropped) == (8, {})
    assert reason == writer._reason


def test_memory_is_bounded_and_the_oldest_turns_are_dropped_and_counted(
    new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    writer, reader = new_writer(memory_bytes=10_000), new_reader()
    writer.append(START, turn(0), is_first=True)
    failpoint.activate("spool.before_write=enospc")
    for number in range(1, 31):
        assert writer.append(START, turn(number), is_first=True)
        assert writer.append(END, turn(number, size=700), is_first=False)
        assert writer.held_bytes <= 10_000
    assert not writer.append(DELTA, turn(3), is_first=False)  # its turn was dropped, and counted then
    assert writer.append(END, turn(0), is_first=False)
    failpoint.activate("")
    clock.now += 3
    for number in range(31, 34):
        writer.append(END, turn(number), is_first=True)
    frames = store_all(reader)
    stored = {number_of(f) for f in frames if f.kind is END}
    counts = reader.counts()[0]
    assert {0, 30, 31, 32, 33} <= stored
    assert counts.accepted == 34
    assert counts.dropped == {"disk_full": 34 - len(stored)}
    assert counts.dropped["disk_full"] > 15


def test_a_frame_that_does_not_fit_the_file_limit_goes_into_a_new_segment(
    root: Path, new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer = new_writer()
    writer.append(END, turn(1), is_first=True)
    failpoint.activate("spool.before_write=enospc@1")
    assert writer.append(END, turn(2), is_first=True)
    assert writer.held_bytes == 0
    assert sorted(path.name for path in root.glob("p-*/*.seg")) == ["00000001.seg", "00000002.seg"]
    assert [number_of(f) for f in read_all(new_reader())] == [1, 2]


def test_a_short_write_is_taken_back(
    new_writer: NewWriter, new_reader: NewReader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: len(data) // 2]))
        assert writer.append(END, turn(2), is_first=True)
    clock.now += 3
    writer.append(END, turn(3), is_first=True)
    writer.append(END, turn(4), is_first=True)
    assert sorted(number_of(f) for f in store_all(reader)) == [1, 2, 3, 4]
    assert not reader.skipped


def test_a_short_write_that_cannot_be_taken_back_costs_nothing_but_its_bytes(
    new_writer: NewWriter, new_reader: NewReader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    real = os.write

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "cannot truncate")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: len(data) // 2]))
        patched.setattr(os, "ftruncate", refuse)
        assert writer.append(END, turn(2), is_first=True)
    clock.now += 3
    writer.append(END, turn(3), is_first=True)
    writer.append(END, turn(4), is_first=True)
    writer.close()
    assert sorted(number_of(f) for f in bury_dead(reader)) == [1, 2, 3, 4]
    assert reader.skipped["torn"] >= 1


def test_a_spool_that_was_deleted_is_made_again_and_what_it_held_is_counted_as_lost(
    root: Path, new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    store_all(reader)
    writer.append(END, turn(2), is_first=True)
    shutil.rmtree(root)
    assert read_all(reader) == []
    clock.now += 1
    assert writer.append(END, turn(3), is_first=True)
    assert writer.append(END, turn(4), is_first=True)
    frames = read_all(reader)
    assert [(number_of(f), f.lost) for f in frames] == [(3, 1), (4, 0)]
    counts = reader.counts()[0]
    assert (counts.process_id, counts.accepted) == (writer.process_id, 4)


@pytest.mark.parametrize("name", ["lock", "counters", "00000001.seg"])
def test_any_one_file_that_was_deleted_is_made_again(
    name: str, root: Path, new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(1), is_first=True)
    (root / f"p-{writer.process_id}" / name).unlink()
    clock.now += 31
    assert writer.append(END, turn(2), is_first=True)
    assert 2 in [number_of(f) for f in read_all(reader)]
    assert reader.dead() == []
    assert reader.dead() == []  # its new lock is held
    assert reader.counts()[0].accepted == 2


def test_where_no_directory_can_be_made_turns_wait_in_memory(
    root: Path, new_writer: NewWriter, new_reader: NewReader, clock: Clock
) -> None:
    root.parent.parent.mkdir(exist_ok=True)
    root.parent.write_text("in the way")
    writer, reader = new_writer(), new_reader()
    for number in range(3):
        assert writer.append(END, turn(number), is_first=True)
    assert read_all(reader) == []
    root.parent.unlink()
    clock.now += 3
    assert writer.append(END, turn(3), is_first=True)
    assert writer.append(END, turn(4), is_first=True)
    assert [number_of(f) for f in read_all(reader)] == [0, 1, 2, 3, 4]
    assert reader.counts()[0].accepted == 5


def test_what_waited_in_memory_is_written_when_the_writer_closes(new_writer: NewWriter, new_reader: NewReader) -> None:
    writer = new_writer()
    writer.append(END, turn(0), is_first=True)
    failpoint.activate("spool.before_write=enospc,spool.before_open=enospc")
    for number in range(1, 40):
        writer.append(END, turn(number), is_first=True)
    failpoint.activate("")
    writer.close()
    assert len(bury_dead(new_reader())) == 40


def test_turns_that_died_in_memory_with_their_process_are_counted_as_lost(
    new_writer: NewWriter, new_reader: NewReader
) -> None:
    writer, reader = new_writer(), new_reader()
    writer.append(END, turn(0), is_first=True)
    failpoint.activate("spool.before_write=enospc,spool.before_open=enospc")
    for number in range(1, 4):
        writer.append(END, turn(number), is_first=True)
    writer.close()
    reader.dead()
    assert len(store_all(reader)) == 1
    assert reader.dead() == [writer.process_id]
    counts = reader.counts()[0]
    assert (counts.accepted, counts.dropped) == (4, {"memory_lost": 3})


def test_nothing_inside_ever_reaches_the_host(new_writer: NewWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = new_writer()
    writer.append(END, turn(0), is_first=True)

    def fail(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(OpenSegment, "append", fail)
    assert not writer.append(END, turn(1), is_first=True)
    assert not writer.append(END, turn(1), is_first=False)
    values = writer.counters.values()
    assert (values["dropped:internal"], values["lost_frames:internal"], values["fault:spool.append"]) == (1, 1, 2)
    assert balance(values)[0] == 2


def test_a_nearly_full_disk_is_left_to_the_host(
    new_writer: NewWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = new_writer()
    assert writer.append(START, turn(1), is_first=True)
    monkeypatch.setattr("turntrace.spool.allowance.KEEP_FREE_BYTES", 1 << 60)
    monkeypatch.setattr("turntrace.spool.allowance._is_low", lambda root: True)
    clock.now += 2
    assert not writer.append(END, turn(2), is_first=True)
    assert writer.append(END, turn(1), is_first=False)  # what began may end
    assert writer.counters.get("dropped:disk_low") == 1


FILE_LIMIT = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    from turntrace.keyring import KeyRing
    from turntrace.records.fragment import FrameKind
    from turntrace.spool.writer import SpoolWriter

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    writer = SpoolWriter(Path(sys.argv[1]), KeyRing([b"k" * 32], is_explicit=True))
    for number in range(100):
        payload = b'{"turn": {"id": "%032x", "name": "%s"}}' % (number, b"n" * 7000)
        assert writer.append(FrameKind.END, payload, is_first=True)
    print(writer.held_bytes)
    """
)


def test_the_limit_of_file_sizes_stops_nothing(root: Path, new_reader: NewReader) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(root)], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "0"
    reader = new_reader()
    assert [number_of(f) for f in bury_dead(reader)] == list(range(100))
    assert not reader.skipped
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs privileges")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk_is_survived_and_freed_again_by_reading(small_disk: Path, clock: Clock) -> None:
    from turntrace.keyring import KeyRing

    keys = KeyRing([b"k" * 32], is_explicit=True)
    root = small_disk / "app"
    (small_disk / "host.dat").write_bytes(bytes(500_000))
    writer = SpoolWriter(root, keys, clock=clock, memory_bytes=500_000)
    reader = SpoolReader(root, keys, mark=lambda segment: 0)
    frames = []
    for number in range(300):
        clock.now += 0.01
        writer.append(END, turn(number, size=5000), is_first=True)
    for _ in range(60):
        clock.now += 1
        writer.append(END, turn(300 + _), is_first=True)
        frames += store_all(reader)
    writer.close()
    frames += bury_dead(reader)
    numbers = [number_of(f) for f in frames]
    values = writer.counters.values()
    accepted, dropped, held = balance(values)
    assert len(numbers) == len(set(numbers))
    assert (accepted, held) == (360, 0)
    assert len(numbers) == accepted - sum(dropped.values())
    assert not reader.skipped
    reader.close()
