"""A logged-in person whose browser notes everything that must not happen."""

import time
from typing import Any

from playwright.sync_api import Browser, Page

from tests.integration.panel.visitor import PASSWORD

_QUIET_SECONDS = 0.1  # Playwright's "networkidle" waits half a second on each of a thousand pages
_PATIENCE_SECONDS = 30.0


class Watcher:
    """A page, and what the browser complained about on it."""

    def __init__(self, browser: Browser, base: str, *, width: int = 1440, dark: bool = False, **options: Any) -> None:
        self.base = base
        self.context = browser.new_context(
            viewport={"width": width, "height": 900 if width > 700 else 844},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            **options,
        )
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text[:300]}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self._under_way: set[Any] = set()
        self._last_at = 0.0
        self.page.on("request", self._note_request)
        for end in ("requestfinished", "requestfailed"):
            self.page.on(end, self._note_end)

    def _note_end(self, request: Any) -> None:
        self._under_way.discard(request)
        self._last_at = time.monotonic()

    def _note_request(self, request: Any) -> None:
        self._under_way.add(request)
        if not request.url.startswith((self.base.rsplit("/", 1)[0], "data:")):
            self.complaints.append(f"request to {request.url[:200]}")

    def log_in(self, name: str = "admin", password: str = PASSWORD) -> "Watcher":
        """Through the form."""
        self.open("/login")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.page.click("button.primary")
        self.page.wait_for_url(f"{self.base}/")
        return self

    def open(self, path: str) -> Page:
        """A page, with everything loaded: what its scripts ask for after that, too."""
        self._under_way.clear()
        self.page.goto(self.base + path, wait_until="load")
        self._last_at = began = time.monotonic()
        while self._under_way or time.monotonic() - self._last_at < _QUIET_SECONDS:
            assert time.monotonic() - began < _PATIENCE_SECONDS, f"{path} goes on asking for {self._under_way}"
            self.page.wait_for_timeout(25)  # lets the browser's news come in
        return self.page

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        measure = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(measure))

    def close(self) -> None:
        """Close the window."""
        self.context.close()
