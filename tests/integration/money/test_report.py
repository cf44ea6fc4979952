"""The scheduled report: what it says, that it is sent once, and what happens where nobody answers."""

import http.server
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.integration.turns import failed, store, turn
from turntrace import assembly, cli
from turntrace.errors import IntegrationMissing, TurntraceError
from turntrace.integrations.delivery import Delivery, called_hosts
from turntrace.jobs import report
from turntrace.jobs.report import Report
from turntrace.keyring import KeyRing
from turntrace.pipeline.price import Pricer
from turntrace.settings import Settings
from turntrace.storage.database import Database


def _us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


NOW = _us("2026-11-25T09:30:00")  # a Wednesday


@pytest.mark.parametrize(
    ("every", "start", "end"),
    [
        ("day", "2026-11-24", "2026-11-25"),
        ("week", "2026-11-16", "2026-11-23"),
        ("month", "2026-10-01", "2026-11-01"),
    ],
)
def test_the_period_is_the_last_whole_one(every: str, start: str, end: str) -> None:
    assert report.period(every, NOW) == (_us(start), _us(end))


def _fill(database: Database) -> None:
    at = _us("2026-11-18T10:00:00")
    store(database, turn(started_at_us=at, cost_nano=2_500_000_000, feature="<b>search</b>", user_id="anna"))
    store(database, turn(started_at_us=at + 86_400_000_000, cost_nano=1_000_000_000, user_id="ben"))
    store(database, failed(started_at_us=at, cost_nano=None, model="ours"))
    store(database, turn(started_at_us=_us("2026-11-12T10:00:00"), cost_nano=500_000_000))
    store(database, turn(started_at_us=at, cost_nano=30_000_000, environment="turntrace-evaluation"))


def _made(database: Database, **options: Any) -> Report:
    with database.read() as connection:
        return report.make(connection, Pricer(), every="week", now_us=NOW, **options)


def test_the_report_says_what_was_spent_on_what_and_what_changed(database: Database) -> None:
    _fill(database)
    made = _made(database, panel_url="https://shop.example/llm-admin/")
    assert made.title == "Spending 2026-11-16 to 2026-11-22: $3.50"
    text = re.sub(r"\s+", " ", made.html)
    for said in (
        "$3.50",
        "$0.50 in the period before",
        "3 requests, 1 failed",
        "Evaluators spent $0.03 besides. The cache saved",
        "1 model call has no price and is not in these sums: ours.",
        "+$2.50",
        "2026-11-18",
        "&lt;b&gt;search&lt;/b&gt;",
    ):
        assert said in text, said
    assert "<b>search" not in text
    assert "/llm-admin/traces?user_id=anna&amp;from=2026-11-16T00%3A00&amp;to=2026-11-23T00%3A00" in text
    assert "<script" not in text
    assert made.csv.splitlines()[1].startswith("<b>search</b>,1,0,0,100,20,50,2.500000000")
    assert "href" not in _made(database).html


def test_an_empty_period_has_a_report_too(database: Database) -> None:
    assert _made(database).title == "Spending 2026-11-16 to 2026-11-22: –"


