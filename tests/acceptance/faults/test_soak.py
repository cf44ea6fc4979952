"""Steady load for a long time: memory, files and threads stay as they are, and every turn is accounted for.

Short form: 5 minutes, beside the other tests: it measures no time. It begins with the first of them, and its report is
read among those that run alone, when it has long ended. 1 MB an hour cannot be told from noise in less than
about ten minutes; there, what was gained in all is judged. `TURNTRACE_TEST_LONG=1`: an hour, with the limit of 1 MB an
hour; `TURNTRACE_TEST_SOAK_SECONDS` names another length.
"""

import os

import pytest

from tests.acceptance.faults.soak import Look, slope_mb_per_hour
from tests.acceptance.faults.soak_run import Report, Soak

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
ALL_SECONDS = float(os.environ.get("TURNTRACE_TEST_SOAK_SECONDS", "3600" if IS_LONG else "300"))
WARM_UP_SECONDS = min(600.0, ALL_SECONDS / 4)  # SQLite's page caches fill
SECONDS = ALL_SECONDS - WARM_UP_SECONDS  # in which memory is looked at
LOOKS = 60 if IS_LONG else 30
# From ten minutes on the slope itself is judged; before that, what was gained in all, far above noise.
SLOPE_MB_PER_HOUR = 1.0
GAINED_MB = 8.0
SPOOL_BYTES = 64 << 20

# The long form measures with nothing beside it.
begins, ends = pytest.mark.alone if IS_LONG else pytest.mark.first, pytest.mark.alone
pytestmark = pytest.mark.timeout(ALL_SECONDS + 300)


@pytest.fixture
def soak(pytestconfig: pytest.Config) -> Soak:
    """One for the processes that run tests at once, and for those that run after them."""
    cache = pytestconfig.cache
    assert cache is not None
    return Soak(cache.mkdir("turntrace") / "soak", WARM_UP_SECONDS, SECONDS, LOOKS)


@pytest.fixture
def report(soak: Soak) -> Report:
    """What was found at its end."""
    soak.join()
    return soak.report()


def assert_flat(name: str, looks: list[Look]) -> None:
    """Nothing grows with the number of turns."""
    first, last = looks[: len(looks) // 2], looks[len(looks) // 2 :]
    slope = slope_mb_per_hour(looks)
    gained = min(look.memory_mb for look in last) - min(look.memory_mb for look in first)
    print(
        f"  {name}: {looks[0].memory_mb:.1f} to {looks[-1].memory_mb:.1f} MB, {slope:+.2f} MB/h, gained {gained:+.2f}"
    )
    assert min(look.files for look in last) <= max(look.files for look in first), "files are left open"
    assert min(look.threads for look in last) <= max(look.threads for look in first), "threads are left running"
    if SECONDS >= 600:
        assert slope < SLOPE_MB_PER_HOUR
    assert gained < GAINED_MB


@begins
def test_a_steady_load_begins(soak: Soak) -> None:
    soak.begin()
    assert not (soak.home / "report.json").exists(), "it goes on beside the tests that follow"


@ends
def test_a_steady_load_leaves_nothing_behind(report: Report) -> None:
    loss = report.loss
    print(f"\n{report.acknowledged} turns in {ALL_SECONDS:.0f} s; {report.held / 1e6:.1f} MB in the spool")
    assert report.failed == []
    assert loss["accepted"] == loss["stored"] == report.acknowledged
    assert not loss["dropped"]
    assert set(report.looks) == {"web", "worker"}
    for name, looks in report.looks.items():
        assert_flat(name, looks)
    assert report.held < SPOOL_BYTES, "segments that are stored are removed"
