"""A person with a browser, as far as tests need one."""

import re
from typing import Any

from httpx import Response
from starlette.testclient import TestClient

PASSWORD = "correct horse battery"
MOUNT = "/llm-admin"
_TOKEN = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')


class Visitor:
    """Follows our links and sends our forms."""

    def __init__(self, client: TestClient, mount: str = MOUNT) -> None:
        self.client = client
        self.mount = mount
        self.token = ""

    def log_in(self, name: str, password: str = PASSWORD) -> "Visitor":
        """Through the form."""
        answer = self.client.post(f"{self.mount}/login", data={"username": name, "password": password})
        assert answer.status_code == 303, answer.text
        self.token = self.token_on("/queues" if name == "reviewer" else "/system")
        return self

    def token_on(self, path: str) -> str:
        """The CSRF token that stands on a page."""
        found = _TOKEN.search(self.get(path).text)
        assert found is not None
        return found[1]

    def get(self, path: str, **options: Any) -> Response:
        """One page, by its path below the mount."""
        return self.client.get(f"{self.mount}{path}", **options)  # type: ignore[return-value]

    def post(self, path: str, token: str | None = None, **fields: str) -> Response:
        """A form with the right token, or another one."""
        data = {"csrf_token": self.token if token is None else token, **fields}
        return self.client.post(f"{self.mount}{path}", data=data)  # type: ignore[return-value]
