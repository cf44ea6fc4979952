import os
import threading
from pathlib import Path

import pytest

from turntrace.spool.counters import FILE_BYTES, SLOTS, Counters, balance


def test_counters_count_before_and_after_they_have_a_file(tmp_path: Path) -> None:
    counters = Counters()
    counters.add("turns", 2)
    counters.bind(tmp_path / "counters")
    counters.add("turns")
    counters.raise_to("max_overhead_us", 40)
    counters.raise_to("max_overhead_us", 30)
    assert Counters.read(tmp_path / "counters") == {"turns": 3, "max_overhead_us": 40, "accepted": 0}
    assert counters.get("turns") == 3
    assert counters.get("never") == 0


def test_counters_live_in_a_file_where_blocks_cannot_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    counters = Counters()
    counters.add("turns", 2)
    counters.bind(tmp_path / "counters")
    assert Counters.read(tmp_path / "counters") == {"turns": 2, "accepted": 0}
    assert (tmp_path / "counters").stat().st_size == FILE_BYTES


def test_values_can_be_read_after_the_file_was_let_go(tmp_path: Path) -> None:
    counters = Counters()
    counters.bind(tmp_path / "counters")
    counters.add("turns")
    counters.close()
    counters.add("turns")  # counted here only
    assert counters.values()["turns"] == 2
    assert Counters.read(tmp_path / "counters")["turns"] == 1


def test_a_child_counts_for_itself(tmp_path: Path) -> None:
    counters = Counters()
    counters.bind(tmp_path / "counters")
    counters.add("turns", 5)
    child = os.fork()
    if child == 0:
        counters.reset_after_fork()
        counters.add("turns")
        os._exit(counters.get("turns"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert Counters.read(tmp_path / "counters")["turns"] == 5


def test_threads_lose_no_count(tmp_path: Path) -> None:
    counters = Counters()
    counters.bind(tmp_path / "counters")
    threads = [threading.Thread(target=lambda: [counters.add("n") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counters.read(tmp_path / "counters")["n"] == 20_000


def test_names_that_find_no_place_share_the_last_one() -> None:
    counters = Counters()
    for number in range(SLOTS + 20):
        counters.add(f"fault:{number}")
    assert sum(counters.values().values()) == SLOTS + 20


def test_the_file_is_private_and_takes_its_blocks_at_once(tmp_path: Path) -> None:
    Counters().bind(tmp_path / "counters")
    found = (tmp_path / "counters").stat()
    assert (found.st_mode & 0o777, found.st_size) == (0o600, FILE_BYTES)
    assert found.st_blocks * 512 >= FILE_BYTES


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"y" * FILE_BYTES])
def test_a_file_that_is_not_ours_has_no_counters(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "counters").write_bytes(content)
    assert Counters.read(tmp_path / "counters") == {}
    assert Counters.read(tmp_path / "missing") == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (0, {}, 0)),
        ({"written": 7}, (7, {}, 0)),
        ({"written": 7, "dropped:spool_full": 2}, (9, {"spool_full": 2}, 0)),
        ({"queued": 5}, (5, {}, 5)),
        ({"queued": 5, "unqueued": 3, "written": 3}, (5, {}, 2)),
        (
            {"queued": 5, "unqueued": 1, "written": 4, "evicted:disk_full": 3, "dropped:disk_full": 1},
            (9, {"disk_full": 4}, 1),
        ),
        ({"lost_frames:disk_full": 3}, (0, {}, 0)),
    ],
)
def test_accepted_is_what_was_written_held_or_dropped(
    values: dict[str, int], expected: tuple[int, dict[str, int], int]
) -> None:
    assert balance(values) == expected
    accepted, dropped, held = expected
    assert accepted == values.get("written", 0) + sum(dropped.values()) + held
