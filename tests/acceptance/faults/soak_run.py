"""A soak as a process of its own, so that tests go on beside it: `python -m tests.acceptance.faults.soak_run HOME …`.

Writes `begun` into its home once turns are answered, and `report.json` at the end; ends early with its parent.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.faults.load import KEEP_ALIVE, Load, load_of
from tests.acceptance.faults.soak import Look, spool_bytes, watch
from tests.acceptance.servers import (
    ROOT,
    Api,
    Server,
    api_key,
    environment,
    is_balanced,
    turntrace,
    uvicorn,
    wait_until,
)

RATE = 100.0
APP = "tests.acceptance.faults.soak_app:app"
BEGUN, REPORT, OUTPUT = "begun", "report.json", "output"
REST_SECONDS = 60.0  # for the worker, to store the last turns
START_SECONDS = 60.0
FRESH_SECONDS = 3600.0  # a run of all tests takes less
_running: list[subprocess.Popen[bytes]] = []  # held, so that nobody clears them away as forgotten


@dataclass(frozen=True)
class Soak:
    """What is asked for: so many `seconds` under load, in which every process is looked at `looks` times."""

    home: Path
    warm_up_seconds: float
    seconds: float
    looks: int

    @property
    def all_seconds(self) -> float:
        """How long it may take in all."""
        return START_SECONDS + self.warm_up_seconds + self.seconds + 2 * REST_SECONDS

    def begin(self) -> None:
        """Start it, and wait until turns are answered. What an earlier one has left goes."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self._start()
        wait_until((self.home / BEGUN).exists, seconds=START_SECONDS, what=f"turns are answered; see {self.home}")

    def join(self) -> None:
        """Start it, unless it was lately, by a test that ran before."""
        begun = self.home / BEGUN
        if not begun.exists() or time.time() - begun.stat().st_mtime > FRESH_SECONDS + self.all_seconds:
            self.begin()

    def _start(self) -> None:
        figures = (self.warm_up_seconds, self.seconds, self.looks)
        command = [sys.executable, "-m", __name__, str(self.home), *map(str, figures)]
        with (self.home / OUTPUT).open("ab") as output:
            _running.append(subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True))

    def report(self) -> "Report":
        """What was found, once it has ended; told once."""
        path = self.home / REPORT
        wait_until(path.exists, seconds=self.all_seconds, what=f"the soak ends; see {self.home}")
        found = Report.read(path)
        (self.home / BEGUN).unlink()
        return found


@dataclass
class Report:
    """`acknowledged` turns, `failed` requests, bytes `held` in the spool under load, the balance at rest, and the looks
    at every process by its name."""

    acknowledged: int
    failed: list[str]
    held: int
    loss: dict[str, Any]
    looks: dict[str, list[Look]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Report":
        """The report in a file."""
        told = json.loads(path.read_text())
        looks = {name: [Look(**look) for look in found] for name, found in told.pop("looks").items()}
        return cls(**told, looks=looks)

    def write(self, path: Path) -> None:
        """Replace the file."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)


def processes(server: Server) -> dict[str, psutil.Process]:
    """The web process, and the worker that it has started, by name."""
    web = psutil.Process(server.process.pid)
    found = {"web": web}
    for child in web.children():
        if "turntrace.cli" in child.cmdline():
            found["worker"] = child
    return found


def soak(asked: Soak) -> Report:
    """Run it."""
    env = environment(asked.home, f"sqlite:///{asked.home / 'turntrace.db'}", redaction="off")
    turntrace(env, "db", "upgrade")
    with (
        uvicorn(APP, env, asked.home / "log", options=KEEP_ALIVE) as server,
        Api(server.url, api_key(env, "read")) as api,
    ):
        _end_with_parent(server, asked.home)
        api.loss()  # panel and API are put together: their memory is not that of the turns
        with load_of(int(server.url.rpartition(":")[2]), rate=RATE) as load:
            looks, held = _watched(asked, server, load)
        loss = wait_until(lambda: _settled(api), seconds=REST_SECONDS, what="a balance at rest")
    return Report(len(load.acknowledged), load.failed, held, loss, looks)


def _watched(asked: Soak, server: Server, load: Load) -> tuple[dict[str, list[Look]], int]:
    wait_until(lambda: len(load.acknowledged) >= RATE, seconds=START_SECONDS, what="turns are answered")
    (asked.home / BEGUN).touch()
    watch(lambda: processes(server), seconds=asked.warm_up_seconds, looks=1)
    looks = watch(lambda: processes(server), seconds=asked.seconds, looks=asked.looks)
    return looks, spool_bytes(asked.home / "spool")


def _settled(api: Api) -> dict[str, Any] | None:
    """The balance, once nothing waits."""
    loss: dict[str, Any] = api.loss()
    return loss if is_balanced(loss) and loss["in_spool"] == 0 else None


def _end_with_parent(server: Server, home: Path) -> None:
    """Where the tests are broken off, nothing goes on."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            stopped.wait(1.0)
        server.stop()
        (home / BEGUN).unlink(missing_ok=True)
        os._exit(1)

    stopped = threading.Event()
    threading.Thread(target=look, daemon=True).start()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("warm_up_seconds", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("looks", type=int)
    asked = Soak(**vars(parser.parse_args()))
    soak(asked).write(asked.home / REPORT)


if __name__ == "__main__":
    main()
