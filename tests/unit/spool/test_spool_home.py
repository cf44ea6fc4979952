"""What lies in a spool is listed while processes come and go."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turntrace.spool.home import counter_files, segment_sizes

LOOKS = 2_000


@contextmanager
def coming_and_going(root: Path) -> Iterator[None]:
    """Directories of processes, and the spool itself, are made and removed all the time."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for number in range(3):
                home = root / f"p-{number}"
                home.mkdir(parents=True, exist_ok=True)
                (home / "counters").touch()
                (home / "00000001.seg").write_bytes(b"x" * 10)
            shutil.rmtree(root)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_what_is_removed_while_one_looks_is_left_out(tmp_path: Path) -> None:
    seen = set[int]()
    with coming_and_going(tmp_path / "spool"):
        for _ in range(LOOKS):
            assert set(segment_sizes(tmp_path / "spool")) <= {0, 10}
            seen.add(len(counter_files(tmp_path / "spool")))
    assert seen <= {0, 1, 2, 3}
    assert len(seen) > 1


def test_only_homes_of_processes_are_listed(tmp_path: Path) -> None:
    for name in ("p-1", ".new-2", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "counters").touch()
        (tmp_path / name / "00000001.seg").write_bytes(b"abc")
    (tmp_path / "p-1" / "lock").touch()
    assert counter_files(tmp_path) == [tmp_path / "p-1" / "counters"]
    assert segment_sizes(tmp_path) == [3]
    assert counter_files(tmp_path / "nowhere") == segment_sizes(tmp_path / "nowhere") == []
