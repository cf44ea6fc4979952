import html
import re
import sqlite3
import time
from contextlib import closing
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import httpx
import pytest
from anyio import to_thread
from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from tests.integration.panel.conftest import MOUNT, context_of, mounted
from tests.integration.panel.visitor import PASSWORD, Visitor
from turntrace.panel.gate import session as sessions
from turntrace.panel.gate.headers import SECURITY_HEADERS
from turntrace.storage import migrate, people, tables
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import find_traces, list_traces

GETS = (
    "/",
    "/traces",
    "/traces.csv",
    "/traces.jsonl",
    "/traces/{turn}",
    "/traces/{turn}?observation=turn",
    "/sessions",
    "/sessions/conv-0001?user_id=user-1",
    "/users",
    "/cost",
    "/system",
    "/admin",
    "/admin/",
    "/admin/api-key/list",
    "/admin/account/list",
    "/admin/price/list",
    "/admin/account/create",
    "/admin/api-key/details/x",
    "/admin/statics/js/main.js",
    "/admin/login",
    "/api/v1/traces",
    "/nothing-here",
    "/../system",
    "/static/../system",
    "/static/x/../../context.py",
    "/static/x/%2e%2e/%2e%2e/context.py",
)
POSTS = (
    "/scores",
    "/theme",
    "/logout",
    "/admin/api-key/create",
    "/admin/api-key/revoke",
    "/admin/account/create",
    "/admin/account/disable",
    "/admin/account/role",
    "/admin/account/password",
    "/admin/price/create",
    "/admin/price/remove",
)
TEXTS = ("descale", "vinegar", "Returns are accepted", "Exactly what was needed", "Rate limit reached", "Be brief")
# What no stranger may learn: texts, ids, names.
CONTENT = (*TEXTS, "conv-0", "user-1", "gpt-4o", "onboarding")


@pytest.fixture(scope="module")
def turn(filled: Database) -> str:
    """The id of a turn that has everything."""
    with filled.read() as connection:
        return list_traces(connection, limit=10).items[0].id


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
@pytest.mark.parametrize("path", GETS)
def test_no_route_shows_anything_to_strangers(stranger: TestClient, turn: str, path: str, accept: str) -> None:
    answer = stranger.get(MOUNT + path.replace("{turn}", turn), headers={"accept": accept})
    assert answer.status_code in (303, 307, 401, 403, 404), answer.status_code
    if answer.status_code == 303:
        assert answer.headers["location"].startswith(f"{MOUNT}/login")
    for text in CONTENT:
        assert text not in answer.text


@pytest.mark.parametrize("path", POSTS)
def test_no_form_is_taken_from_strangers(stranger: TestClient, path: str) -> None:
    assert stranger.post(MOUNT + path, data={"csrf_token": "x"}).status_code in (401, 403, 404)


@pytest.mark.parametrize("token", ["", "0" * 64, None])
@pytest.mark.parametrize("path", POSTS)
def test_every_form_needs_the_token_of_its_session(admin: Visitor, path: str, token: str | None) -> None:
    data = {} if token is None else {"csrf_token": token}
    assert admin.client.post(MOUNT + path, data=data).status_code == 403


@pytest.mark.parametrize("path", POSTS)
def test_the_token_of_another_session_is_refused(host: Starlette, admin: Visitor, path: str) -> None:
    with TestClient(host, follow_redirects=False) as client:
        other = Visitor(client).log_in("reader")
        assert other.token != admin.token
        assert admin.post(path, token=other.token).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}]
)
@pytest.mark.parametrize("path", [*POSTS, "/login"])
def test_forms_of_other_sites_are_refused_even_with_the_token(
    admin: Visitor, path: str, headers: dict[str, str]
) -> None:
    data = {"csrf_token": admin.token, "username": "admin", "password": PASSWORD}
    assert admin.client.post(MOUNT + path, data=data, headers=headers).status_code == 403


