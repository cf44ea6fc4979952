import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.panel.conftest import MOUNT, add_people, context_of, mounted
from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import Visitor
from turntrace.keyring import KeyRing
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage import audit, keys, migrate, prices
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import find_traces, list_traces

PAGES = (
    "/",
    "/?range=30d&environment=default",
    "/traces",
    "/traces?status=error&range=24h",
    "/traces?live=1",
    "/traces?q=kettle&min_duration_ms=1&min_cost=0.0001&tag=team:support&score=thumbs",
    "/traces?from=2020-01-01T00:00&to=2020-01-02T00:00",
    "/sessions",
    "/sessions/conv-0001?user_id=user-1",
    "/sessions?user_id=user-1",
    "/users",
    "/users?q=user-1&range=7d",
    "/cost",
    "/cost?from=2020-01-01T00:00&to=2020-01-02T00:00",
    "/cost?range=24h",
    *(f"/cost?group_by={name}" for name in ("feature", "user", "session", "route", "release", "prompt", "environment")),
    "/system",
    "/admin/api-key/list",
    "/admin/account/list?search=admin",
    "/admin/price/list?sortBy=model&sort=asc",
    "/admin/api-key/create",
    "/admin/account/create",
    "/admin/price/create",
)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_answers_an_admin(admin: Visitor, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code == 200, answer.text[:400]
    assert "<h1>" in answer.text


def test_each_page_works_on_every_database(database: Database) -> None:
    add_people(database)
    now_us = time.time_ns() // 1000
    turns = scene(now_us, turns=40)
    store(database, turns, now_us)
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("admin")
        for path in (*PAGES, f"/traces/{turns[0].id}", f"/traces/{turns[0].trace_id}"):
            assert visitor.get(path).status_code in (200, 303), path
        assert visitor.post("/scores", target=turns[0].id, name="n", data_type="boolean", value="no").status_code == 303


def test_empty_pages_teach_how_to_fill_them(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    migrate.upgrade(database)
    add_people(database)
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("admin")
        for path, lesson in {
            "/": "TurntraceMiddleware",
            "/traces": "TurntraceMiddleware",
            "/sessions": "session_id=",
            "/users": "user_id=",
            "/cost": "usage=",
            "/admin/api-key/list": "No key yet",
            "/admin/price/list": "built-in table",
        }.items():
            answer = visitor.get(path)
            assert answer.status_code == 200, path
            assert lesson in answer.text, path
        assert visitor.get("/system").status_code == 200
    database.close()


def test_a_page_of_fifty_traces_is_under_100_kilobytes(admin: Visitor) -> None:
    answer = admin.get("/traces")
    assert answer.text.count('<tr class="turn">') == 50
    assert len(answer.content) < 100_000


def test_paging_shows_every_trace_once(admin: Visitor, filled: Database) -> None:
    with filled.read() as connection:
        wanted = {item.id for item in list_traces(connection, limit=1000).items}
    found: list[str] = []
    path = "/traces"
    while path:
        text = admin.get(path).text
        found += re.findall(r'class="turn-link" href="/llm-admin/traces/([0-9a-f]{32})"', text)
        older = re.search(r'rel="next" href="/llm-admin([^"]+)"', text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_filters_stand_in_the_address_as_removable_chips(admin: Visitor) -> None:
    text = admin.get("/traces?feature=support&status=error&range=24h").text
    assert 'href="/llm-admin/traces?feature=support&amp;range=24h" aria-label="Remove filter Status: error"' in text
    assert text.count('class="chip"') == 2


def test_a_filter_that_cannot_be_read_is_explained(admin: Visitor) -> None:
    for path in ("/traces?from=yesterday", "/traces?min_cost=much", "/traces?cursor=x"):
        answer = admin.get(path)
        assert answer.status_code == 400
        assert "This address cannot be read" in answer.text


def test_an_unknown_trace_or_session_is_a_friendly_404(admin: Visitor) -> None:
    for path in ("/traces/" + "0" * 32, "/traces/x", "/sessions/none", "/nothing"):
        answer = admin.get(path)
        assert answer.status_code == 404
        assert "Go to the traces" in answer.text


def test_a_trace_is_found_by_the_id_that_users_quote(admin: Visitor, filled: Database) -> None:
    with filled.read() as connection:
        turn = list_traces(connection, limit=1).items[0]
    answer = admin.get(f"/traces/{turn.trace_id}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{MOUNT}/traces/{turn.id}"


def test_the_trace_page_shows_the_failed_step_first_and_every_step_by_a_link(admin: Visitor, filled: Database) -> None:
    with filled.read() as connection:
        turns = [find_traces(connection, item.id)[0] for item in list_traces(connection, limit=10).items]
    turn = next(item for item in turns if item.status == "error")
    text = admin.get(f"/traces/{turn.id}").text
    assert "RateLimitError" in text
    assert text.count("data-row") == len(turn.observations) + 1
    for step in turn.observations:
        chosen = admin.get(f"/traces/{turn.id}?observation={step.span_id}").text
        assert f'observation={step.span_id}" data-row aria-current="true"' in chosen


def test_money_tokens_and_durations_read_well(admin: Visitor) -> None:
    text = admin.get("/traces").text
    assert "$0.000226" in text
    assert "1,280" in text


def test_a_score_is_stored_with_its_author_and_shown(admin: Visitor, filled: Database) -> None:
    with filled.read() as connection:
        turn = find_traces(connection, list_traces(connection, limit=1).items[0].id)[0]
    step = turn.observations[0]
    fields = {"name": "tone", "data_type": "categorical", "value": "kind", "comment": "well put"}
    answer = admin.post(
        "/scores", target=step.id, next=f"{MOUNT}/traces/{turn.id}?observation={step.span_id}", **fields
    )
    assert answer.headers["location"] == f"{MOUNT}/traces/{turn.id}?observation={step.span_id}"
    with filled.read() as connection:
        scores = find_traces(connection, turn.id)[0].scores
    stored = next(score for score in scores if score.name == "tone")
    assert (stored.value, stored.source, stored.author, stored.span_id) == ("kind", "human", "admin", step.span_id)
    assert "well put" in admin.client.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    ("kind", "value"), [("numeric", "x"), ("numeric", "nan"), ("boolean", "perhaps"), ("text", ""), ("rating", "1")]
)
def test_a_score_that_cannot_be_is_refused(admin: Visitor, filled: Database, kind: str, value: str) -> None:
    with filled.read() as connection:
        turn = list_traces(connection, limit=1).items[0]
    answer = admin.post("/scores", target=turn.id, name="n", data_type=kind, value=value)
    assert answer.status_code == 400


def test_comments_are_redacted_before_they_are_stored(filled: Database) -> None:

    context = replace(context_of(filled), redact_text=lambda text: text.replace("ann@example.org", "<EMAIL_1>"))
    with filled.read() as connection:
        turn = list_traces(connection, limit=1).items[0]
    with TestClient(mounted(context), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("annotator")
        visitor.post(
            "/scores", target=turn.id, name="who", data_type="text", value="ann@example.org", comment="ann@example.org"
        )
    with filled.read() as connection:
        stored = next(score for score in find_traces(connection, turn.id)[0].scores if score.name == "who")
    assert (stored.value, stored.comment) == ("<EMAIL_1>", "<EMAIL_1>")


def test_the_system_page_shows_the_balance_and_what_is_degraded(filled: Database) -> None:

    status = {
        "warnings": ["The spool is in memory."],
        "spool": {"path": "/spool", "bytes": 10_000_000, "max_bytes": 20_000_000},
        "worker": {"mode": "process", "is_alive": False, "heartbeat_at_us": 1},
        "last_error": {"type": "OperationalError", "at_us": 1, "where": "worker"},
    }
    loss = Loss(accepted=12_480, stored=12_000, sampled=400, dropped={"spool_full": 30}, in_spool=50)
    context = replace(context_of(filled), status=lambda: status, loss=lambda: loss)
    with TestClient(mounted(context), follow_redirects=False) as client:
        text = Visitor(client).log_in("viewer").get("/system").text
    for shown in (
        "12,480",
        "12,000",
        "the spool was full",
        "The spool is in memory.",
        "stopped",
        "OperationalError",
        "62 µs",
    ):
        assert shown in text, shown
    assert "balanced" in text


def test_unredacted_content_and_a_generated_key_are_warned_about(filled: Database) -> None:

    settings = Settings(content="full", redaction="off")
    context = replace(context_of(filled), settings=settings, keyring=KeyRing.from_settings(settings, None))
    with TestClient(mounted(context), follow_redirects=False) as client:
        text = Visitor(client).log_in("viewer").get("/system").text
    assert "stored unredacted" in text
    assert "No secret_key is set" in text


def test_a_theme_is_kept_in_a_cookie_of_the_panel(admin: Visitor) -> None:
    answer = admin.post("/theme", theme="dark", next=f"{MOUNT}/cost")
    assert answer.headers["location"] == f"{MOUNT}/cost"
    assert 'data-theme="dark"' in admin.get("/cost").text


# --- the entities of sqladmin ---------------------------------------------------------------------------------------


def test_an_api_key_is_shown_once_works_and_can_be_revoked(admin: Visitor, filled: Database) -> None:
    made = admin.post("/admin/api-key/create", name="front end", scopes="feedback")
    key = re.search(r"ttk_[0-9a-f]+_[0-9a-f]{64}", made.text)
    assert made.status_code == 200
    assert key is not None
    found = keys.KeyCheck(filled).find(key[0])
    assert found is not None
    assert found.scopes == ("feedback",)
    listed = admin.get("/admin/api-key/list").text
    assert "front end" in listed
    assert key[0] not in listed
    page = admin.get(f"/admin/api-key/details/{found.id}").text
    assert "Revoke this key" in page
    assert "secret" not in page.lower()
    assert admin.post("/admin/api-key/revoke", id=found.id).status_code == 303
    assert keys.KeyCheck(filled).find(key[0]) is None
    assert "revoked" in admin.get("/admin/api-key/list?done=revoked").text
    with filled.read() as connection:
        assert [entry.action for entry in audit.list_entries(connection, limit=2)] == ["key.revoke", "key.create"]
        assert audit.broken_at(connection) is None


def test_people_are_made_changed_and_closed(admin: Visitor, host: object) -> None:
    made = admin.post("/admin/account/create", name="ida", role="reader", password="a long password indeed")
    assert made.headers["location"] == f"{MOUNT}/admin/account/list?done=created"
    page = admin.get("/admin/account/list").text
    assert "ida" in page
    assert "argon2" not in page
    with TestClient(host, follow_redirects=False) as client:  # type: ignore[arg-type]
        ida = Visitor(client).log_in("ida", "a long password indeed")
        assert admin.post("/admin/account/role", name="ida", role="viewer").status_code == 303
        assert ida.get("/traces").status_code == 401
        admin.post("/admin/account/password", name="ida", password="another long password")
        ida.log_in("ida", "another long password")
        assert admin.post("/admin/account/disable", name="ida").status_code == 303
        assert ida.get("/traces").status_code == 401
    assert admin.post("/admin/account/disable", name="admin").status_code == 400
    assert admin.post("/admin/account/role", name="nobody", role="viewer").status_code == 404


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "", "role": "reader", "password": "a long password"}, "This field is required"),
        ({"name": "x", "role": "king", "password": "a long password"}, "Not a valid choice"),
        ({"name": "x", "role": "reader", "password": "short"}, "12"),
        ({"name": "admin", "role": "reader", "password": "a long password"}, "already"),
    ],
)
def test_an_account_that_cannot_be_is_refused_with_the_reason(
    admin: Visitor, fields: dict[str, str], problem: str
) -> None:
    answer = admin.post("/admin/account/create", **fields)
    assert answer.status_code == 400
    assert problem in answer.text


def test_a_price_of_the_operator_is_stored_and_removed(admin: Visitor, filled: Database) -> None:
    fields = {"provider": "local", "model": "llama-3", "effective_from": "2026-11-01", "input_mtok": "0.15"}
    assert admin.post("/admin/price/create", **fields).status_code == 303
    with filled.read() as connection:
        price = prices.list_prices(connection)[0]
    assert (price.provider, price.model, dict(price.rates_per_mtok)) == ("local", "llama-3", {"input_mtok": "0.15"})
    assert price.effective_from_us == 1_793_491_200_000_000
    assert "llama-3" in admin.get("/admin/price/list").text
    assert admin.get(f"/admin/price/details/{price.id}").status_code == 200
    assert admin.post("/admin/price/create", **{**fields, "input_mtok": "cheap"}).status_code == 400
    assert admin.post("/admin/price/remove", id=price.id).status_code == 303
    with filled.read() as connection:
        assert not prices.list_prices(connection)
