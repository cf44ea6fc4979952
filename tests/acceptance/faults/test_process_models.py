"""Forks, preloading servers, reloads and scripts that end at once: nothing lost, no hang, no process left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.faults.site import Site, load, site
from tests.acceptance.servers import ROOT, gunicorn, offline_model, uvicorn, wait_until
from turntrace.storage.database import Database

EXITS = 10
RELOADS = 3
SCRIPT_SECONDS = 30


@pytest.fixture(params=["sqlite"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def here(tmp_path: Path, database: Database) -> Iterator[Site]:
    with site(tmp_path, database) as made:
        yield made


def run(here: Site, script: str, *arguments: str) -> float:
    """Run a script to its end; answers how long it took (s)."""
    started = time.monotonic()
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, env=here.env, cwd=ROOT, capture_output=True, text=True, timeout=SCRIPT_SECONDS)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    return time.monotonic() - started


ONE_TURN = """
from turntrace import Turntrace
with Turntrace().turn("script"):
    pass
"""


def test_a_script_that_ends_right_after_a_turn_loses_nothing(here: Site) -> None:
    took = [run(here, ONE_TURN) for _ in range(EXITS)]
    here.assert_no_orphan()
    before = sum(here.stored().values())
    here.work_off()
    loss = here.assert_nothing_lost(set())
    assert loss.stored == EXITS
    print(f"{EXITS} exits, longest {max(took):.2f} s; {before} stored before the next start")


FORKING = """
import multiprocessing, sys, threading
from turntrace import Turntrace
tt = Turntrace()
def turns(n):
    for _ in range(n):
        with tt.turn("forked"):
            with tt.observation("step"):
                pass
def children(n):
    context = multiprocessing.get_context("fork")
    made = [context.Process(target=turns, args=(5,)) for _ in range(n)]
    for child in made:
        child.start()
    turns(3)
    for child in made:
        child.join(20)
        assert child.exitcode == 0, child.exitcode
stop, busy = threading.Event(), None
if "used" in sys.argv:
    turns(2)
if "busy" in sys.argv:
    def work():
        while not stop.is_set():
            turns(1)
            stop.wait(0.001)
    busy = threading.Thread(target=work)
    busy.start()
for _ in range(3):
    children(4)
stop.set()
if busy:
    busy.join()
"""


@pytest.mark.parametrize("state", ["unused", "used", "busy"])
def test_children_forked_before_and_after_the_first_use_lose_nothing(here: Site, state: str) -> None:
    """`busy`: a thread of the parent is writing while it forks."""
    run(here, FORKING, state)
    here.assert_no_orphan()
    here.work_off()
    loss = here.assert_nothing_lost(set())
    least = 3 * (4 * 5 + 3)
    assert loss.stored > least + 2 if state == "busy" else loss.stored == least + (2 if state == "used" else 0)


LOOPS = """
import asyncio, threading
from turntrace import Turntrace, TurntraceMiddleware
tt = Turntrace()
async def answer(scope, receive, send):
    with tt.generation("answer", model="gpt-4o-mini", input="hello") as call:
        await asyncio.sleep(0.001)
        call.update(output="hi")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for is_more in (True, True, False):
        await asyncio.sleep(0.001)  # turns of one loop take turns
        await send({"type": "http.response.body", "body": b"x", "more_body": is_more})
app = TurntraceMiddleware(answer, turntrace=tt)
async def ask():
    sent = []
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "GET", "path": "/ask", "raw_path": b"/ask", "query_string": b"", "headers": []}
    await app(scope | {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http"}, receive, send)
    assert b"".join(message.get("body", b"") for message in sent) == b"xxx"
async def some():
    await asyncio.gather(*(ask() for _ in range(20)))
threads = [threading.Thread(target=asyncio.run, args=(some(),)) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(3):
    asyncio.run(some())
for thread in threads:
    thread.join()
"""


def test_several_event_loops_at_once_and_one_after_the_other_lose_nothing(here: Site) -> None:
    run(here, LOOPS)
    here.assert_no_orphan()
    here.work_off()
    assert here.assert_nothing_lost(set()).stored == 7 * 20


def test_gunicorn_with_preload_and_four_workers_loses_nothing(here: Site, tmp_path: Path) -> None:
    options = {"OFFLINE_SECONDS_PER_TOKEN": "0", "OFFLINE_FAILURE_RATE": "0", "OFFLINE_SLOW_RATE": "0"}
    with offline_model(tmp_path / "model", **options) as url:
        here.env["OPENAI_BASE_URL"] = url
        with gunicorn("example_app.flask_app:app", here.env, tmp_path / "log") as server:
            with load(server.url) as driven:
                wait_until(lambda: len(driven.answered) >= 200, seconds=60, what="200 answers")
            wait_until(lambda: here.loss().in_spool == 0, seconds=30, what="everything is stored")
            assert len(here.workers()) == 1
    here.assert_no_orphan()
    here.work_off()
    here.assert_nothing_lost(driven.answered)


def test_reloads_lose_nothing_and_leave_no_process_behind(here: Site, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    module = folder / "reloaded_app.py"
    shutil.copy(Path(__file__).with_name("small_app.py"), module)
    options = ("--reload", "--reload-dir", str(folder), "--app-dir", str(folder))
    answered: set[str] = set()
    with uvicorn("reloaded_app:app", here.env, tmp_path / "log", options=options) as server:
        for _ in range(RELOADS):
            before = process_of(server.url)
            answered |= {ask(server.url) for _ in range(5)}
            now = time.time()
            os.utime(module, (now + 2, now + 2))
            wait_until(lambda before=before: process_of(server.url) not in ("", before), seconds=30, what="a reload")
        answered |= {ask(server.url) for _ in range(5)}
        wait_until(lambda: here.loss().in_spool == 0, seconds=30, what="everything is stored")
        assert len(here.workers()) <= 2  # the last one of a process before may still be draining
        took = server.stop(signal.SIGTERM)
    print(f"{RELOADS} reloads; the stop took {took:.2f} s")
    assert took < 5
    here.assert_no_orphan()
    here.work_off()
    assert here.assert_nothing_lost(answered).stored == 5 * (RELOADS + 1)


def process_of(url: str) -> str:
    """The id of the process that answers; nothing while none does."""
    try:
        return httpx.get(f"{url}/health", timeout=5).text
    except httpx.HTTPError:
        return ""


def ask(url: str) -> str:
    """One turn; answers its trace id."""
    response = httpx.post(f"{url}/chat", timeout=10)
    assert response.text.endswith("[DONE]\n\n")
    return response.headers["x-trace-id"]
