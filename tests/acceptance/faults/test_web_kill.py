"""Web processes and workers killed under load: no turn whose answer arrived is lost, none is stored twice.

Short form: 5 kills of each kind, 3 stops; `TURNTRACE_TEST_LONG=1`: 20 and 100.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.faults.site import Load, Site, load, site, web_processes
from tests.acceptance.servers import Server, offline_model, uvicorn, wait_until
from turntrace.storage.database import Database

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
KILLS = 20 if IS_LONG else 5
STOPS = 100 if IS_LONG else 3
WORKERS = 4
ADDED_SECONDS = 3.0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1800 if IS_LONG else 240)]


@pytest.fixture(params=["sqlite"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = {"OFFLINE_SECONDS_PER_TOKEN": "0", "OFFLINE_FAILURE_RATE": "0", "OFFLINE_SLOW_RATE": "0"}
    with offline_model(tmp_path_factory.mktemp("model") / "log", **options) as url:
        yield url


@pytest.fixture
def bot(tmp_path: Path, database: Database, model_url: str) -> Iterator[Site]:
    """The example application, not started yet."""
    with site(tmp_path, database) as made:
        made.env["OPENAI_BASE_URL"] = model_url
        yield made


def has_answered(driven: Load, least: int) -> None:
    """Wait for some answers more."""
    wanted = len(driven.answered) + least
    wait_until(lambda: len(driven.answered) >= wanted, seconds=60, what=f"{least} more answers")


def kill_one_of(found: list[psutil.Process], chooser: random.Random) -> None:
    if found:
        chooser.choice(found).kill()


def test_killed_web_processes_and_workers_lose_no_answered_turn(bot: Site, tmp_path: Path) -> None:
    chooser = random.Random(7)
    with uvicorn("example_app.fastapi_app:app", bot.env, tmp_path / "log", workers=WORKERS) as server:
        with load(server.url) as driven:
            has_answered(driven, 20)
            for _ in range(KILLS):
                kill_one_of(web_processes(server), chooser)
                has_answered(driven, 15)
                kill_one_of(bot.workers(), chooser)
                has_answered(driven, 15)
        wait_until(lambda: bot.loss().in_spool == 0, seconds=30, what="the running server stores everything")
    bot.assert_no_orphan()
    bot.work_off()
    loss = bot.assert_nothing_lost(driven.answered)
    print(f"{2 * KILLS} kills, {len(driven.answered)} answered, {driven.failures} cut off, {loss.stored} stored")


def stop_under_load(server: Server, paths: tuple[str, ...]) -> tuple[Load, float]:
    """Load, SIGTERM in the midst of it, and how long the server took to stop (s)."""
    with load(server.url, paths) as driven:
        has_answered(driven, 60)
        took = server.stop(signal.SIGTERM, seconds=30)
    return driven, took


def usual_stop(bot: Site, log: Path) -> float:
    """How long the same stop takes while nothing is recorded (s)."""
    env = {**bot.env, "TURNTRACE_ENABLED": "0"}
    with uvicorn("tests.acceptance.faults.small_app:app", env, log, workers=WORKERS) as server:
        started = time.monotonic()
        server.stop(signal.SIGTERM, seconds=30)
        return time.monotonic() - started


def test_a_stop_under_load_loses_nothing_and_takes_no_longer(bot: Site, tmp_path: Path) -> None:
    usual = usual_stop(bot, tmp_path / "log")
    answered: set[str] = set()
    for _ in range(STOPS):
        with uvicorn("tests.acceptance.faults.small_app:app", bot.env, tmp_path / "log", workers=WORKERS) as server:
            driven, took = stop_under_load(server, ("/ask", "/chat"))
        answered |= driven.answered
        print(f"stop took {took:.2f} s, without recording {usual:.2f} s, {len(driven.answered)} answered")
        assert took <= usual + ADDED_SECONDS
    bot.assert_no_orphan()
    bot.work_off()
    bot.assert_nothing_lost(answered)
