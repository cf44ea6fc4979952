"""`turntrace demo` as a newcomer runs it: three lines, real conversations, answers that cite, pages one can show."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.acceptance.panel.conftest import ARTIFACTS, chromium
from tests.acceptance.panel.watcher import Watcher
from tests.acceptance.servers import ROOT, free_port, wait_until

pytestmark = pytest.mark.alone

TURNS = 60
FIRST_TURNS_SECONDS = 30 if os.environ.get("CI") else 15
PAGES = ("/", "/traces", "/sessions", "/users", "/cost", "/quality", "/evaluators", "/system")


@dataclass
class Demo:
    """A running demo and what it has said."""

    log: Path
    started: float
    panel: str = ""
    user: str = ""
    password: str = ""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, from its start to the end of the tests."""
    home, port = tmp_path_factory.mktemp("demo"), free_port()
    command = [sys.executable, "-m", "turntrace.cli", "demo", "--port", str(port), "--turns", str(TURNS)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TURNTRACE_", "OPENAI_"))}
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--home", str(home / "home")], cwd=ROOT, env=env, stdout=output, stderr=subprocess.DEVNULL
        )
    try:
        told = wait_until(lambda: _told(log, ("panel", "user", "password")), seconds=60, what="the three lines")
        assert told["panel"] == f"http://127.0.0.1:{port}/llm-admin/"
        yield Demo(log, time.monotonic(), told["panel"].rstrip("/"), told["user"], told["password"])
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for the tests of this file."""
    yield from chromium()


def _told(log: Path, names: tuple[str, ...]) -> dict[str, str] | None:
    found = dict(line.split(": ", 1) for line in log.read_text().splitlines() if line.partition(":")[0] in names)
    return found if len(found) == len(names) else None


def test_the_first_twenty_turns_are_there_soon(demo: Demo) -> None:
    with httpx.Client(base_url=demo.panel + "/", follow_redirects=True, timeout=30) as visitor:
        _log_in(visitor, demo)
        wait_until(lambda: _rows(visitor) >= 20, seconds=FIRST_TURNS_SECONDS, what="twenty turns on the Traces page")
    assert time.monotonic() - demo.started < FIRST_TURNS_SECONDS + 1


def _log_in(visitor: httpx.Client, demo: Demo) -> None:
    page = visitor.get("login")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert token is not None
    origin = {"Origin": str(page.url.copy_with(path="/")).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    form = {"csrf_token": token[1], "username": demo.user, "password": demo.password}
    assert visitor.post("login", data=form, headers=origin).status_code == 200


def _rows(visitor: httpx.Client) -> int:
    page = visitor.get("traces")
    assert page.status_code == 200
    return len(set(re.findall(r"/traces/([0-9a-f]{32})", page.text)))


def test_answers_cite_their_documents(demo: Demo) -> None:
    said = wait_until(lambda: re.search(r"(\d+) turns: (\d+) %", demo.log.read_text()), seconds=90, what="the summary")
    assert int(said[1]) == TURNS
    assert int(said[2]) >= 80


def test_the_quality_page_shows_the_hallucination_rate(demo: Demo) -> None:
    with httpx.Client(base_url=demo.panel + "/", follow_redirects=True, timeout=30) as visitor:
        _log_in(visitor, demo)
        shown = wait_until(lambda: _standing(visitor), seconds=60, what="three evaluators' scores of every turn")
    # The offline model was set to 8 % of its known questions; the interval of the page has it inside.
    assert shown["low"] <= 8 <= shown["high"]


def _standing(visitor: httpx.Client) -> dict[str, float] | None:
    """What the Quality page says of `hallucination`, once every evaluator has judged nearly every turn."""
    page = visitor.get("quality").text
    rows = [row for row in re.findall(r"<tr[ >].*?</tr>", page, re.DOTALL) if 'data-label="Agreement"' in row]
    said = {re.sub(r"<[^>]+>", " ", row).split()[0]: row for row in rows}
    judged = ("hallucination", "unsupported_claim", "groundedness")
    counts = [re.findall(r'data-label="Scores"[^>]*>(\d+)<', said.get(name, "")) for name in judged]
    if any(not found or int(found[0]) < TURNS * 0.75 for found in counts):
        return None
    low, high = re.findall(r'data-label="95 %"[^>]*>([\d.]+) % to ([\d.]+) %', said["hallucination"])[0]
    return {"low": float(low), "high": float(high)}


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_each_page_can_be_shown_to_a_customer(demo: Demo, browser: Browser, width: int, dark: bool) -> None:
    watcher = Watcher(browser, demo.panel, width=width, dark=dark).log_in(demo.user, demo.password)
    watcher.complaints.clear()
    folder = ARTIFACTS.parent / "demo" / f"{width}-{'dark' if dark else 'light'}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*PAGES, _first(watcher, "/traces"), _first(watcher, "/sessions")):
        page = watcher.open(path)
        page.screenshot(path=folder / f"{path.strip('/').replace('/', '-')[:24] or 'overview'}.png", full_page=True)
        assert watcher.overflow == 0, path
        assert [item["id"] for item in Axe().run(page).response["violations"]] == [], path
    assert watcher.complaints == []
    watcher.close()


def _first(watcher: Watcher, path: str) -> str:
    """The first page of one thing that a list links to."""
    href = watcher.open(path).locator(f"main a[href*='{path}/']").first.get_attribute("href")
    assert href is not None
    return href.removeprefix("/llm-admin")
