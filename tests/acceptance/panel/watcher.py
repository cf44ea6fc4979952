"""A logged-in person whose browser notes everything that must not happen."""

from typing import Any

from playwright.sync_api import Browser, Page

from tests.integration.panel.visitor import PASSWORD


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
        self.page.on("request", self._note_request)

    def _note_request(self, request: Any) -> None:
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
        """A page, with everything loaded."""
        self.page.goto(self.base + path, wait_until="networkidle")
        return self.page

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        measure = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(measure))

    def close(self) -> None:
        """Close the window."""
        self.context.close()
