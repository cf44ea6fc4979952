"""The kill switch of the database: off within 5 s in every process, and on again, without a restart."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.servers import turntrace, wait_until
from turntrace import Turntrace
from turntrace.worker.switch import FILE

SECONDS = 5.0


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"TURNTRACE_DATABASE_URL": f"sqlite:///{tmp_path / 'turntrace.db'}", "PATH": ""}


@pytest.fixture(params=["process", "thread"])
def tt(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Turntrace]:
    made = Turntrace(
        f"sqlite:///{tmp_path / 'turntrace.db'}",
        spool_dir=str(tmp_path / "spool"),
        worker=request.param,
        secret_key="k" * 32,
    )
    yield made
    made.shutdown()


def is_recorded(tt: Turntrace) -> bool:
    with tt.turn("probe") as turn:
        return turn is not None


def switch_to(env: dict[str, str], tt: Turntrace, state: str) -> float:
    """Switch by command line and answer how long this process took to follow."""
    assert f"recording is {state}" in turntrace(env, "switch", state)
    started = time.monotonic()
    wait_until(lambda: is_recorded(tt) == (state == "on"), seconds=SECONDS, what=f"recording is {state}")
    return time.monotonic() - started


def flag_of(tt: Turntrace) -> Path:
    assert tt.recorder.location is not None
    assert tt.recorder.location.path is not None
    return tt.recorder.location.path / FILE


def test_the_switch_in_the_database_is_followed_within_five_seconds(tt: Turntrace, env: dict[str, str]) -> None:
    assert is_recorded(tt)
    wait_until(lambda: tt.flush(0.1), seconds=30, what="the worker runs")
    off = switch_to(env, tt, "off")
    assert any("switched off" in warning for warning in tt.recorder.warnings())
    flag_of(tt).unlink()  # somebody clears the spool's directory: the switch holds all the same
    wait_until(flag_of(tt).exists, seconds=SECONDS, what="the flag is back")
    on = switch_to(env, tt, "on")
    print(f"followed off after {off:.1f} s, on after {on:.1f} s")
    assert tt.flush(10)


def test_a_database_in_memory_has_the_switch_as_well() -> None:
    tt = Turntrace("sqlite://", worker="thread", secret_key="k" * 32)
    try:
        assert is_recorded(tt)
        assert tt.flush(10)
        with tt.web.database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO turntrace_setting (name, value, updated_at_us) VALUES ('enabled', '0', 0)"
            )
        wait_until(lambda: not is_recorded(tt), seconds=SECONDS, what="recording is off")
    finally:
        tt.shutdown()


def test_the_switch_of_the_environment_makes_everything_pass_through(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TURNTRACE_ENABLED", "0")
    tt = Turntrace(f"sqlite:///{tmp_path / 'turntrace.db'}", spool_dir=str(tmp_path / "spool"))
    assert not is_recorded(tt)
    with tt.observation("nothing") as span:
        span.update(output="x")
    assert not (tmp_path / "spool").exists()
