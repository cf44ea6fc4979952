"""Kill the worker between any two steps of a batch: rows and sums are neither lost nor doubled."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from tests.acceptance.servers import ROOT, wait_until
from tests.integration.worker import frames as f
from tests.integration.worker.truth import balance, outcomes, truth
from turntrace.keyring import KeyRing
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.spool.directory import locate
from turntrace.spool.writer import SpoolWriter
from turntrace.storage.database import Database

TURNS = 60
INTERRUPTED = 3
SECRET = "k" * 32
pytestmark = pytest.mark.timeout(400)
SECONDS = 120.0  # the worker is niced: beside other tests it waits
# In these files a capturing process stops, in all others the worker.
WRITERS = ("spool/segment.py", "spool/writer.py", "spool/home.py")
# Steps of jobs and of sending on are no steps of a batch; each is killed in the tests of its own.
ELSEWHERE = ("erase.", "retain.", "export.", "rollups.", "residence.")


def discover() -> dict[str, list[str]]:
    """The names of all fail points, those of the worker and those of capturing processes."""
    found: dict[str, list[str]] = {"worker": [], "writer": []}
    package = ROOT / "src" / "turntrace"
    for path in sorted(package.rglob("*.py")):
        side = "writer" if path.relative_to(package).as_posix() in WRITERS else "worker"
        found[side] += re.findall(r'\breach\("([a-z._]+)"\)', path.read_text())
    return {side: [name for name in names if not name.startswith(ELSEWHERE)] for side, names in found.items()}


POINTS = discover()
STORAGE_POINTS = [name for name in POINTS["worker"] if name.startswith("storage.")]


def write_spool(root: Path) -> None:
    """Turns of two processes that are gone: of all shapes, and some without an end."""
    keys = KeyRing([SECRET.encode()], is_explicit=True)
    for numbers in (range(TURNS // 2), range(TURNS // 2, TURNS)):
        writer = SpoolWriter(root, keys)
        f.write_turns(writer, numbers)
        for n in range(INTERRUPTED):
            f.start(writer, 1000 + n + numbers.start, f.call(1000 + n + numbers.start))
        writer.close()


@dataclass
class Place:
    """A database with the spool of its application."""

    database: Database
    root: Path
    env: dict[str, str]

    def work(self, **settings: str) -> int:
        """Run the worker process until the spool is empty or it dies; answers its exit code."""
        command = [sys.executable, "-m", "turntrace.cli", "worker"]
        log = self.root.parent / "worker.log"
        with (
            log.open("ab") as output,
            subprocess.Popen(command, env={**self.env, **settings}, stdout=output, stderr=output) as process,
        ):
            try:
                wait_until(lambda: process.poll() is not None or self.is_empty(), seconds=SECONDS, what=f"done; {log}")
                process.send_signal(signal.SIGTERM)
                process.wait(SECONDS)
            finally:
                process.kill()
        print(log.read_text()[-3000:])  # shown where the test fails
        return process.returncode

    def is_empty(self) -> bool:
        """Whether nothing is left of any capturing process."""
        return not any(self.root.glob("p-*"))


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool to be copied."""
    root = tmp_path_factory.mktemp("template") / "spool"
    write_spool(root)
    return root


