"""Logins of people with an account: throttled, kept on the server, ended when idle, at logout and with the account."""

import hmac
import logging
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import BoundedSemaphore
from time import time_ns
from typing import Final

from sqlalchemy import Connection

from turntrace.errors import TurntraceError
from turntrace.panel.context import PanelContext
from turntrace.panel.gate import csrf
from turntrace.panel.gate.role import Role, Viewer
from turntrace.storage import audit, people

log = logging.getLogger("turntrace.panel")
# argon2 takes 64 MiB and a core for a tenth of a second: a flood of logins waits, the host does not.
_HASHING: Final = BoundedSemaphore(2)


class Refusal(Enum):
    """Why somebody was not let in. Which of name and password is wrong stays unsaid."""

    WRONG = auto()
    THROTTLED = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A login: whether it is that of the settings' account, and the stored hash that the password fits."""

    name: str
    client: str
    password: str = field(repr=False)
    is_of_settings: bool
    fitting: str | None = field(repr=False)


class Sessions:
    """Panel sessions in the database. All methods block: call them off the event loop."""

    def __init__(self, context: PanelContext) -> None:
        self._context = context

    def find(self, token: str) -> Viewer | None:
        """The person of a session token, or None."""
        now_us = _now_us()
        with self._context.database.read() as connection:
            found = people.find_session(connection, token, now_us=now_us, password=self._password())
        if found is None or not self._is_still_known(found):
            return None
        role = Role.of(found.role)
        if role is None:
            return None
        if people.needs_touch(found, now_us=now_us):
            self._touch(found.token_hash, now_us)
        token_of = csrf.token_of(found.csrf_secret)
        return Viewer(name=found.name, role=role, csrf_token=token_of, token_hash=found.token_hash)

    def has_accounts(self) -> bool:
        """Whether anybody can log in here."""
        if self._context.settings.panel_user:
            return True
        with self._context.database.read() as connection:
            return people.has_accounts(connection)

    def log_in(self, name: str, password: str, client: str) -> str | Refusal:
        """A new session's token for the right name and password.

        The verdict is given inside the transaction that counts failures, so that guesses made at once count as well.
        """
        database = self._context.database
        with database.read() as connection:
            if people.is_throttled(connection, name, client, now_us=_now_us()):
                return Refusal.THROTTLED
            stored = people.password_hash(connection, name)
        is_of_settings = self._is_of_settings(name, password)
        with _HASHING:
            fitting = stored if people.is_password(stored, password) else None
        tried = _Tried(name=name, client=client, password=password, is_of_settings=is_of_settings, fitting=fitting)
        return database.transact(_verdict, tried, self._context.settings.panel_user)

    def close(self, viewer: Viewer) -> None:
        """End the session of this visit."""
        if viewer.token_hash is not None:
            self._context.database.transact(_close, viewer)

    def _is_of_settings(self, name: str, password: str) -> bool:
        """Whether this is the account kept in the settings."""
        settings = self._context.settings
        if settings.panel_user is None or settings.panel_password is None:
            return False
        is_name = hmac.compare_digest(settings.panel_user.encode(), name.encode("utf-8", "replace"))
        expected = settings.panel_password.reveal().encode()
        return hmac.compare_digest(expected, password.encode("utf-8", "replace")) and is_name

    def _password(self) -> str | None:
        """What sessions of the settings' account are bound to: another password ends them."""
        password = self._context.settings.panel_password
        return None if password is None else password.reveal()

    def _is_still_known(self, found: people.PanelSession) -> bool:
        """Sessions of the settings' account end when the settings name somebody else."""
        return found.account_id is not None or found.name == self._context.settings.panel_user

    def _touch(self, token_hash: str, now_us: int) -> None:
        try:
            self._context.database.transact(people.touch_session, token_hash, now_us=now_us)
        except TurntraceError:
            log.info("a panel session could not be marked as seen: the database cannot be written to")


def _close(connection: Connection, viewer: Viewer) -> None:
    people.close_session(connection, viewer.token_hash or "")
    audit.append(connection, actor=viewer.name, role=viewer.role.label, action="logout", now_us=_now_us())


def _verdict(connection: Connection, tried: _Tried, settings_user: str | None) -> str | Refusal:
    now_us, name, client = _now_us(), tried.name, tried.client
    if people.is_throttled(connection, name, client, now_us=now_us):
        return Refusal.THROTTLED
    account = next((item for item in people.list_accounts(connection) if item.name == name and item.is_enabled), None)
    if not _is_right(connection, tried, account):
        people.note_failure(connection, name, client, now_us=now_us)
        # A name that nobody has may be a password typed into the wrong field: it is not kept.
        target = name if account or name == settings_user else None
        audit.append(connection, actor="", action="login.failed", target=target, now_us=now_us)
        return Refusal.WRONG
    people.note_success(connection, name, client)
    role = account.role if account else Role.ADMIN.label
    audit.append(connection, actor=name, role=role, action="login", now_us=now_us)
    return people.open_session(
        connection,
        name=name,
        role=role,
        account_id=account.id if account else None,
        client=client,
        now_us=now_us,
        password=None if account else tried.password,
    )


def _is_right(connection: Connection, tried: _Tried, account: people.Account | None) -> bool:
    """Whether the password still is the one that was checked: that takes long enough to be changed meanwhile."""
    if tried.is_of_settings or account is None:
        return tried.is_of_settings
    return tried.fitting is not None and people.password_hash(connection, tried.name) == tried.fitting


def _now_us() -> int:
    return time_ns() // 1000
