import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.acceptance.panel.conftest import ARTIFACTS
from tests.acceptance.panel.watcher import Watcher
from tests.integration.panel.scene import TOGETHER

pytestmark = pytest.mark.browser

PAGES = {
    "overview": "/",
    "traces": "/traces",
    "traces-filtered": "/traces?feature=support&status=error",
    "sessions": "/sessions",
    "users": "/users",
    "user": "/users/user-3",
    "erasures": "/erasures",
    "cost": "/cost",
    "budgets": "/budgets",
    "new-budget": "/budgets/edit",
    "price-lists": "/prices?from=2026-11-01&to=2026-11-30",
    "quality": "/quality",
    "evaluators": "/evaluators",
    "new-evaluator": "/evaluators/new",
    "new-judge": "/evaluators/new?start=template:groundedness",
    "system": "/system",
    "privacy": "/privacy",
    "audit": "/audit",
    "keys": "/admin/api-key/list",
    "people": "/admin/account/list",
    "new-person": "/admin/account/create",
    "prices": "/admin/price/list",
    "new-price": "/admin/price/create",
    "together": f"/traces/{TOGETHER}",
    "not-found": "/nothing",
}
SCREENS = [(1440, False), (1440, True), (390, False), (390, True)]


def _name(screen: tuple[int, bool]) -> str:
    return f"{screen[0]}-{'dark' if screen[1] else 'light'}"


@pytest.fixture(scope="module", params=SCREENS, ids=_name)
def watcher(request: pytest.FixtureRequest, browser: Browser, panel: str) -> Iterator[Watcher]:
    """An admin at each size and in each colour scheme."""
    width, dark = request.param
    made = Watcher(browser, panel, width=width, dark=dark).log_in()
    made.name = _name(request.param)  # type: ignore[attr-defined]
    yield made
    made.close()


@pytest.fixture
def desk(browser: Browser, panel: str) -> Iterator[Watcher]:
    """An admin at a desk."""
    made = Watcher(browser, panel).log_in()
    yield made
    made.close()


def _first(watcher: Watcher, path: str, selector: str) -> str:
    href = watcher.open(path).locator(selector).first.get_attribute("href")
    assert href is not None
    return href.removeprefix("/llm-admin")


def _look(watcher: Watcher, name: str, path: str) -> None:
    """Everything that holds for every page; a screenshot is kept."""
    watcher.complaints.clear()
    page = watcher.open(path)
    folder = ARTIFACTS / watcher.name  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
    assert watcher.overflow == 0
    found = Axe().run(page).response["violations"]
    assert [(item["id"], item["impact"], [node["html"][:200] for node in item["nodes"]][:4]) for item in found] == []
    assert [item for item in watcher.complaints if "404" not in item or name != "not-found"] == []


@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_sound(watcher: Watcher, name: str) -> None:
    _look(watcher, name, PAGES[name])


@pytest.mark.parametrize("step", ["turn", "retrieval", "tool", "generation"])
def test_the_trace_page_is_sound_at_each_kind_of_step(watcher: Watcher, step: str) -> None:
    path = _first(watcher, "/traces?status=error", "a.turn-link")
    if step == "turn":
        _look(watcher, "trace-turn", f"{path}?observation=turn")
    else:
        _look(watcher, f"trace-{step}", _first(watcher, path, f"a.wf-row.t-{step}"))


@pytest.mark.parametrize("status", ["client_disconnected", "in_progress"])
def test_the_trace_page_is_sound_for_streams_that_did_not_end_well(watcher: Watcher, status: str) -> None:
    _look(watcher, f"trace-{status}", _first(watcher, f"/traces?status={status}", "a.turn-link"))


def test_the_replay_of_a_session_is_sound(watcher: Watcher) -> None:
    _look(watcher, "session", _first(watcher, "/sessions?user_id=user-3", "a.row-link"))


def test_open_sheets_and_forms_are_sound(watcher: Watcher) -> None:
    watcher.complaints.clear()
    page = watcher.open("/traces")
    for summary in page.locator("details.pop > summary").all():
        summary.click()
        assert watcher.overflow == 0
        assert not Axe().run(page).response["violations"]
        page.keyboard.press("Escape")  # an open sheet may lie over the next button
        expect(page.locator("details.pop[open]")).to_have_count(0)
    assert not watcher.complaints


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1440])
def test_login_and_empty_pages_are_sound(browser: Browser, empty_panel: str, width: int, dark: bool) -> None:
    watcher = Watcher(browser, empty_panel, width=width, dark=dark)
    watcher.name = f"{width}-{'dark' if dark else 'light'}"  # type: ignore[attr-defined]
    _look(watcher, "login", "/login")
    watcher.log_in()
    for name, path in PAGES.items():
        is_there = name not in ("not-found", "user", "together")  # nothing is known here
        _look(watcher, f"empty-{name}" if is_there else "not-found", path)
    watcher.close()


