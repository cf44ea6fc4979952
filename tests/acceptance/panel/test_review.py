"""A person reads thirty turns and says what they are worth, without touching the mouse."""

import itertools
import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.panel.conftest import ARTIFACTS
from tests.acceptance.panel.watcher import Watcher

pytestmark = pytest.mark.browser

SCREENS = [(1440, False), (1440, True), (390, False), (390, True)]
QUESTIONS = "verdict: good | bad | unsure\non topic: yes/no\nwhat is missing: text"
_numbers = itertools.count()


@pytest.fixture
def desk(browser: Browser, panel: str) -> Iterator[Watcher]:
    made = Watcher(browser, panel).log_in()
    yield made
    made.close()


def make_queue(watcher: Watcher, turns: int) -> str:
    """Make and fill a queue by its forms; answers its path."""
    page = watcher.open("/queues/edit")
    page.fill("#name", f"read {next(_numbers)} of {watcher.base[-20:]}")
    page.fill("#instructions", "Good: every claim stands in a document. When in doubt: unsure.")
    page.fill("#questions", QUESTIONS)
    page.click("button.primary")
    page.click("text=Put turns in")
    page.fill("#number", str(turns))
    page.click("button.primary")
    page.wait_for_url(re.compile(r"/queues/[0-9a-f]{32}"))
    found = re.search(r"/queues/[0-9a-f]{32}", page.url)
    assert found is not None
    return found[0]


def tab_to(page: Page, text: str) -> None:
    """Press Tab until the focus is on what says this."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if text in str(page.evaluate("document.activeElement.innerText")):
            return
    raise AssertionError(f"{text!r} is not reached by Tab")


def test_thirty_turns_are_reviewed_with_the_keyboard_alone(desk: Watcher) -> None:
    queue = make_queue(desk, 30)
    page = desk.open(queue)
    tab_to(page, "Review the next turn")
    page.keyboard.press("Enter")
    for number in range(30):
        expect(page.get_by_text(f"{number} of 30 reviewed")).to_be_visible()
        page.wait_for_load_state()
        page.keyboard.press("1" if number % 3 else "2")
        page.keyboard.press("1")
        if number == 4:
            page.keyboard.press("c")
            page.keyboard.type("Says 3 weeks, the document says 4.")
            page.keyboard.press("Escape")
        page.keyboard.press("Enter")
    expect(page.get_by_text("No turn is left for you in this queue.")).to_be_visible()
    text = page.inner_text("main")
    assert re.search(r"good\s+20", text)
    assert re.search(r"bad\s+10", text)
    assert re.search(r"yes\s+30", text)
    assert desk.complaints == []


def test_a_turn_is_skipped_by_a_key(desk: Watcher) -> None:
    queue = make_queue(desk, 2)
    page = desk.open(queue)
    tab_to(page, "Review the next turn")
    page.keyboard.press("Enter")
    expect(page.get_by_text("0 of 2 reviewed")).to_be_visible()
    page.wait_for_load_state()
    first = page.url
    page.keyboard.press("s")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("s")
    expect(page.get_by_text("No turn is left for you in this queue.")).to_be_visible()


@pytest.mark.parametrize(("width", "is_dark"), SCREENS)
def test_the_pages_of_review_are_sound(browser: Browser, panel: str, width: int, is_dark: bool) -> None:
    watcher = Watcher(browser, panel, width=width, dark=is_dark).log_in()
    try:
        queue = make_queue(watcher, 3)
        looks = {"queues": "/queues", "queue": queue, "queue-form": "/queues/edit", "queue-fill": "/queues/fill"}
        for name, path in looks.items():
            look(watcher, name, path, width, is_dark)
        page = watcher.open(queue)
        page.click("text=Review the next turn")
        page.wait_for_url("**/items/*")
        look(watcher, "review", re.sub(r".*/llm-admin", "", page.url), width, is_dark)
        page.check("#answer-0-1")
        page.click("[data-save]")
        page.wait_for_url("**/items/*")
        look(watcher, "queue-begun", queue, width, is_dark)
    finally:
        watcher.close()


def look(watcher: Watcher, name: str, path: str, width: int, is_dark: bool) -> None:
    page = watcher.open(path)
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}-{width}-{'dark' if is_dark else 'light'}.png", full_page=True)
    assert watcher.overflow <= 0, f"{path} is {watcher.overflow} px too wide"
    found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert found == []
    assert watcher.complaints == []
