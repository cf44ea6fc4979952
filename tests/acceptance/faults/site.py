"""An application under test as one sees it from outside: its load, its processes, its database and spool."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sqlalchemy import func, select

from example_app.knowledge_base import passages
from tests.acceptance.servers import ROOT, Server, environment, wait_until
from tests.integration.worker.truth import balance
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.spool.directory import locate
from turntrace.storage import tables
from turntrace.storage.database import Database

THREADS = 8
DRAIN_SECONDS = 30.0
ORPHAN_SECONDS = 15.0


@dataclass
class Site:
    """One application: where it stores and spools, and the environment its processes run in."""

    database: Database
    root: Path
    env: dict[str, str]

    def workers(self) -> list[psutil.Process]:
        """The running worker processes of this application, whoever their parent is by now."""
        return [process for process in psutil.process_iter(["pid", "cmdline"]) if self._is_worker(process)]

    def _is_worker(self, process: psutil.Process) -> bool:
        try:
            words = process.info["cmdline"] or []
            if "turntrace.cli" not in words or process.status() == psutil.STATUS_ZOMBIE:
                return False
            return bool(process.environ().get("TURNTRACE_SPOOL_DIR") == self.env["TURNTRACE_SPOOL_DIR"])
        except psutil.Error:
            return False

    def assert_no_orphan(self) -> None:
        """The worker has gone with its application."""
        wait_until(lambda: not self.workers(), seconds=ORPHAN_SECONDS, what="no worker process is left behind")

    def loss(self) -> Loss:
        """The balance of this moment."""
        return balance(self.database, self.root)

    def work_off(self) -> None:
        """The next start: a worker takes up what the application has left in the spool."""
        command = [sys.executable, "-m", "turntrace.cli", "worker"]
        with subprocess.Popen(command, env={**self.env, "TURNTRACE_FAIL_POINTS": ""}, cwd=ROOT) as process:
            try:
                wait_until(lambda: not any(self.root.glob("p-*")), seconds=DRAIN_SECONDS, what="the spool is empty")
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(10)

    def stored(self) -> Counter[str]:
        """How many turns there are of each W3C trace id, those that ended only."""
        t = tables.trace.c
        with self.database.read() as c:
            found = c.execute(select(t.trace_id, func.count()).where(t.is_final).group_by(t.trace_id))
            return Counter({row[0]: row[1] for row in found})

    def assert_nothing_lost(self, answered: set[str]) -> Loss:
        """Every answered turn is there once; the balance is exact, with nothing dropped and nothing waiting."""
        stored = self.stored()
        missing = answered - set(stored)
        assert not missing, f"{len(missing)} of {len(answered)} answered turns are missing"
        assert set(stored.values()) <= {1}
        loss = self.loss()
        assert loss.is_balanced, loss
        assert not loss.dropped
        assert loss.in_spool == 0
        assert loss.stored == sum(stored.values())
        return loss


@contextmanager
def site(home: Path, database: Database, **settings: str) -> Iterator[Site]:
    """An application with this database and a spool of its own; its processes are gone at the end."""
    env = environment(home, database.url.render_as_string(hide_password=False), redaction="off", **settings)
    root = locate(Settings.from_environment(env)).path
    assert root is not None
    made = Site(database, root, env)
    try:
        yield made
    finally:
        for process in made.workers():
            process.kill()


def web_processes(server: Server) -> list[psutil.Process]:
    """The processes of a uvicorn or gunicorn server that answer requests."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "resource_tracker" not in " ".join(_words(child))]


def _words(process: psutil.Process) -> list[str]:
    try:
        found: list[str] = process.cmdline()
        return found if process.status() != psutil.STATUS_ZOMBIE else ["resource_tracker"]
    except psutil.Error:
        return ["resource_tracker"]


@dataclass
class Load:
    """Clients that ask one question after another until they are stopped."""

    url: str
    paths: tuple[str, ...] = ("/ask", "/chat")
    answered: set[str] = field(default_factory=set)
    failures: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, client: httpx.Client, number: int) -> None:
        """One question; the turn counts as answered once its answer is there in full."""
        body = {"question": passages()[number % len(passages())].question}
        headers = {"X-Session-Id": f"s-{number // 5}", "X-User-Id": f"user-{number % 40}"}
        path = self.paths[number % len(self.paths)]
        with client.stream("POST", path, json=body, headers=headers) as response:
            whole = b""
            for piece in response.iter_raw():
                whole += piece
                if b"[DONE]" in whole:
                    self.answered.add(response.headers["x-trace-id"])
        if response.status_code == 200:
            self.answered.add(response.headers["x-trace-id"])

    def run(self, first: int) -> None:
        """One client."""
        # No kept connections: uvicorn waits for ever for one that it accepted while it was told to stop, whether
        # anything is recorded or not.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self.url, timeout=20, limits=limits) as client:
            number = first
            while not self.stop.is_set():
                try:
                    self.ask(client, number)
                except httpx.HTTPError:
                    self.failures += 1
                    self.stop.wait(0.05)
                number += THREADS


@contextmanager
def load(url: str, paths: tuple[str, ...] = ("/ask", "/chat")) -> Iterator[Load]:
    """Load on a server while the block runs."""
    made = Load(url, paths)
    threads = [threading.Thread(target=made.run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop.set()
        for thread in threads:
            thread.join(30)
