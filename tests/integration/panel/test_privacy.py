"""The page Privacy: a text tried out, windows of full capture, where data flows."""

import logging
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import add_people, context_of, mounted
from tests.integration.panel.visitor import Visitor
from turntrace.errors import EvaluationFailed, InvalidInput, SettingsError
from turntrace.integrations.judge_address import JudgeAddresses
from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.panel import PanelContext
from turntrace.pipeline.redact.trial import Trial, try_text
from turntrace.settings import Settings
from turntrace.storage import audit, migrate, windows
from turntrace.storage.database import Database

SECRET = "canary.anna@example.com"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("privacy") / "turntrace.db"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database)
    add_people(database)
    database.checkpoint()
    database.close()
    return path


@pytest.fixture(scope="module")
def analyzer() -> Iterator[PresidioAnalyzer]:
    made = build_analyzer(Settings(redaction_deny=("nightfall",)))
    assert made is not None
    yield made
    made.close()


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copy(template, tmp_path / "turntrace.db")
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    yield database
    database.close()


def _context(database: Database, analyzer: PresidioAnalyzer | None, **settings: object) -> PanelContext:
    made = context_of(database, **settings)

    def attempt(text: str, route: str) -> Trial:
        return try_text(made.settings, analyzer, text, key=secrets.token_bytes(32), route=route)

    return replace(made, try_text=attempt)


def _visitor(context: PanelContext, role: str = "operator") -> Visitor:
    return Visitor(TestClient(mounted(context), follow_redirects=False)).log_in(role)


