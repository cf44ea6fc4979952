"""Functions of the host that evaluators call: only those that the setting `evaluator_functions` names."""

import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session

from turntrace.errors import EvaluationFailed, InvalidInput
from turntrace.settings import Secret
from turntrace.storage.address import OWN_FILE, sync_url

_READ_ONLY: Final = {"postgresql": "SET TRANSACTION READ ONLY", "mysql": "START TRANSACTION READ ONLY"}


class HostCode:
    """Calls functions of the host. Nothing is imported before the first call.

    Args:
        allowed: `module:function` of each.
        database_url: the host's database, which they may read.
    """

    def __init__(self, allowed: Collection[str], database_url: Secret | None) -> None:
        self._allowed, self._url = frozenset(allowed), database_url
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def check(self, function: str, *, field: str) -> None:
        """Nothing for a function that may be called.

        Raises:
            InvalidInput: the setting does not name it.
        """
        if function not in self._allowed:
            known = ", ".join(sorted(self._allowed)) or "none"
            what = f"the setting evaluator_functions does not name it; it names: {known}"
            raise InvalidInput(f"{field}: {what}", field=field)

    def load(self, function: str) -> Callable[..., Any]:
        """The function itself.

        Raises:
            EvaluationFailed: it is not allowed, or cannot be imported here.
        """
        if function not in self._allowed:
            raise EvaluationFailed("function_not_allowed", is_final=True)
        module, _, attribute = function.partition(":")
        try:
            with self._lock:
                _see_working_directory()
                found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            raise EvaluationFailed("function_not_importable") from None
        if not callable(found):
            raise EvaluationFailed("function_not_callable", is_final=True)
        return found  # type: ignore[no-any-return]

    def __call__(self, function: str, document: Mapping[str, Any]) -> Any:
        """What the function says of a document; one that takes two arguments gets a read-only session as the second."""
        found = self.load(function)
        if len(inspect.signature(found).parameters) < 2:
            return found(dict(document))
        with self._session() as db_session:
            return found(dict(document), db_session)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """A session on the host's database that cannot write, rolled back at its end."""
        with self._lock:
            if self._engine is None:
                self._engine = _engine(self._url)
        with self._engine.connect() as connection, Session(bind=connection) as db_session:
            yield db_session
            db_session.rollback()

    def close(self) -> None:
        """Close idle connections."""
        if self._engine is not None:
            self._engine.dispose()


def _engine(url: Secret | None) -> Engine:
    engine = create_engine(sync_url(url.reveal() if url else OWN_FILE), hide_parameters=True, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _only_query)
    else:
        event.listen(engine, "begin", _begin_read_only)
    return engine


def _only_query(raw: Any, _record: Any) -> None:
    raw.execute("PRAGMA query_only=ON")


def _begin_read_only(connection: Connection) -> None:
    name = connection.dialect.name
    connection.exec_driver_sql(_READ_ONLY["mysql" if name == "mariadb" else name])


def _see_working_directory() -> None:
    """A host's modules are mostly found from where it was started, as with `python -m`."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
