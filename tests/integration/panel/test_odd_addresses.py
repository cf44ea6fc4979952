"""Addresses and forms that nobody of good will writes: refused or answered, on every database."""

import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import Visitor
from turntrace.storage.database import Database

# In which a character stands that PostgreSQL does not take.
NUL = (
    "/?environment=%00",
    "/?feature=a%00b",
    "/traces?q=%00",
    "/traces?user_id=a%00b",
    "/traces?tag=%00&score=a%00b",
    "/traces.jsonl?step=%00",
    "/traces/%00",
    "/sessions?session_id=%00",
    "/sessions/a%00b",
    "/users?q=%00",
    "/users/a%00b",
    "/cost?environment=%00",
    "/cost.csv?environment=%00",
    "/quality?feature=%00",
    "/queues/%00",
    "/queues/edit?id=%00",
    "/queues/fill?q=%00",
    "/evaluators/%00",
    "/budgets/edit?id=%00",
    "/erasures/%00",
    "/audit?actor=%00&about=%00",
    "/admin/account/list?search=%00",
    "/admin/price/details/%00",
)
FORMS = (
    ("/views", {"name": "a\0b", "query": "status=error"}),
    ("/views/remove", {"id": "\0"}),
    ("/comments/remove", {"id": "\0"}),
    ("/subjects/turn", {"turn_id": "\0", "typed": "erase"}),
    ("/budgets/remove", {"id": "\0"}),
    ("/queues/fill", {"queue": "\0", "number": "1", "q": "\0"}),
    ("/privacy/windows/close", {"id": "\0"}),
    ("/admin/account/create", {"name": "eve\0", "role": "reader", "password": "correct horse battery"}),
    ("/admin/account/role", {"name": "\0", "role": "reader"}),
)
TIMES = (
    "0001-01-01T00:00%2B14:00",
    "0001-01-01",
    "1970-01-01",
    "1970-01-01T00:00:01",
    "8999-12-31T23:59:59.999",
    "9999-12-31T23:59",
    "9999-12-31T23:59:59.999999-23:59",
)


@pytest.fixture
def admin(database: Database) -> Iterator[Visitor]:
    """An admin of a panel with a few turns."""
    add_people(database)
    now_us = time.time_ns() // 1000
    store(database, scene(now_us, turns=4), now_us)
    host = mounted(context_of(database, redaction="off"))
    with TestClient(host, follow_redirects=False, raise_server_exceptions=False) as client:
        yield Visitor(client).log_in("admin")


def test_a_character_that_no_text_has_is_answered(admin: Visitor) -> None:
    found = {path: admin.get(path).status_code for path in NUL}
    assert {path: status for path, status in found.items() if status not in (200, 404)} == {}
    answers = {path: admin.post(path, **fields).status_code for path, fields in FORMS}
    assert {path: status for path, status in answers.items() if status >= 500} == {}
    assert "No session matches" in admin.get("/sessions?session_id=%00").text


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("page", ["/", "/traces", "/traces.csv", "/sessions", "/users", "/cost", "/quality", "/audit"])
def test_the_ends_of_time_are_answered(admin: Visitor, page: str) -> None:
    found = {f"{name}={at}": admin.get(f"{page}?{name}={at}").status_code for name in ("from", "to") for at in TIMES}
    assert {query: status for query, status in found.items() if status not in (200, 400)} == {}
    for refused in ("from=0001-01-01", "to=9999-12-31T23:59", "from=1970-01-01"):
        assert admin.get(f"{page}?{refused}").status_code == 400
