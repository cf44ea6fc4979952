import errno
from collections.abc import Iterator

import pytest

from turntrace import failpoint
from turntrace.failpoint import FailPointReached, activate, reach


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    activate("")


def test_nothing_happens_at_a_point_that_is_not_active() -> None:
    reach("spool.before_write")
    activate("other=raise")
    reach("spool.before_write")


@pytest.mark.parametrize(
    ("specification", "expected"),
    [("p=raise", [1, 2, 3, 4]), ("p=raise@2", [2]), ("p=raise@3+", [3, 4]), (" q=raise , p=raise@1", [1])],
)
def test_a_point_acts_at_the_visits_it_names(specification: str, expected: list[int]) -> None:
    activate(specification)
    seen = []
    for visit in range(1, 5):
        try:
            reach("p")
        except FailPointReached:
            seen.append(visit)
    assert seen == expected


def test_disk_faults_are_os_errors() -> None:
    activate("p=enospc")
    with pytest.raises(OSError, match="fail point") as caught:
        reach("p")
    assert caught.value.errno == errno.ENOSPC


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match="known: kill"):
        activate("p=explode")
    assert failpoint.VARIABLE == "TURNTRACE_FAIL_POINTS"
