"""The real API over a real database, spoken to over ASGI."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from tests.integration.turns import START_US
from turntrace import api
from turntrace.api.context import ApiContext
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage import keys, migrate
from turntrace.storage.database import Database

ORIGIN = "https://shop.example"
MakeKey = Callable[..., dict[str, str]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A SQLite database: for what does not depend on the database."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('db') / 'turntrace.db'}")
    migrate.upgrade(database)
    return database


def context_of(database: Database) -> ApiContext:
    return ApiContext(
        settings=Settings(cors_origins=(ORIGIN,)),
        database=database,
        loss=lambda: Loss(accepted=3, stored=1, sampled=1, dropped={"poison": 1}),
        redact_text=lambda text: text.replace("anna@example.com", "<EMAIL_k0123abcd>"),
    )


def make_key(database: Database, *scopes: str) -> dict[str, str]:
    with database.write() as c:
        made = keys.create(c, name=f"test {' '.join(scopes)}", scopes=scopes, now_us=START_US)
    return {"Authorization": f"Bearer {made.key}"}


def client_of(database: Database, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(api.build(context_of(database)), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers)


@pytest.fixture
async def client(small: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key for reading and writing, on SQLite."""
    async with client_of(small, **make_key(small, "read", "write")) as found:
        yield found


@pytest.fixture
async def stranger(small: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with client_of(small) as found:
        yield found