@pytest.mark.parametrize("path", POSTS)
def test_nothing_changes_by_get(admin: Visitor, path: str) -> None:
    answer = admin.get(path, params={"csrf_token": admin.token, "id": "x", "name": "reader", "role": "admin"})
    assert answer.status_code in (404, 405) or path.endswith("/create")
    assert admin.get("/system").status_code == 200  # still logged in


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(admin: Visitor, method: str) -> None:
    assert admin.client.request(method, f"{MOUNT}/admin/price/delete?pks=1").status_code == 405


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nothing", "/traces?from=nonsense", "/static/x/panel.css", "/static/x/no"]
)
def test_each_answer_carries_the_security_headers(admin: Visitor, stranger: TestClient, path: str) -> None:
    for client in (admin.client, stranger):
        headers = client.get(MOUNT + path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value
        assert "unsafe" not in headers["content-security-policy"]
        if not path.startswith("/static"):
            assert headers["cache-control"] == "no-store"


def test_refused_forms_carry_the_security_headers(admin: Visitor) -> None:
    assert admin.post("/scores", token="x").headers["content-security-policy"]


def test_the_cookie_is_for_the_panel_alone(stranger: TestClient) -> None:
    answer = stranger.post(f"{MOUNT}/login", data={"username": "admin", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].split(",")[0]
    assert cookie.startswith("turntrace_panel=")
    for part in ("HttpOnly", "Path=/llm-admin", "SameSite=strict"):
        assert part in cookie


def test_over_https_the_cookie_is_secure(host: Starlette) -> None:
    with TestClient(host, base_url="https://testserver", follow_redirects=False) as client:
        answer = client.post(f"{MOUNT}/login", data={"username": "admin", "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Secure-turntrace_panel=")
    assert "Secure" in answer.headers["set-cookie"].split(",")[0].partition(";")[2]


def test_a_login_makes_a_new_session_and_logout_ends_it_on_the_server(stranger: TestClient) -> None:
    stranger.cookies.set("turntrace_panel", "chosen-by-somebody-else", path=MOUNT)
    visitor = Visitor(stranger).log_in("reader")
    tokens = [cookie.value for cookie in stranger.cookies.jar if cookie.name == "turntrace_panel"]
    assert tokens[-1] != "chosen-by-somebody-else"
    assert visitor.post("/logout").status_code == 303
    answer = stranger.get(f"{MOUNT}/traces", headers={"cookie": f"turntrace_panel={tokens[-1]}"})
    assert answer.status_code == 401


def test_a_session_ends_when_it_is_idle(stranger: TestClient, filled: Database) -> None:
    visitor = Visitor(stranger).log_in("reader")
    session = tables.panel_session
    long_ago = time.time_ns() // 1000 - people.IDLE_US - 1
    with filled.write() as connection:
        connection.execute(update(session).where(session.c.name == "reader").values(seen_at_us=long_ago))
    assert visitor.get("/system").status_code == 401


def test_the_database_holds_no_usable_session(stranger: TestClient, filled: Database) -> None:
    Visitor(stranger).log_in("reader")
    with filled.read() as connection:
        stored = [str(row) for row in connection.execute(select(tables.panel_session))]
    tokens = [cookie.value or "" for cookie in stranger.cookies.jar]
    assert tokens
    assert not any(token in row for token in tokens for row in stored)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/llm-admin/../x",
        "/elsewhere",
        "/llm-admin//e.x",
        "javascript:x",
    ],
)
def test_login_leads_to_our_own_pages_only(stranger: TestClient, target: str) -> None:
    data = {"username": "admin", "password": PASSWORD, "next": target}
    assert stranger.post(f"{MOUNT}/login", data=data).headers["location"] == f"{MOUNT}/"


def test_login_leads_back_to_where_somebody_wanted_to_go(stranger: TestClient) -> None:
    asked = stranger.get(f"{MOUNT}/traces?status=error", headers={"accept": "text/html"})
    page = stranger.get(asked.headers["location"])
    assert 'value="/llm-admin/traces?status=error"' in page.text
    data = {"username": "admin", "password": PASSWORD, "next": "/llm-admin/traces?status=error"}
    assert stranger.post(f"{MOUNT}/login", data=data).headers["location"] == "/llm-admin/traces?status=error"


def test_a_hidden_origin_needs_the_token_of_the_login_form(stranger: TestClient) -> None:
    data = {"username": "admin", "password": PASSWORD}
    assert stranger.post(f"{MOUNT}/login", data=data, headers={"origin": "null"}).status_code == 403
    token = Visitor(stranger).token_on("/login")
    answer = stranger.post(f"{MOUNT}/login", data={**data, "csrf_token": token}, headers={"origin": "null"})
    assert answer.status_code == 303


def test_the_host_header_is_never_reflected(admin: Visitor) -> None:
    for path in ("/", "/traces", "/admin/price/list", "/admin/price", "/login", "/nothing"):
        answer = admin.get(path, headers={"host": "evil.example"})
        assert "evil.example" not in answer.text
        assert "evil.example" not in answer.headers.get("location", "")
    answer = admin.client.get(MOUNT + "/admin/price/list?page=99", headers={"host": "evil.example"})
    assert "evil.example" not in answer.headers.get("location", "")


def test_guessing_is_slowed_down_alike_for_known_and_unknown_names(host: Starlette, filled: Database) -> None:
    for name in ("operator", "nobody-of-this-name"):
        with TestClient(host, follow_redirects=False, client=(f"10.0.0.{len(name)}", 1)) as client:
            answers = [
                client.post(f"{MOUNT}/login", data={"username": name, "password": "wrong password!"}).status_code
                for _ in range(people.PER_ACCOUNT + 2)
            ]
        assert answers == [401] * people.PER_ACCOUNT + [429] * 2
    with filled.write() as connection:
        connection.execute(tables.login_attempt.delete())


def test_a_body_past_a_megabyte_is_refused(admin: Visitor) -> None:
    assert admin.post("/scores", comment="x" * (1 << 20)).status_code == 413


# --- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in GETS[:11] if not path.startswith("/traces.")])
def test_a_viewer_sees_numbers_and_no_texts(viewer: Visitor, turn: str, path: str) -> None:
    answer = viewer.get(path.replace("{turn}", turn))
    assert answer.status_code == 200
    for text in TEXTS:
        assert text not in answer.text


def test_every_observation_hides_its_texts_from_viewers(viewer: Visitor, filled: Database) -> None:
    with filled.read() as connection:
        ids = [item.id for item in list_traces(connection, limit=20).items]
        turns = [find_traces(connection, turn_id)[0] for turn_id in ids]
    for item in turns[:7]:
        for step in item.observations:
            page = viewer.get(f"/traces/{item.id}?observation={step.span_id}").text
            assert not [text for text in TEXTS if text in page]


def test_what_each_role_may_do(anyone: Visitor, turn: str) -> None:
    role = people.ROLES.index(anyone.get("/system").text.split("<small>")[1].split("<")[0])
    assert ("descale" in anyone.get("/traces").text) == (role >= people.ROLES.index("reader"))
    assert (anyone.get("/traces.csv").status_code == 200) == (role >= people.ROLES.index("reader"))
    scored = anyone.post("/scores", target=turn, name="helpful", data_type="numeric", value="1")
    assert (scored.status_code == 303) == (role >= people.ROLES.index("annotator"))
    assert scored.status_code in (303, 403)
    is_admin = role == people.ROLES.index("admin")
    assert (anyone.get("/admin/account/list").status_code == 200) == is_admin
    assert ("API keys" in anyone.get("/system").text) == is_admin
    changed = anyone.post("/admin/price/remove", id="x")
    assert changed.status_code == (303 if is_admin else 403)


def test_a_change_of_role_ends_the_sessions_of_the_person(stranger: TestClient, filled: Database) -> None:
    visitor = Visitor(stranger).log_in("operator")
    filled.transact(people.change_role, "operator", "operator", now_us=time.time_ns() // 1000)
    assert visitor.get("/system").status_code == 401


def test_a_password_that_changes_while_it_is_checked_lets_nobody_in(
    stranger: TestClient, filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = time.time_ns() // 1000
    filled.transact(people.create, "late", role="reader", password=PASSWORD, now_us=now_us)
    check = people.is_password

    def changed_meanwhile(stored: str | None, password: str) -> bool:
        is_right = check(stored, password)
        filled.transact(people.change_password, "late", "another long password", now_us=now_us)
        return is_right

    monkeypatch.setattr(people, "is_password", changed_meanwhile)
    answer = stranger.post(f"{MOUNT}/login", data={"username": "late", "password": PASSWORD})
    assert answer.status_code == 401


def test_the_list_of_people_says_when_they_logged_in(host: Starlette, admin: Visitor, filled: Database) -> None:
    filled.transact(people.create, "once", role="reader", password=PASSWORD, now_us=1_000_000)
    row = re.compile(r"<tr>(?:(?!</tr>).)*>once<.*?</tr>", re.DOTALL)

    def times() -> int:
        found = row.search(admin.get("/admin/account/list?search=once").text)
        assert found is not None
        return found[0].count("<time ")

    assert times() == 1  # when the account was made
    with TestClient(host, follow_redirects=False) as client:
        Visitor(client).log_in("once")
    assert times() == 2


def test_logins_that_wait_take_no_thread_of_the_host(host: Starlette) -> None:
    """Strangers may send as many as they like; the host answers its plain functions by the same pool of threads."""
    transport = httpx.ASGITransport(host, client=("192.0.2.7", 1))

    async def log_in(client: httpx.AsyncClient, number: int) -> None:
        await client.post(f"{MOUNT}/login", data={"username": f"nobody {number}", "password": "x"})

    async def flood() -> None:
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://host.test") as client,
            anyio.create_task_group() as group,
        ):
            with sessions._HASHING, sessions._HASHING:  # argon2 is busy with others
                for number in range(60):
                    group.start_soon(log_in, client, number)
                await anyio.wait_all_tasks_blocked()
                with anyio.move_on_after(5) as waiting:
                    await to_thread.run_sync(int)
        assert not waiting.cancelled_caught

    anyio.run(flood)


def test_a_host_may_write_while_a_password_is_hashed(
    filled: Database, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """argon2 takes longer than the write lock of a host's file may be held."""
    tried = []
    make = people.hash_password

    def hashed(password: str) -> str:
        with closing(sqlite3.connect(filled.url.database or "", timeout=0, isolation_level=None)) as host_of_the_file:
            host_of_the_file.execute("BEGIN IMMEDIATE")
            host_of_the_file.execute("ROLLBACK")
        tried.append(password)
        return make(password)

    monkeypatch.setattr(people, "hash_password", hashed)
    fields = {"name": "slow", "role": "reader", "password": "a long password indeed"}
    assert admin.post("/admin/account/create", **fields).status_code == 303
    changed = admin.post("/admin/account/password", name="slow", password="another long password")
    assert changed.status_code == 303
    assert tried == ["a long password indeed", "another long password"]


@pytest.mark.parametrize("path", ["/users/a%3Fb%26c", "/users/100%25", "/users/%E2%98%83%20x", "/sessions/a%2Fb"])
def test_one_comes_back_to_the_page_one_was_on(stranger: TestClient, admin: Visitor, path: str) -> None:
    away = stranger.get(f"{MOUNT}{path}?user_id=a%26b", headers={"accept": "text/html"})
    (target,) = parse_qs(urlsplit(away.headers["location"]).query)["next"]
    found = re.search(r'name="next" value="([^"]*)"', admin.get(f"{path}?user_id=a%26b").text)
    assert found is not None
    shown = admin.post("/theme", theme="dark", next=html.unescape(found[1])).headers["location"]
    for address in (target, shown):
        assert unquote(urlsplit(address).path) == unquote(f"{MOUNT}{path}")
        assert urlsplit(address).query == "user_id=a%26b"


def test_forms_that_cannot_be_read_are_refused(stranger: TestClient) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = stranger.post(f"{MOUNT}/login", content=b"&".join([b"a=1"] * 1001), headers=kind)
    assert answer.status_code == 413
    answer = stranger.post(f"{MOUNT}/login", data={"username": "a"}, headers={"origin": "http://["})
    assert answer.status_code == 403


# --- other ways in --------------------------------------------------------------------------------------------------


def test_without_accounts_the_panel_is_closed_and_says_how_to_open_it(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/blank.db")
    migrate.upgrade(database)
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        answer = client.get(f"{MOUNT}/login")
        assert answer.status_code == 404
        assert "turntrace users create" in answer.text
        assert client.post(f"{MOUNT}/login", data={"username": "admin", "password": ""}).status_code == 401
        assert client.get(f"{MOUNT}/traces").status_code == 401
    database.close()


def test_without_tables_the_panel_says_which_command_makes_them(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/none.db")
    with TestClient(mounted(context_of(database)), follow_redirects=False) as client:
        answer = client.get(f"{MOUNT}/login")
        assert answer.status_code == 503
        assert "turntrace db upgrade" in answer.text
        assert client.get(f"{MOUNT}/traces").status_code == 401
    database.close()


def test_the_account_of_the_settings_is_an_admin(filled: Database) -> None:
    context = context_of(filled, panel_user="root", panel_password="a long password indeed")
    with TestClient(mounted(context), follow_redirects=False) as client:
        visitor = Visitor(client).log_in("root", "a long password indeed")
        assert visitor.get("/admin/account/list").status_code == 200
        cookies = dict(client.cookies)
    with TestClient(mounted(context_of(filled)), follow_redirects=False, cookies=cookies) as client:
        assert client.get(f"{MOUNT}/traces").status_code == 401  # no longer in the settings
    for password, status in (("a long password indeed", 200), ("another one since then", 401)):
        context = context_of(filled, panel_user="root", panel_password=password)
        with TestClient(mounted(context), follow_redirects=False, cookies=cookies) as client:
            assert client.get(f"{MOUNT}/traces").status_code == status


async def _asked(request: Request) -> dict[str, str] | None:
    return {"name": "eva", "role": "reader"} if request.headers.get("x-user") == "eva" else None


def _asked_plainly(request: Request) -> str | None:
    return {"eva": "reader", "bad": "no such role"}.get(request.headers.get("x-user", ""))


@pytest.mark.parametrize("callback", [_asked, _asked_plainly])
def test_the_host_can_vouch_for_people(filled: Database, callback: object) -> None:
    with TestClient(mounted(context_of(filled, panel_auth=callback)), follow_redirects=False) as client:
        assert client.get(f"{MOUNT}/traces", headers={"x-user": "bad"}).status_code == 401
        client.headers["x-user"] = "eva"
        visitor = Visitor(client)
        assert "descale" in visitor.get("/traces").text
        assert visitor.get("/admin/account/list").status_code == 403
        assert visitor.post("/theme", token=visitor.token_on("/system"), theme="dark").status_code == 303
        assert visitor.post("/theme", token="0" * 64).status_code == 403


def test_a_callback_that_fails_lets_nobody_in(filled: Database) -> None:
    def fails(_request: Request) -> str:
        raise RuntimeError("database of the host is away")

    with TestClient(mounted(context_of(filled, panel_auth=fails)), follow_redirects=False) as client:
        assert client.get(f"{MOUNT}/traces").status_code == 401


def test_an_error_of_the_panel_leaves_no_text_in_the_log(
    filled: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of databases quote the row they are about."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failing row contains (anna@example.com)")

    monkeypatch.setattr("turntrace.panel.pages.overview.narrowing", fail)
    client = TestClient(mounted(context_of(filled)), follow_redirects=False, raise_server_exceptions=False)
    answer = Visitor(client).log_in("admin").get("/")
    assert answer.status_code == 500
    assert "anna@" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text
