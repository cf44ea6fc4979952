"""A report that one address refuses is sent again to that address only."""

import json
from datetime import UTC, datetime

import pytest

from turntrace import assembly
from turntrace.errors import TurntraceError
from turntrace.integrations import delivery
from turntrace.jobs.report import Report
from turntrace.keyring import KeyRing
from turntrace.settings import Settings
from turntrace.storage import switches
from turntrace.storage.database import Database

NOW = int(datetime(2026, 11, 25, 9, 30, tzinfo=UTC).timestamp()) * 1_000_000
GOOD, BAD = "https://good.example/hook?token=secret", "https://bad.example/hook"


def test_who_has_the_report_does_not_get_it_again_while_another_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    down = {BAD}
    now = [NOW]

    def post(address: str, report: Report) -> bool:
        sent.append(address)
        return address not in down

    monkeypatch.setattr(delivery, "_post", post)
    monkeypatch.setattr(assembly, "now_us", lambda: now[0])
    settings = Settings(report_every="day", report_to=f"{GOOD}, {BAD}")
    found = assembly.jobs(settings, KeyRing([b"k" * 32], is_explicit=True))
    job = next(job for job in found if job.name == "report")
    for _ in range(3):
        with pytest.raises(TurntraceError, match=r"^1 addresses"):
            job.run(database)
    assert (sent.count(GOOD), sent.count(BAD)) == (1, 3)
    with database.read() as connection:
        kept = switches.get(connection, "report_reached") or ""
    assert len(json.loads(kept)["reached"]) == 1
    assert "good.example" not in kept
    assert "secret" not in kept
    down.clear()
    assert job.run(database) == {"sent": 1}
    assert job.run(database) == {"sent": 0}
    assert (sent.count(GOOD), sent.count(BAD)) == (1, 4)
    now[0] += 86_400_000_000  # the next day has a report of its own
    assert job.run(database) == {"sent": 1}
    assert (sent.count(GOOD), sent.count(BAD)) == (2, 5)
