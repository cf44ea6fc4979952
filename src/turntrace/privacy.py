"""`tt.privacy`: what a person may ask for. Loaded at first use: processes that only record are spared SQL."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, inspect

from turntrace.api import portability
from turntrace.errors import SchemaOutOfDate
from turntrace.jobs import erase as job
from turntrace.jobs.subject import stored_ids
from turntrace.keyring import KeyRing, subject_names
from turntrace.records.erasure import Receipt, Target
from turntrace.settings import Settings
from turntrace.storage import audit, receipts, tables, tombstones
from turntrace.storage.database import Database
from turntrace.storage.opening import open_database
from turntrace.storage.queries import subject as queries

ACTOR = "application"


class Privacy:
    """Erasure and access, from code of the host's.

    Every `erase_…` takes:

    - `connection`: a SQLAlchemy `Connection` (or ORM `Session`) of the host's on the database that Turntrace shares.
      Tombstones and rows go with the host's commit or not at all; the receipt is unfinished, the worker verifies and
      signs it after the commit. None: everything is done in transactions of our own, before the call returns.
    - `dry_run`: count what would go, change nothing.
    - `actor`: who asks, for the audit log.
    """

    def __init__(self, database: Database, keys: KeyRing, *, archive_dir: str | None = None) -> None:
        self._database, self._keys, self._archive_dir = database, keys, archive_dir

    def erase_subject(
        self,
        user_id: str,
        *,
        connection: Any = None,
        dry_run: bool = False,
        suppress: bool = False,
        actor: str = ACTOR,
        timeout_seconds: float = job.REQUEST_SECONDS,
    ) -> Receipt:
        """Erase everything of a person that began until now; late, replayed and spooled data of theirs is refused.

        Args:
            suppress: refuse also what the person does from now on.
            timeout_seconds: past it the unfinished receipt is answered, and the worker goes on.

        Raises:
            SchemaOutOfDate: the database of `connection` has no Turntrace tables.
        """
        target = Target(kind="subject", user_ids=stored_ids(self._keys, user_id))
        return self._erase(target, connection, dry_run, actor, timeout_seconds, suppress)

    def erase_trace(
        self,
        trace_id: str,
        *,
        connection: Any = None,
        dry_run: bool = False,
        actor: str = ACTOR,
        timeout_seconds: float = job.REQUEST_SECONDS,
    ) -> Receipt:
        """Erase one turn, by its id or its W3C trace id.

        Raises:
            NotFound: no such turn. Ambiguous: several turns share the W3C id.
        """
        target = self._look_up(connection, queries.turn_target, trace_id)
        return self._erase(target, connection, dry_run, actor, timeout_seconds)

    def erase_session(
        self,
        session_id: str,
        *,
        user_id: str | None = None,
        connection: Any = None,
        dry_run: bool = False,
        actor: str = ACTOR,
        timeout_seconds: float = job.REQUEST_SECONDS,
    ) -> Receipt:
        """Erase the turns of one conversation that began until now; of one user where `user_id` is given, else of all.

        Raises:
            NotFound: no such session.
        """
        users = None if user_id is None else stored_ids(self._keys, user_id)
        target = self._look_up(connection, queries.session_target, session_id, users)
        return self._erase(target, connection, dry_run, actor, timeout_seconds)

    def lift_suppression(self, user_id: str, *, actor: str = ACTOR) -> bool:
        """Record a person again whom `suppress` had refused for good, from now on.

        Returns:
            Whether the person was suppressed.
        """
        name = subject_names(self._keys, user_id)[0]
        return self._database.transact(_lift, stored_ids(self._keys, user_id), name, actor)

    def export_subject(self, user_id: str) -> Iterator[dict[str, Any]]:
        """Everything held about a person, one JSON object a record, as `GET /subjects/{user_id}/export`.

        Raises:
            DatabaseUnavailable: a database that has some of it is away. From the iterator, where it goes meanwhile.
        """
        return portability.records(self._database, stored_ids(self._keys, user_id))

    def receipt(self, erasure_id: str) -> Receipt:
        """The receipt of an erasure, as it stands now.

        Raises:
            NotFound: no such erasure.
        """
        with self._database.read() as connection:
            return receipts.get(connection, erasure_id)

    def is_valid(self, document: Any) -> bool:
        """Whether a receipt (`Receipt`, or its JSON) was signed with a key of ours and not changed since."""
        found = document.document() if isinstance(document, Receipt) else document
        return receipts.is_valid(found, self._keys)

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        self._database.close()

    def _look_up(self, connection: Any, query: Any, *arguments: Any) -> Target:
        if connection is not None:
            found: Target = query(_shared(connection), *arguments)
            return found
        with self._database.read() as own:
            found = query(own, *arguments)
        return found

    def _erase(
        self,
        target: Target,
        connection: Any,
        dry_run: bool,
        actor: str,
        timeout_seconds: float,
        suppress: bool = False,
    ) -> Receipt:
        if dry_run:
            return self._dry(target, connection, suppress)
        if connection is not None:
            return job.erase_online(_shared(connection), target, actor=actor, suppress=suppress)
        return job.erase_at_once(
            self._database,
            target,
            self._keys,
            actor=actor,
            suppress=suppress,
            seconds=timeout_seconds,
            archive_dir=self._archive_dir,
        )

    def _dry(self, target: Target, connection: Any, suppress: bool) -> Receipt:
        if connection is not None:
            return job.rehearse(_shared(connection), target, suppress=suppress)
        with self._database.read() as own:
            return job.rehearse(own, target, suppress=suppress)


def build(settings: Settings, keys: KeyRing | None, engine: Any = None) -> Privacy:
    """Erasure and access over the database of these settings."""
    ring = keys or KeyRing.from_settings(settings, None)
    return Privacy(open_database(settings, engine), ring, archive_dir=settings.archive_dir)


def _lift(connection: Connection, user_ids: tuple[str, ...], name: str, actor: str) -> bool:
    at_us = job.now_us()
    if not tombstones.lift(connection, user_ids, now_us=at_us):
        return False
    audit.append(connection, actor=actor, action="subject.record", target=name, now_us=at_us)
    return True


def _shared(connection: Any) -> Connection:
    """The host's connection, which must lead to our tables."""
    found = connection if isinstance(connection, Connection) else connection.connection()
    if not inspect(found).has_table(tables.erasure.name):
        raise SchemaOutOfDate("this connection's database has no Turntrace tables: leave `connection` out, or share it")
    assert isinstance(found, Connection)
    return found
