from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.otlp.inlet import Inlet
from turntrace.storage import migrate
from turntrace.storage.database import Database


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def one_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A SQLite database for many tests: every sender has turns of its own."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('otlp') / 'turntrace.db'}")
    migrate.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def inlet(one_database: Database) -> Inlet:
    """It stores what senders state, and nothing estimated."""
    return Inlet(one_database, estimate_usage=False)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Inlet]:
    """An inlet with a database of its own, for what counts everything."""
    database = Database(f"sqlite:///{tmp_path / 'turntrace.db'}")
    migrate.upgrade(database)
    yield Inlet(database)
    database.close()
