"""Web processes and workers killed under load: no turn whose answer arrived is lost, none is stored twice.

Short form: 5 kills of each kind on SQLite and PostgreSQL, 10 stops: 7 of one process, 3 of the whole server.
`TURNTRACE_TEST_LONG=1`: 20 kills, on MariaDB too, and 100 stops of the whole server besides those of one process.
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
KILLED_ON = ("sqlite", "postgresql", *(("mariadb",) if IS_LONG else ()))
STOPS = 100 if IS_LONG else 3
STOPS_OF_ONE = 7
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


@pytest.mark.parametrize("dialect", KILLED_ON, indirect=True)
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


def stop_one(server: Server, chooser: random.Random) -> float:
    """SIGTERM to one of the server's processes, and how long it took to end (s); the server starts another."""
    one = chooser.choice(web_processes(server))
    started = time.monotonic()
    one.terminate()
    wait_until(lambda: one.pid not in {process.pid for process in web_processes(server)}, seconds=30, what="its end")
    return time.monotonic() - started


def stop_under_load(server: Server, paths: tuple[str, ...], *, single: int) -> tuple[Load, list[float]]:
    """Load; in the midst of it SIGTERM to a `single` process so many times, then to the server. How long each took."""
    chooser = random.Random(11)
    with load(server.url, paths) as driven:
        times = []
        for _ in range(single):
            has_answered(driven, 15)
            times.append(stop_one(server, chooser))
        # uvicorn waits 5 s for the answer of a process that ends while it is asked whether it lives: not ours.
        wait_until(lambda: len(web_processes(server)) == WORKERS, seconds=30, what="the server's processes")
        has_answered(driven, 60)
        times.append(server.stop(signal.SIGTERM, seconds=30))
    return driven, times


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
    for number in range(STOPS):
        with uvicorn("tests.acceptance.faults.small_app:app", bot.env, tmp_path / "log", workers=WORKERS) as server:
            driven, times = stop_under_load(server, ("/ask", "/chat"), single=0 if number else STOPS_OF_ONE)
        answered |= driven.answered
        shown = ", ".join(f"{took:.2f}" for took in times)
        print(f"stops took {shown} s, without recording {usual:.2f} s, {len(driven.answered)} answered")
        assert max(times) <= usual + ADDED_SECONDS
    bot.assert_no_orphan()
    bot.work_off()
    bot.assert_nothing_lost(answered)