def test_a_tried_text_shows_what_would_be_stored_and_why(
    database: Database, analyzer: PresidioAnalyzer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    context = _context(database, analyzer, redaction_rules=("/inside:input.note=keep",))
    operator = _visitor(context)
    text = f'{{"mail": "write to {SECRET}", "password": "kettle-42", "note": "call nightfall"}}'
    shown = operator.post("/privacy/try", text=text, route="/chat").text
    stored = shown.split("Would be stored")[1].split("</section>")[0]
    for word in ("email 1", "EmailRecognizer", "DenyList", "the name of its field", "1.00"):
        assert word in stored
    assert "kettle-42" not in stored
    assert stored.count(SECRET) == 1  # among the reasons, for the person who typed it
    kept = operator.post("/privacy/try", text='{"note": "call nightfall"}', route="/inside").text
    assert "Nothing personal was found" in kept
    assert "stored as it is" in operator.post("/privacy/try", text="<b>hello</b>").text
    assert "&lt;b&gt;hello" in operator.post("/privacy/try", text="<b>hello</b>").text
    database.checkpoint()
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file
    assert SECRET not in caplog.text
    with database.read() as c:
        entries = audit.list_entries(c, audit.Wanted(action="redaction.try"))
    assert len(entries) == 4
    assert SECRET not in repr(entries)


def test_what_cannot_be_analysed_is_said_to_be_withheld(database: Database) -> None:
    broken = build_analyzer(Settings(redaction="ner", ner_model="no_such_model_anywhere"))
    assert broken is not None
    try:
        shown = _visitor(_context(database, broken)).post("/privacy/try", text="hello you").text
    finally:
        broken.close()
    assert "[redaction failed: analyser unavailable]" in shown
    assert "withheld as a whole: analyser unavailable" in shown
    off = _visitor(_context(database, None, redaction="off")).post("/privacy/try", text="hello you").text
    assert "Redaction is off" in off
    nothing = _visitor(_context(database, None, content="metadata")).post("/privacy/try", text="hello you").text
    assert "content=metadata keeps no texts" in nothing


def test_windows_of_full_capture_are_opened_audited_and_closed(database: Database, analyzer: PresidioAnalyzer) -> None:
    operator = _visitor(_context(database, analyzer))
    form = {"kind": "user", "value": "user-42", "minutes": "15", "reason": "ticket 4711"}
    for wrong in ({"kind": "tenant"}, {"value": ""}, {"minutes": "0"}, {"minutes": "9999"}, {"reason": ""},
                  {"mode": "full"}, {"minutes": "x"}):  # fmt: skip
        assert operator.post("/privacy/windows", **{**form, **wrong}).status_code == 400
    assert operator.post("/privacy/windows", **form).status_code == 303
    assert operator.post("/privacy/windows", **{**form, "kind": "route", "value": "/chat*"}).status_code == 303
    page = operator.get("/privacy").text
    assert "/chat*" in page
    assert "user-42" not in page.split('id="capture"')[1].split("<form")[0]
    with database.read() as c:
        opened = windows.list_windows(c, now_us=0)
        entries = audit.list_entries(c, audit.Wanted(action="capture"))
    assert [entry.action for entry in entries] == ["capture.open", "capture.open"]
    assert entries[-1].details == {"kind": "user", "minutes": 15, "mode": "redacted", "reason": "ticket 4711"}
    assert "user-42" not in repr(entries) + repr(opened)
    assert operator.post("/privacy/windows/close", id=opened[0].id).status_code == 303
    assert operator.post("/privacy/windows/close", id=opened[0].id).status_code == 404
    with database.read() as c:
        assert len(windows.list_windows(c, now_us=0)) == 1
        assert windows.list_windows(c, now_us=opened[0].until_us + 60_000_000) == ()
    reader = _visitor(_context(database, analyzer), "annotator")
    for path in ("/privacy",):
        assert reader.get(path).status_code == 403
    for path in ("/privacy/try", "/privacy/windows", "/privacy/windows/close"):
        assert reader.post(path, **form).status_code == 403


def test_the_page_tells_where_data_flows(database: Database) -> None:
    destinations = '[{"name": "lake", "url": "http://otel.example:4318/v1/traces", "content": true}]'
    context = _context(database, None, export_to=destinations, judge_allowed_hosts=("10.1.0.0/16",))
    page = _visitor(context).get("/privacy").text
    for word in ("otel.example:4318", "not encrypted on the way", "10.1.0.0/16", "turntrace.db", "may leave the house"):
        assert word in page


def test_the_page_tells_where_content_of_an_environment_lies(database: Database) -> None:
    urls = "eu=postgresql://ann:sesame@texts.example:5433/x,staging=sqlite:///texts.db"
    page = _visitor(_context(database, None, content_urls=urls)).get("/privacy").text
    for word in ("Content of eu, texts.example", "texts of turns of eu instead", "Content of staging, a file"):
        assert word in page
    assert "sesame" not in page


def test_the_page_names_where_reports_go_but_no_secrets(database: Database) -> None:
    to = "https://hooks.example/T0/sesame,http://other.example/sesame,mailto://ann:sesame@mail.example"
    context = _context(database, None, report_every="week", report_to=to, outgoing_hosts=("hooks.example",))
    page = _visitor(context).get("/privacy").text
    for word in (
        "Report, every week: Webhook, hooks.example",
        "Webhook, other.example",
        "never sent",
        "mailto, by apprise",
    ):
        assert word in page
    assert "sesame" not in page
    assert "Report, every" not in _visitor(_context(database, None, report_to=to)).get("/privacy").text


def test_no_host_is_called_that_is_not_allowed() -> None:
    lake = '[{"name": "lake", "url": "https://otel.example:4318/v1/traces"}]'
    assert Settings(export_to=lake, outgoing_hosts=("otel.example",)).destinations()
    with pytest.raises(SettingsError, match="outgoing_hosts"):
        Settings(export_to=lake, outgoing_hosts=("*.models.example",)).destinations()
    settings = Settings(outgoing_hosts=("*.models.example",), judge_allowed_hosts=("127.0.0.0/8",))
    assert settings.may_call("EU.models.example")
    addresses = JudgeAddresses(settings.judge_allowed_hosts, settings.may_call)
    with pytest.raises(InvalidInput, match="outgoing_hosts"):
        addresses.check("http://127.0.0.1:8080/v1")
    with pytest.raises(EvaluationFailed, match="address_not_allowed"):
        addresses.address("http://127.0.0.1:8080/v1")


def test_where_content_is_encrypted_the_search_says_that_it_finds_no_texts(database: Database) -> None:
    sealed = _visitor(_context(database, None, encrypt_content=True), "reader")
    assert "texts are encrypted" in sealed.get("/traces").text
    assert "texts cannot be searched" in sealed.get("/system").text
    clear = _visitor(_context(database, None), "reader")
    assert "Search words" in clear.get("/traces").text
    assert "not encrypted by Turntrace" in clear.get("/system").text
