"""What the System page calls degraded."""

from typing import Any

import pytest

from turntrace.panel.health import degraded
from turntrace.panel.pages.system import cpu_share
from turntrace.records.loss import Loss
from turntrace.worker.vitals import Vitals

NOW = 1_790_000_000_000_000
S = 1_000_000
WELL: dict[str, Any] = {
    "vitals": Vitals(processes=1, turns=10, cpu_us=1),
    "spool": {"bytes": 10, "max_bytes": 100},
    "worker": {"mode": "process", "is_alive": True, "heartbeat_at_us": NOW - S},
}
WAITING = Loss(accepted=7, in_spool=7)


def names(status: dict[str, Any], loss: Loss = WAITING) -> list[str]:
    return [item.what for item in degraded({**WELL, **status}, loss, now_us=NOW)]


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ({"vitals": Vitals(paused_until_us=NOW + 60 * S)}, "Recording pauses"),
        ({"vitals": Vitals(in_memory=3)}, "The spool cannot be written to"),
        ({"spool": {"bytes": 85, "max_bytes": 100}}, "The spool is 85 % full"),
        ({"worker": {"mode": "process", "is_alive": False}}, "No worker runs on this host"),
        ({"worker": {"is_alive": True, "heartbeat_at_us": NOW - 60 * S}}, "The worker is silent"),
        (
            {"last_error": {"type": "DatabaseUnavailable", "at_us": NOW - S, "where": "worker"}},
            "The worker cannot store: DatabaseUnavailable",
        ),
    ],
)
def test_what_does_not_work_is_named(status: dict[str, Any], what: str) -> None:
    assert names(status) == [what]


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"vitals": Vitals(paused_until_us=NOW - 1)},  # that was over
        {"vitals": None, "spool": {}, "worker": {}},  # in memory
        {"last_error": {"type": "DatabaseUnavailable", "at_us": NOW - 3600 * S, "where": "worker"}},
        {"last_error": "DatabaseUnavailable"},
    ],
)
def test_what_is_well_or_over_is_not(status: dict[str, Any]) -> None:
    assert names(status) == []


def test_a_worker_with_nothing_to_do_may_rest() -> None:
    assert names({"worker": {"is_alive": False}}, Loss()) == []


def test_our_share_of_the_hosts_cpu_time() -> None:
    assert cpu_share(Vitals(overhead_us=50, cpu_us=1000)) == 0.05
    assert cpu_share(Vitals()) is None
    assert cpu_share(None) is None