@pytest.mark.parametrize("width", [360, 768, 1024, 1920, 3840])
def test_no_size_overflows(browser: Browser, panel: str, width: int) -> None:
    watcher = Watcher(browser, panel, width=width).log_in()
    trace = _first(watcher, "/traces?status=error", "a.turn-link")
    for path in (*PAGES.values(), trace):
        watcher.open(path)
        assert watcher.overflow == 0, path
    watcher.close()


def test_hostile_texts_do_nothing_in_a_browser(browser: Browser, hostile_panel: str) -> None:
    watcher = Watcher(browser, hostile_panel).log_in()
    page = watcher.open("/traces")
    links = []
    while True:
        links += [link.get_attribute("href") or "" for link in page.locator("a.turn-link").all()]
        older = page.locator("a[rel=next]")
        if not older.count():
            break
        watcher.open((older.get_attribute("href") or "").removeprefix("/llm-admin"))
    assert len(links) == 600
    for link in links[::20]:
        watcher.open(link.removeprefix("/llm-admin"))
        for row in page.locator("a[data-row]").all():
            row.hover()
    for path in ("/", "/sessions", "/users", "/cost?group_by=feature"):
        watcher.open(path)
    assert not watcher.complaints
    watcher.close()


def test_rows_are_reached_by_keyboard(desk: Watcher) -> None:
    page = desk.open("/traces")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("a.turn-link").nth(1)
    expect(second).to_be_focused()
    href = second.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf".*{href}$"))
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(r".*\?observation="))
    page.keyboard.press("?")
    expect(page.locator("#keys-help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url(f"{desk.base}/cost")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url(f"{desk.base}/traces")
    page.keyboard.press("/")
    page.keyboard.type("descale")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r".*q=descale"))
    assert not desk.complaints


def test_a_step_is_chosen_without_loading_the_page_again(desk: Watcher) -> None:
    page = desk.open(_first(desk, "/traces?status=error", "a.turn-link"))
    page.evaluate("window.stays = true")
    page.locator("a.wf-row.t-retrieval").first.click()
    expect(page.locator("#observation h2")).to_have_text("kb-search")
    expect(page).to_have_url(re.compile(r".*\?observation=[0-9a-f]{16}$"))
    assert page.evaluate("window.stays") is True
    page.go_back()
    expect(page.locator("#observation h2")).to_have_text("answer")
    assert not desk.complaints


def test_a_score_is_added_by_the_form(desk: Watcher) -> None:
    page = desk.open(_first(desk, "/traces?status=ok", "a.turn-link"))
    page.get_by_text("Add a score", exact=True).click()
    page.fill("[name=name]", "helpful")
    page.select_option("[name=data_type]", "boolean")
    page.fill("[name=value]", "yes")
    page.click("text=Add score")
    expect(page.locator("#scores")).to_contain_text("helpful")
    assert not desk.complaints


def test_times_stand_in_the_zone_of_the_viewer_with_utc_on_hover(browser: Browser, panel: str) -> None:
    watcher = Watcher(browser, panel, timezone_id="Asia/Kolkata").log_in()
    stamp = watcher.open("/sessions").locator("time").first
    utc = stamp.get_attribute("datetime") or ""
    minutes = (int(utc[11:13]) * 60 + int(utc[14:16]) + 330) % 1440
    expect(stamp).to_have_text(re.compile(rf"{minutes // 60:02d}:{minutes % 60:02d}:"))
    assert (stamp.get_attribute("title") or "").endswith("UTC")
    watcher.close()


def test_the_list_follows_live(desk: Watcher) -> None:
    page = desk.open("/traces?live=1")
    with page.expect_response(
        lambda answer: "live=1" in answer.url and answer.request.headers.get("hx-request") == "true"
    ):
        pass
    expect(page.locator("tr.turn")).to_have_count(50)
    assert not desk.complaints


def test_charts_are_drawn_and_their_numbers_stand_in_a_table(desk: Watcher) -> None:
    page = desk.open("/?range=24h")
    expect(page.locator(".uplot canvas")).to_have_count(4)
    page.locator(".chart-data > summary").first.click()
    assert page.locator(".chart-data table").first.locator("tbody tr").count() >= 24
    assert not desk.complaints


def test_the_colour_theme_can_be_switched(desk: Watcher) -> None:
    page = desk.open("/traces")
    page.get_by_role("button", name="Dark").click()
    page.wait_for_url(f"{desk.base}/traces")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 15, 19)"
    page.get_by_role("button", name="System").click()
    page.wait_for_url(f"{desk.base}/traces")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 250, 251)"


def test_everything_reads_without_javascript(browser: Browser, panel: str) -> None:
    watcher = Watcher(browser, panel, java_script_enabled=False).log_in()
    page = watcher.open("/traces")
    expect(page.locator("tr.turn")).to_have_count(50)
    page.locator("a[rel=next]").click()
    expect(page.locator("tr.turn").first).to_be_visible()
    page.goto(f"{panel}/traces?status=error")
    page.locator("a.turn-link").first.click()
    page.locator("a.wf-row.t-tool").first.click()
    expect(page.locator("#observation h2")).to_have_text("order")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{panel}/login")
    watcher.close()
