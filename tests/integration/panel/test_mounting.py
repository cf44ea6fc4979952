import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from a2wsgi import ASGIMiddleware
from fastapi import FastAPI
from flask import Flask
from sqladmin import Admin, ModelView
from sqlalchemy import Integer, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.integration.panel.conftest import context_of, mounted
from tests.integration.panel.visitor import PASSWORD, Visitor
from turntrace import Turntrace
from turntrace.panel import build
from turntrace.storage.database import Database

_LINKS = re.compile(r'(?:href|src|action|hx-get)="([^"#]+)"')
PAGES = ("/", "/traces", "/sessions", "/users", "/cost", "/system", "/admin/price/list", "/admin/account/create")


def _links(text: str) -> list[str]:
    return [link for link in _LINKS.findall(text) if link != "/"]


@pytest.mark.parametrize("path", ["/llm-admin", "/deep/er/panel", "/x"])
def test_the_panel_works_at_any_path(filled: Database, path: str) -> None:
    with TestClient(mounted(context_of(filled), path), follow_redirects=False) as client:
        visitor = Visitor(client, path).log_in("admin")
        for page in PAGES:
            answer = visitor.get(page)
            assert answer.status_code == 200
            assert all(link.startswith(f"{path}/") for link in _links(answer.text))


def test_the_panel_works_as_the_whole_application(filled: Database) -> None:
    with TestClient(build(context_of(filled)), follow_redirects=False) as client:
        visitor = Visitor(client, "").log_in("admin")
        assert all(visitor.get(page).status_code == 200 for page in PAGES)


def test_links_stay_under_the_prefix_that_a_proxy_strips(filled: Database) -> None:
    """The proxy answers at /svc/…, strips /svc, and the server knows it as `root_path`."""
    host = FastAPI()
    host.mount("/llm-admin", build(context_of(filled)))
    with TestClient(host, root_path="/svc", follow_redirects=False) as client:
        answer = client.post("/llm-admin/login", data={"username": "admin", "password": PASSWORD})
        assert answer.headers["location"] == "/svc/llm-admin/"
        assert "Path=/svc/llm-admin;" in answer.headers["set-cookie"]
        cookie = answer.headers["set-cookie"].split(";")[0]
        for page in PAGES:
            answer = client.get(f"/llm-admin{page}", headers={"cookie": cookie})
            assert answer.status_code == 200, page
            assert all(link.startswith("/svc/llm-admin/") for link in _links(answer.text))
        asset = next(link for link in _links(answer.text) if link.endswith("panel.css"))
        assert client.get(asset.removeprefix("/svc")).headers["content-type"].startswith("text/css")


def test_a_server_that_sends_the_whole_path_beside_root_path_works_too(filled: Database) -> None:
    host = mounted(context_of(filled))
    with TestClient(host, root_path="/svc", follow_redirects=False) as client:
        visitor = Visitor(client, "/svc/llm-admin").log_in("reader")
        assert all(visitor.get(page).status_code == 200 for page in PAGES[:6])


class _Base(DeclarativeBase):
    pass


class Book(_Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(50))


def test_a_host_with_its_own_sqladmin_keeps_it_and_we_keep_ours(filled: Database, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'host.db'}")
    _Base.metadata.create_all(engine)

    class BookView(ModelView, model=Book):
        pass

    host = FastAPI()
    Admin(host, engine).add_view(BookView)
    host.mount("/llm-admin", build(context_of(filled)))
    with TestClient(host, follow_redirects=False) as client:
        visitor = Visitor(client).log_in("admin")
        for kind in ("price", "account", "api-key"):
            for page in (f"/admin/{kind}/list", f"/admin/{kind}/create"):
                links = _links(visitor.get(page).text)
                assert links
                assert all(link.startswith("/llm-admin/") for link in links)
        made = visitor.post("/admin/account/create", name="zoe", role="reader", password="a long password indeed")
        assert made.headers["location"].startswith("/llm-admin/admin/account/list")
        assert client.get("/llm-admin/admin/book/list", headers={"accept": "*/*"}).status_code == 404
        theirs = client.get("/admin/book/list")
        assert theirs.status_code == 200
        assert "llm-admin" not in theirs.text
    engine.dispose()


def test_the_panel_works_under_flask(filled: Database) -> None:
    flask = Flask(__name__)
    flask.add_url_rule("/", "home", lambda: "home")
    app: Any = DispatcherMiddleware(flask.wsgi_app, {"/llm-admin": ASGIMiddleware(build(context_of(filled)))})
    client = Client(app)
    assert client.get("/").text == "home"
    assert client.get("/llm-admin/traces").status_code == 401
    answer = client.post("/llm-admin/login", data={"username": "admin", "password": PASSWORD})
    assert answer.status_code == 303
    for page in PAGES:
        answer = client.get(f"/llm-admin{page}")
        assert answer.status_code == 200, page
        assert all(link.startswith("/llm-admin/") for link in _links(answer.text))


def test_the_api_and_the_receiver_stand_beside_the_pages_with_their_own_authentication(filled: Database) -> None:
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.scope['root_path']} {request.method} {request.url.path}")

    inner = Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST", "DELETE"])])
    panel = build(replace(context_of(filled), api=inner, otlp=inner))
    with TestClient(Starlette(routes=[Mount("/llm-admin", panel)])) as client:
        assert client.get("/llm-admin/api/v1/traces").text == "/llm-admin/api/v1 GET /llm-admin/api/v1/traces"
        assert client.delete("/llm-admin/api/v1/traces/1").status_code == 200
        assert client.post("/llm-admin/otlp/v1/traces", content=b"x" * (2 << 20)).status_code == 200
        assert client.get("/llm-admin/api/v10").status_code == 401


def test_the_panel_runs_inside_the_suspension_of_recording(filled: Database) -> None:
    depth: list[str] = []

    class Suspension:
        def __enter__(self) -> None:
            depth.append("in")

        def __exit__(self, *_: object) -> None:
            depth.append("out")

    with TestClient(mounted(replace(context_of(filled), suspend=Suspension))) as client:
        client.get("/llm-admin/login")
        client.get("/llm-admin/nothing")
    assert depth == ["in", "out"] * 2


def test_a_panel_that_cannot_be_put_together_is_unavailable_and_tried_again(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    tt = Turntrace(
        f"sqlite:///{tmp_path / 'turntrace.db'}",
        spool_dir=str(tmp_path / "spool"),
        secret_key="k" * 32,
        worker="external",
        prices_file=str(prices),
    )
    prices.write_text("no prices")
    with TestClient(Starlette(routes=[Mount("/llm-admin", tt.panel())])) as client:
        broken = client.get("/llm-admin/login")
        assert (broken.status_code, broken.headers["retry-after"]) == (503, "5")
        assert str(tmp_path) not in broken.text
        prices.write_text("[]")
        assert client.get("/llm-admin/api/v1/health").status_code == 200
    tt.shutdown()