def place(home: Path, url: URL, database: Database, spool: Path, **settings: str) -> Place:
    """A copy of the spool where the worker of this database looks for it."""
    own = {
        "TURNTRACE_DATABASE_URL": url.render_as_string(hide_password=False),
        "TURNTRACE_SPOOL_DIR": str(home / "spool"),
        "TURNTRACE_SECRET_KEY": SECRET,
        "TURNTRACE_WORKER": "external",
        "TURNTRACE_REDACTION": "off",
        "TURNTRACE_BATCH_TURNS": "9",
        "TURNTRACE_POLL_MS": "10",
        "TURNTRACE_LOG_LEVEL": "error",
        **{f"TURNTRACE_{name.upper()}": value for name, value in settings.items()},
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TURNTRACE_")}
    root = locate(Settings.from_environment(own)).path
    assert root is not None
    shutil.copytree(spool, root)
    return Place(database, root, {**kept, **own})


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What a worker that nobody kills has stored, by redaction setting; filled by the first that asks."""
    return {}


Truth = Callable[[str], dict[str, Any]]


@pytest.fixture
def unkilled(told: dict[str, Any], spool: Path, tmp_path: Path, shelf: Any) -> Truth:
    """The truth by the setting `redaction`, found by an undisturbed worker on SQLite."""

    def find(redaction: str) -> dict[str, Any]:
        if redaction not in told:
            home = tmp_path / f"unkilled-{redaction}"
            home.mkdir()
            url = shelf.copy(home)
            database = Database(url)
            undisturbed = place(home, url, database, spool, redaction=redaction)
            assert undisturbed.work() == 0
            assert_all_there(undisturbed)
            told[redaction] = truth(database)
            database.close()
        return dict(told[redaction])

    return find


def assert_all_there(found: Place) -> None:
    """Every turn once, and the balance exact."""
    stored = TURNS + 2 * INTERRUPTED
    assert balance(found.database, found.root) == Loss(accepted=stored, stored=stored)
    by_number = outcomes(found.database)
    assert len(by_number) == stored
    assert [by_number[n] for n in range(TURNS)] == ["complete"] * TURNS


def kill_and_go_on(found: Place, point: str, visit: int) -> None:
    """Kill the worker at the point, and let another one finish."""
    assert found.work(TURNTRACE_FAIL_POINTS=f"{point}=kill@{visit}") == -signal.SIGKILL, f"{point} was not reached"
    assert found.work() == 0
    assert_all_there(found)


@pytest.fixture(params=["sqlite"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Only SQLite, where a test does not ask for more."""
    return str(request.param)


@pytest.fixture
def here(tmp_path: Path, spool: Path, database: Database) -> Place:
    return place(tmp_path, database.url, database, spool)


def test_the_fail_points_are_found() -> None:
    assert {"worker.before_write", "worker.after_write", "storage.before_commit"} <= set(POINTS["worker"])
    assert "spool.after_write" in POINTS["writer"]


@pytest.mark.parametrize("point", POINTS["worker"])
def test_a_worker_killed_at_any_step_loses_and_doubles_nothing(here: Place, unkilled: Truth, point: str) -> None:
    kill_and_go_on(here, point, visit=1 if point == "worker.before_forget" else 2)
    assert truth(here.database) == unkilled("off")


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("point", STORAGE_POINTS)
def test_a_transaction_cut_off_at_any_step_is_undone_by_every_server(here: Place, unkilled: Truth, point: str) -> None:
    kill_and_go_on(here, point, visit=3)
    assert truth(here.database) == unkilled("off")


def test_a_worker_killed_again_and_again_gets_there(here: Place, unkilled: Truth) -> None:
    for visit, point in enumerate(("storage.after_turns", "worker.after_write", "worker.after_write"), start=2):
        assert here.work(TURNTRACE_FAIL_POINTS=f"{point}=kill@{visit}") == -signal.SIGKILL
    assert here.work() == 0
    assert_all_there(here)
    assert truth(here.database) == unkilled("off")


def test_a_worker_that_redacts_loses_and_doubles_nothing(
    tmp_path: Path, spool: Path, database: Database, unkilled: Truth
) -> None:
    found = place(tmp_path, database.url, database, spool, redaction="patterns")
    kill_and_go_on(found, "worker.after_write", visit=2)
    assert truth(database) == unkilled("patterns")


WRITER = """
import sys
from pathlib import Path
from tests.integration.worker import frames as f
from turntrace.keyring import KeyRing
from turntrace.spool.writer import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), KeyRing([sys.argv[2].encode()], is_explicit=True), segment_bytes=4096)
for n in range(60):
    f.write_turn(writer, n)
    print(n, flush=True)
"""


@pytest.fixture
def empty_spool(tmp_path: Path) -> Path:
    path = tmp_path / "empty"
    path.mkdir()
    return path


@pytest.mark.parametrize("visit", [1, 4])
@pytest.mark.parametrize("point", POINTS["writer"])
def test_a_capturing_process_killed_at_any_step_loses_no_answered_turn(
    tmp_path: Path, empty_spool: Path, database: Database, point: str, visit: int
) -> None:
    found = place(tmp_path, database.url, database, empty_spool)
    env = {**found.env, "TURNTRACE_FAIL_POINTS": f"{point}=kill@{visit}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WRITER, str(found.root), SECRET], env=env, stdout=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL, f"{point} was not reached"
    answered = {int(line) for line in done.stdout.split()}
    assert found.work() == 0
    stored = outcomes(database)
    assert {n for n, outcome in stored.items() if outcome == "complete"} >= answered
    assert len(stored) <= len(answered) + 1
    kept = balance(database, found.root)
    assert kept.is_balanced
    assert not kept.dropped
    assert kept.in_spool == 0
