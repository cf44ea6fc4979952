"""A panel under a real server, and a real browser in front of it."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Error, sync_playwright

from tests.acceptance.servers import wait_until
from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.scene import hostile, scene, store, store_running, together
from turntrace.records.loss import Loss
from turntrace.storage import migrate, outbound
from turntrace.storage.database import Database
from turntrace.worker.vitals import Vitals

ARTIFACTS = Path(os.environ.get("TURNTRACE_ARTIFACTS", Path(__file__).parents[3] / "artifacts")) / "panel"
STATUS = {
    "version": "0.1.0",
    "warnings": ("The spool is in memory: a restart loses what is not stored yet.",),
    "spool": {"path": "/var/tmp/turntrace", "bytes": 920_000_000, "max_bytes": 1 << 30},
    "vitals": Vitals(processes=2, turns=300, overhead_us=18_600, cpu_us=9_300_000, in_memory=2),
    "worker": {"mode": "process", "is_alive": True, "heartbeat_at_us": time.time_ns() // 1000},
}


DESTINATIONS = [
    {"name": "langfuse", "url": "https://langfuse.example/api/public/otel/v1/traces", "content": True},
    {"name": "phoenix", "url": "http://phoenix.internal:6006/v1/traces", "sample_rate": 0.25},
    {"name": "collector", "url": "http://127.0.0.1:4318/v1/traces"},
]


def _send_on(database: Database, now_us: int) -> None:
    """One destination that works, one that fails, one that is named no more."""
    turns = [f"{n:032x}" for n in range(1200)]
    with database.write() as connection:
        outbound.enqueue(connection, [("phoenix", turn) for turn in turns], now_us=now_us - 3_600_000_000)
        outbound.settle(connection, "langfuse", [], {"sent": 28_310, "left_out": 12}, now_us)
        outbound.settle(connection, "old-collector", [], {"sent": 4_000, "refused": 7}, now_us - 86_400_000_000)
        outbound.note_failure(connection, "phoenix", "ConnectionRefusedError", now_us, is_final=False)


def _serve(app: object) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, seconds=30, what="the panel's server to start")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/llm-admin"
    server.should_exit = True
    thread.join(timeout=10)


def _panel(database: Database) -> Iterator[str]:
    migrate.upgrade(database)
    add_people(database)
    loss = Loss(accepted=350, stored=300, sampled=40, dropped={"spool_full": 3}, in_spool=7)
    made = context_of(database, panel_title="Turntrace", export_to=DESTINATIONS)
    context = replace(made, status=lambda: STATUS, loss=lambda: loss)
    yield from _serve(mounted(context))
    database.close()


@pytest.fixture(scope="session")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a panel with 300 turns, of which the first 20 try to run scripts."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('panel')}/turntrace.db")
    migrate.upgrade(database)
    now_us = time.time_ns() // 1000
    texts = tuple(hostile()[::30])
    store(
        database,
        [
            *together(now_us),
            *scene(now_us - 30 * 61 * 1_000_000, turns=280),
            *scene(now_us, turns=20, texts=texts, seed=9),
        ],
        now_us,
    )
    _send_on(database, now_us)
    store_running(database, now_us)
    yield from _panel(database)


@pytest.fixture(scope="session")
def hostile_panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a panel with 600 turns that try to run scripts."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('hostile')}/turntrace.db")
    migrate.upgrade(database)
    now_us = time.time_ns() // 1000
    store(database, scene(now_us, turns=len(hostile()), texts=tuple(hostile())), now_us)
    yield from _panel(database)


@pytest.fixture(scope="session")
def empty_panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a panel in which nothing was recorded yet."""
    yield from _panel(Database(f"sqlite:///{tmp_path_factory.mktemp('empty')}/turntrace.db"))


def chromium() -> Iterator[Browser]:
    """Chromium: the one on the path, else Playwright's own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            running = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            )
        except Error:
            pytest.skip("no Chromium: install one, or run `playwright install chromium`")
        yield running
        running.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium for the tests of this folder. No longer: Playwright's event loop runs in this thread until it ends, and
    asynchronous tests could not run beside it."""
    yield from chromium()
