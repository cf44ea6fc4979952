"""The worker rests where somebody waits for a processor, and only there."""

from pathlib import Path

import pytest

from turntrace.worker import courtesy
from turntrace.worker.courtesy import MOST_SECONDS, Courtesy, cpu_waited


class Machine:
    """A clock, and how long somebody has waited for a processor."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: float | None = 7.0

    def work(self, seconds: float, *, share: float) -> float:
        self.now += seconds
        if self.waited is not None:
            self.waited += seconds * share
        return seconds


def made(machine: Machine) -> Courtesy:
    return Courtesy(waited=lambda: machine.waited, clock=lambda: machine.now)


@pytest.mark.parametrize(
    ("seconds", "share", "rest"),
    [(0.1, 0.0, 0.0), (0.1, 0.2, 0.0), (0.1, 0.5, 0.05), (0.1, 1.0, 0.1), (0.1, 1.5, 0.1), (30.0, 1.0, MOST_SECONDS)],
)
def test_it_rests_in_proportion_to_how_busy_the_machine_is(seconds: float, share: float, rest: float) -> None:
    machine = Machine()
    polite = made(machine)
    assert polite.rest_seconds(machine.work(seconds, share=share), is_behind=False) == pytest.approx(rest)


def test_only_what_happened_since_the_last_look_counts() -> None:
    machine = Machine()
    polite = made(machine)
    assert polite.rest_seconds(machine.work(0.1, share=1.0), is_behind=False) > 0
    assert polite.rest_seconds(machine.work(0.1, share=0.0), is_behind=False) == 0


def test_it_does_not_rest_while_too_much_waits_or_nothing_is_known() -> None:
    machine = Machine()
    polite = made(machine)
    assert polite.rest_seconds(machine.work(0.1, share=1.0), is_behind=True) == 0
    machine.waited = None
    assert polite.rest_seconds(machine.work(0.1, share=1.0), is_behind=False) == 0


def test_the_kernel_is_asked_for_our_container_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container, machine = tmp_path / "container", tmp_path / "machine"
    monkeypatch.setattr(courtesy, "_PRESSURE", (container, machine))
    assert cpu_waited() is None
    machine.write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=0\n")
    assert cpu_waited() == 2.5
    container.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n")
    assert cpu_waited() == 1.0
    container.write_text("nothing we know\n")
    assert cpu_waited() == 2.5
