"""What keys, the command line and the configuration do is in the audit log."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import client_of, make_key
from turntrace import cli
from turntrace.api import trail
from turntrace.settings import Settings
from turntrace.storage import audit, declared
from turntrace.storage.database import Database


def _entries(database: Database, action: str) -> list[audit.Entry]:
    with database.read() as c:
        return list(reversed(audit.list_entries(c, audit.Wanted(action=action))))


async def test_calls_of_a_key_are_one_row_a_minute_with_their_number(
    small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(small, **make_key(small, "read", "write")) as client:
        for _ in range(4):
            assert (await client.get("/traces")).status_code == 200
        assert (await client.get("/costs?group_by=model")).status_code == 200  # numbers
        assert (await client.get("/scores")).status_code == 200
        monkeypatch.setattr(trail, "EVERY_SECONDS", 0.0)
        assert (await client.get("/traces")).status_code == 200
        refused: httpx.Response = await client.get("/prices", headers={"Authorization": "Bearer nobody"})
        assert refused.status_code == 401
    found = [(item.target, item.details.get("calls before")) for item in _entries(small, "api.read")]
    assert found == [("listTraces", None), ("listScores", None), ("listTraces", 3)]
    assert {(item.actor, item.role) for item in _entries(small, "api")} == {("test read write", "key")}


def test_the_command_line_leaves_its_trail(small: Database, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--database-url", small.url.render_as_string(hide_password=False)]
    for words in (["keys", "create", "--name", "n", "--scope", "read"], ["switch", "off"], ["switch", "on"]):
        assert cli.main([*words, *where]) == 0
    capsys.readouterr()
    with small.read() as c:
        entries = audit.list_entries(c)
        assert audit.broken_at(c) is None
    assert [(item.actor, item.action) for item in entries] == [
        ("command line", "settings.switch"),
        ("command line", "settings.switch"),
        ("command line", "key.create"),
    ]


def test_prices_changed_by_the_command_line_leave_their_trail(small: Database, tmp_path: Path) -> None:
    where = ["--database-url", small.url.render_as_string(hide_password=False)]
    path = tmp_path / "prices.json"
    price = {
        "provider": "*",
        "model": "m",
        "effective_from": "2026-11-01T00:00:00Z",
        "rates_per_mtok": {"input_mtok": "2"},
    }
    path.write_text(json.dumps([price]))
    span = ["reprice", "--from", "2026-11-20", "--to", "2026-11-20", "--model", "m"]
    for words in (["prices", "import", str(path)], span, [*span, "--apply"]):
        assert cli.main([*words, *where]) == 0
    (stored,), (asked,) = _entries(small, "price"), _entries(small, "reprice")
    assert (stored.actor, stored.action, stored.details) == ("command line", "price.import", {"count": 1})
    assert (asked.actor, asked.action, asked.target) == ("command line", "reprice.ask", "m")


def test_a_change_of_settings_is_noted_once(small: Database) -> None:
    def begin(**settings: Any) -> bool:
        return small.transact(declared.note, Settings(secret_key="k" * 32, **settings), now_us=1)

    assert begin(redaction_deny=("Anna Schmidt",))
    assert not begin(redaction_deny=("Anna Schmidt",))
    assert begin(content="full", redaction="off", encrypt_content=True)
    assert begin(environment="staging")
    first, change, other = _entries(small, "settings")
    assert (first.action, first.details["content"]) == ("settings.first", "redacted")
    assert change.details["content"] == "redacted → full"
    assert change.details["encrypt_content"] == "False → True"
    assert change.details["redaction_deny"] == "1 → 0"
    assert other.target == "staging"
    assert "Anna" not in repr([first, change])
    assert "kkk" not in repr([first, change, other])