class _Inbox(http.server.BaseHTTPRequestHandler):
    received: list[bytes]
    status = 200
    location = ""

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.status:
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            return
        self.send_response(self.status)
        self.send_header("Location", self.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[tuple[str, type[_Inbox]]]:
    handler = type("Inbox", (_Inbox,), {"received": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_report_is_sent_once_and_again_where_it_did_not_arrive(
    database: Database, inbox: tuple[str, type[_Inbox]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(database)
    address, handler = inbox
    monkeypatch.setattr(assembly, "now_us", lambda: NOW)
    settings = Settings(report_every="week", report_to=f"http://{address}/hook", panel_url="https://x/llm-admin")
    assert address not in repr(settings)
    job = next(job for job in assembly.jobs(settings, KeyRing([b"k" * 32], is_explicit=True)) if job.name == "report")
    assert job.is_due is not None
    assert job.is_due(database)
    handler.status = 503
    with pytest.raises(TurntraceError, match=r"^1 addresses") as refused:
        job.run(database)
    assert address not in str(refused.value)
    assert job.is_due(database)
    handler.status = 204
    assert job.run(database) == {"sent": 1}
    assert job.run(database) == {"sent": 0}
    assert not job.is_due(database)
    sent = json.loads(handler.received[-1])
    assert sorted(sent) == ["csv", "html", "title"]
    assert sent["title"].endswith("$3.50")
    assert "report" not in {job.name for job in assembly.jobs(Settings(), KeyRing([b"k" * 32], is_explicit=True))}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("allowed", [(), ("127.0.0.1",), ("reports.example",)])
def test_outgoing_hosts_alone_decide_on_the_addresses_of_the_operators_settings(
    database: Database, inbox: tuple[str, type[_Inbox]], allowed: tuple[str, ...]
) -> None:
    address, handler = inbox
    settings = Settings(report_every="day", report_to=f"http://{address}/hook", outgoing_hosts=allowed)
    job = next(job for job in assembly.jobs(settings, KeyRing([b"k" * 32], is_explicit=True)) if job.name == "report")
    is_refused = allowed == ("reports.example",)
    with pytest.raises(TurntraceError, match=r"^1 addresses") if is_refused else nullcontext():
        job.run(database)
    assert len(handler.received) == (0 if is_refused else 1)


MADE = Report(title="Spending", html="<p>$1</p>", csv="feature,cost_usd\n")


def test_only_hosts_that_may_be_called_get_reports(inbox: tuple[str, type[_Inbox]]) -> None:
    address, handler = inbox
    elsewhere = f"http://localhost:{address.partition(':')[2]}/"
    may_call = Settings(outgoing_hosts=("127.0.0.1",)).may_call
    with pytest.raises(TurntraceError, match=r"^1 addresses"):
        Delivery([elsewhere, f"http://{address}/"], may_call)(MADE)
    assert len(handler.received) == 1


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # what apprise imports
def test_only_hosts_that_may_be_called_get_reports_by_apprise(inbox: tuple[str, type[_Inbox]]) -> None:
    address, handler = inbox
    elsewhere = f"json://localhost:{address.partition(':')[2]}/"
    may_call = Settings(outgoing_hosts=("127.0.0.1",)).may_call
    with pytest.raises(TurntraceError, match=r"^1 addresses"):
        Delivery([elsewhere], may_call)(MADE)
    assert handler.received == []
    Delivery([f"json://{address}/"], may_call)(MADE)
    assert len(handler.received) == 1
    with pytest.raises(TurntraceError, match=r"^1 addresses"):
        Delivery([f"json://{address}/?redirect=yes"], may_call)(MADE)
    assert len(handler.received) == 1, "where it leads to is nobody's to check"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("mailto://ann:pw@example.com?smtp=mail.internal", {"mail.internal"}),
        ("mailto://ann:pw@gmail.com", {"smtp.gmail.com"}),
        ("json://10.0.0.8:9000/x", {"10.0.0.8"}),
        ("gotify://push.example/token", {"push.example"}),
        ("discord://1234567890/abcdefghij1234567890", {"discord.com"}),  # what stands for a host is a token
        ("tgram://123456789:abcdefg_hijklmnop/12315544", {"api.telegram.org"}),
        ("syslog://", set()),
    ],
)
def test_the_hosts_of_a_service_are_those_it_calls(url: str, hosts: set[str]) -> None:
    import apprise

    assert called_hosts(apprise.Apprise.instantiate(url)) == hosts


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_reports_follow_no_redirects(inbox: tuple[str, type[_Inbox]], status: int) -> None:
    class Other(_Inbox):
        received: ClassVar[list[bytes]] = []

        def do_GET(self) -> None:
            self.received.append(b"asked")
            self.do_POST()

    address, handler = inbox
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        handler.status, handler.location = status, f"http://127.0.0.1:{server.server_port}/"
        try:
            with pytest.raises(TurntraceError, match=r"^1 addresses"):
                Delivery([f"http://{address}/"])(MADE)
        finally:
            server.shutdown()
            thread.join()
    assert (len(handler.received), Other.received) == (1, [])


def test_reports_take_no_proxy_of_the_environment(
    inbox: tuple[str, type[_Inbox]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, handler = inbox
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setattr(urllib.request, "_opener", None)  # urllib looks at the environment once
    Delivery([f"http://{address}/"])(MADE)
    assert len(handler.received) == 1


def test_one_that_speaks_no_http_keeps_the_report_from_nobody(inbox: tuple[str, type[_Inbox]]) -> None:
    address, handler = inbox
    odd = type("Odd", (_Inbox,), {"received": [], "status": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), odd) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            with pytest.raises(TurntraceError, match=r"^1 addresses"):
                Delivery([f"http://127.0.0.1:{server.server_port}/", f"http://{address}/"])(MADE)
        finally:
            server.shutdown()
            thread.join()
    assert (len(odd.received), len(handler.received)) == (1, 1)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # what apprise imports
def test_other_addresses_go_through_apprise(inbox: tuple[str, type[_Inbox]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, handler = inbox
    made = MADE
    Delivery([f"json://{address}/"])(made)
    sent = json.loads(handler.received[-1])
    assert (sent["title"], sent["attachments"][0]["filename"]) == ("Spending", "spending.csv")
    with pytest.raises(TurntraceError):
        Delivery(["nothing://x"])(made)
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(IntegrationMissing, match="notify"):
        Delivery(["mailto://a:b@example.com"])(made)


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_command_writes_it(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = database.url.render_as_string(hide_password=False)
    page, table = tmp_path / "report.html", tmp_path / "report.csv"
    words = ["report", "--every", "month", "--html", str(page), "--csv", str(table), "--database-url", url]
    assert cli.main(words) == 0
    assert "Spending" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert table.read_text().startswith("feature,requests")
