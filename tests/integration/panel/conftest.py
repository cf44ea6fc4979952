"""A panel over a real database, mounted in a host, with people of each role."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import PASSWORD, Visitor
from turntrace.keyring import KeyRing
from turntrace.panel import PanelContext, build
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage import migrate, people
from turntrace.storage.database import Database

MOUNT = "/llm-admin"


def context_of(database: Database, **settings: Any) -> PanelContext:
    """A panel's context over a database, without a spool."""
    made = Settings(secret_key="0123456789abcdef" * 4, **settings)
    return PanelContext(
        settings=made,
        database=database,
        keyring=KeyRing.from_settings(made, None),
        loss=Loss,
        status=dict,
        suspend=nullcontext,
    )


def mounted(context: PanelContext, path: str = MOUNT) -> Starlette:
    """A host with the panel in it."""
    return Starlette(routes=[Mount(path, app=build(context))])


def add_people(database: Database) -> None:
    """One account for each role, named as the role."""
    now_us = time.time_ns() // 1000
    for role in people.ROLES:
        database.transact(people.create, role, role=role, password=PASSWORD, now_us=now_us)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """SQLite with 120 turns and an account for each role; shared by the tests of a module."""
    folder: Path = tmp_path_factory.mktemp("panel")
    database = Database(f"sqlite:///{folder / 'turntrace.db'}")
    migrate.upgrade(database)
    add_people(database)
    now_us = time.time_ns() // 1000
    store(database, scene(now_us), now_us)
    yield database
    database.close()


@pytest.fixture(scope="module")
def host(filled: Database) -> Starlette:
    """A host with the panel over the filled database."""
    return mounted(context_of(filled))


@pytest.fixture
def stranger(host: Starlette) -> Iterator[TestClient]:
    """Somebody without a session."""
    with TestClient(host, follow_redirects=False) as client:
        yield client


@pytest.fixture(params=people.ROLES[1:])  # reviewers get to no page but their queues
def anyone(request: pytest.FixtureRequest, host: Starlette) -> Iterator[Visitor]:
    """A person of each role in turn."""
    with TestClient(host, follow_redirects=False) as client:
        yield Visitor(client).log_in(request.param)


@pytest.fixture
def admin(host: Starlette) -> Iterator[Visitor]:
    """An admin."""
    with TestClient(host, follow_redirects=False) as client:
        yield Visitor(client).log_in("admin")


@pytest.fixture
def viewer(host: Starlette) -> Iterator[Visitor]:
    """Somebody who may see numbers only."""
    with TestClient(host, follow_redirects=False) as client:
        yield Visitor(client).log_in("viewer")
