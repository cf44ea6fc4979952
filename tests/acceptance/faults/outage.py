"""A host under load whose database fails now and then: shared by the tests and by `benchmarks.outage`."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from sqlalchemy import URL, create_engine, text

from tests.acceptance.faults.load import KEEP_ALIVE, Load, Times, load_of
from tests.acceptance.faults.proxy import database_proxy
from tests.acceptance.servers import Server, environment, turntrace, uvicorn, wait_until

APP = "tests.acceptance.faults.outage_app:app"
SETTLE_SECONDS = 0.5  # at the edges of a window, where it is not clear to which it belongs


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True)
class Rhythm:
    """How long each window lasts, and how long the worker may take to catch up after an outage."""

    quiet_seconds: float
    outage_seconds: float
    drain_seconds: float


@dataclass(frozen=True)
class Pair:
    """An outage and the quiet windows before and after it: p99 of the host (ms), and how long the worker took to catch
    up (s)."""

    kind: str
    quiet: float
    outage: float
    drained_seconds: float

    @property
    def added(self) -> float:
        """What the outage cost the host (ms)."""
        return self.outage - self.quiet

    def __str__(self) -> str:
        figures = f"p99 quiet {self.quiet:.2f} ms, outage {self.outage:.2f} ms, added {self.added:+.2f} ms"
        return f"{self.kind}: {figures}; drained {self.drained_seconds:.1f} s after it"


@dataclass
class Outages:
    """A server under load, and how its database is made to fail."""

    server: Server
    database: URL  # the real one, past whatever fails
    times: Times
    switch: Callable[[str], None]
    load: Load = field(default_factory=Load)

    def stored(self) -> set[str]:
        """The trace ids in the database that are whole."""
        engine = create_engine(self.database)
        try:
            with engine.connect() as connection:
                found = connection.execute(text("SELECT trace_id FROM turntrace_trace WHERE outcome = 'complete'"))
                return {str(row[0]) for row in found}
        finally:
            engine.dispose()

    def workers(self) -> set[int]:
        """The worker processes that the server has started."""
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        return {child.pid for child in children if "turntrace.cli" in child.cmdline()}

    def missing(self) -> int:
        """Acknowledged turns that are not stored yet."""
        return len(set(self.load.acknowledged) - self.stored())

    def drained(self, acknowledged: list[str], seconds: float) -> float:
        """How long it takes until these turns are stored."""
        started, wanted = time.monotonic(), set(acknowledged)
        wait_until(lambda: wanted <= self.stored(), seconds=seconds, what=f"{len(wanted)} turns are stored")
        return time.monotonic() - started

    def window(self, seconds: float) -> list[float]:
        """How long the host's requests (ms) took that begin in the seconds that follow."""
        started = time.monotonic()
        time.sleep(seconds)
        return self.times.between(started + SETTLE_SECONDS, time.monotonic() - SETTLE_SECONDS / 2)

    def alternate(self, kind: str, rhythm: Rhythm) -> Iterator[Pair]:
        """Quiet, outage, quiet, outage, … for as long as somebody asks; each outage against what surrounds it."""
        before = self.window(rhythm.quiet_seconds)
        while True:
            self.switch(kind)
            during = self.window(rhythm.outage_seconds)
            self.switch("pass")
            drained = self.drained(list(self.load.acknowledged), rhythm.drain_seconds)
            after = self.window(rhythm.quiet_seconds)
            yield Pair(kind, percentile(before + after, 0.99), percentile(during, 0.99), drained)
            before = after

    def measured(self, kind: str, rhythm: Rhythm, *, least: int, most: int) -> list[Pair]:
        """`least` pairs; while their median says that the host feels it, more, up to `most`: a machine that others use
        too is noisy, and more pairs tell noise from a cost where a wider limit would hide both."""
        found: list[Pair] = []
        for pair in self.alternate(kind, rhythm):
            found.append(pair)
            if len(found) >= most or (len(found) >= least and not is_felt(found)):
                return found
        raise AssertionError("it alternates for ever")


ADDED_MS, ADDED_SHARE = 1.0, 0.05  # what an outage may cost the host's p99: the greater of the two


def limit_of(pairs: list[Pair]) -> float:
    """By how much (ms) the host's p99 may be longer in the outages."""
    return max(ADDED_MS, ADDED_SHARE * median(pair.quiet for pair in pairs))


def is_felt(pairs: list[Pair]) -> bool:
    """Whether the outages cost the host more than they may: the median of pairs."""
    return median(pair.added for pair in pairs) > limit_of(pairs)


@contextmanager
def host(
    url: URL | str, real: URL, home: Path, switch: Callable[[str], None], *, has_schema: bool = True, **settings: str
) -> Iterator[Outages]:
    """The application under uvicorn with two workers and its database at `url`."""
    shown = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    env = environment(home, shown, worker="process", **settings)
    env["OUTAGE_TIMES"] = str(home / "times")
    if has_schema:
        turntrace({**env, "TURNTRACE_DATABASE_URL": real.render_as_string(hide_password=False)}, "db", "upgrade")
    with uvicorn(APP, env, home / "log", workers=2, options=KEEP_ALIVE) as server:
        yield Outages(server, real, Times(home / "times"), switch)


@contextmanager
def behind_proxy(real: URL, home: Path, **settings: str) -> Iterator[Outages]:
    """A database server behind a proxy: kinds `refused`, `hung`, `slow`."""
    with database_proxy(real.host or "127.0.0.1", real.port or 5432) as proxy:
        url = real.set(host="127.0.0.1", port=proxy.port)
        with host(url, real, home, proxy.switch, **settings) as outages:
            yield outages


@contextmanager
def lockable(home: Path, **settings: str) -> Iterator[Outages]:
    """An SQLite file that another process locks: kind `locked`."""
    path = home / "turntrace.db"
    holder: list[sqlite3.Connection] = []

    def switch(kind: str) -> None:
        while holder:
            holder.pop().close()
        if kind == "locked":
            holder.append(sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False))
            holder[-1].execute("BEGIN EXCLUSIVE")

    real = URL.create("sqlite", database=str(path))
    try:
        with host(real, real, home, switch, **settings) as outages:
            yield outages
    finally:
        switch("pass")


@contextmanager
def under_load(outages: Outages, *, rate: float = 50.0, warm_up_seconds: float = 3.0) -> Iterator[Outages]:
    """Turns arrive, and the first of them are stored."""
    port = int(outages.server.url.rpartition(":")[2])
    with load_of(port, rate=5, load=outages.load):
        time.sleep(1)
    outages.drained(list(outages.load.acknowledged), 60)  # the worker runs
    with load_of(port, rate=rate, load=outages.load):
        time.sleep(warm_up_seconds)
        yield outages


def resident(pids: set[int]) -> dict[int, float]:
    """Resident memory of processes (MB)."""
    found = {}
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                found[pid] = int(line.split()[1]) / 1024
    return found
