"""Accounts of the panel, their sessions, and the brake on guessed passwords. Passwords are argon2id hashes.

Hashing takes tenths of a second and 64 MiB: call `create`, `change_password` and `authenticate` off the event loop.
"""

import base64
import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import Any, Final

import argon2
from sqlalchemy import Connection, delete, insert, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.storage import bulk, tables

ROLES: Final = ("reviewer", "viewer", "reader", "annotator", "operator", "admin")
MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 1_000
MAX_NAME: Final = 100
IDLE_US: Final = 30 * 60 * 1_000_000
ABSOLUTE_US: Final = 12 * 3600 * 1_000_000
_SEEN_EVERY_US: Final = 60 * 1_000_000
_WINDOW_US: Final = 60 * 1_000_000
PER_ACCOUNT: Final = 5
PER_CLIENT: Final = 20
_LONGEST_BLOCK_US: Final = 15 * 60 * 1_000_000

_hasher = argon2.PasswordHasher()


def _unknown_hash() -> str:
    """What no password fits, in the form of a hash: to make a real one would cost every process 64 MiB at its start."""
    salt, key = (
        base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (_hasher.salt_len, _hasher.hash_len)
    )
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v={argon2.low_level.ARGON2_VERSION}${costs}${salt}${key}"


# Checked where there is no such account, so that a wrong name takes as long as a wrong password.
_NOBODY: Final = _unknown_hash()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may log in."""

    id: str
    name: str
    role: str
    is_enabled: bool
    created_at_us: int
    last_login_at_us: int | None = None

    @property
    def is_disabled(self) -> bool:
        """Whether the account is closed."""
        return not self.is_enabled


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelSession:
    """One login. `csrf_secret` is bound to it and never leaves the server."""

    token_hash: str
    account_id: str | None
    name: str
    role: str
    csrf_secret: str
    created_at_us: int
    seen_at_us: int
    expires_at_us: int


def create(connection: Connection, name: str, *, role: str, password: str, now_us: int) -> Account:
    """Make an account.

    Raises:
        InvalidInput: name, role or password are not allowed, or the name is taken.
    """
    _check(name, role)
    hashed = hash_password(password)  # before the first statement, which takes the write lock of SQLite
    if _by_name(connection, name) is not None:
        raise InvalidInput(f"there is an account {name!r} already", field="name")
    account = Account(id=uuid.uuid4().hex, name=name, role=role, is_enabled=True, created_at_us=now_us)
    connection.execute(
        insert(tables.account).values(
            id=account.id,
            name=name,
            role=role,
            password_hash=hashed,
            is_enabled=True,
            created_at_us=now_us,
            updated_at_us=now_us,
        )
    )
    return account


def hash_password(password: str) -> str:
    """The argon2id hash of a password.

    Raises:
        InvalidInput: it is too short or too long.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidInput(f"a password has {MIN_PASSWORD} characters or more", field="password")
    return _hasher.hash(password)


def list_accounts(connection: Connection) -> tuple[Account, ...]:
    """All accounts by name."""
    return tuple(_account(row) for row in connection.execute(select(tables.account).order_by(tables.account.c.name)))


def has_accounts(connection: Connection) -> bool:
    """Whether anybody can log in with an account."""
    enabled = select(tables.account.c.id).where(tables.account.c.is_enabled.is_(True)).limit(1)
    return connection.execute(enabled).first() is not None


def disable(connection: Connection, name: str, *, now_us: int) -> None:
    """Close an account and end its sessions.

    Raises:
        NotFound: there is no such account.
    """
    row = _known(connection, name)
    account = tables.account
    connection.execute(update(account).where(account.c.id == row.id).values(is_enabled=False, updated_at_us=now_us))
    end_sessions(connection, row.id)


def change_role(connection: Connection, name: str, role: str, *, now_us: int) -> None:
    """Give an account another role; its sessions end.

    Raises:
        NotFound, InvalidInput: no such account, no such role.
    """
    _check(name, role)
    row = _known(connection, name)
    account = tables.account
    connection.execute(update(account).where(account.c.id == row.id).values(role=role, updated_at_us=now_us))
    end_sessions(connection, row.id)


def change_password(connection: Connection, name: str, password: str, *, now_us: int) -> None:
    """Give an account another password; its sessions end.

    Raises:
        NotFound, InvalidInput: no such account, a password that is too short.
    """
    values = {"password_hash": hash_password(password), "updated_at_us": now_us}  # before the first statement
    row = _known(connection, name)
    account = tables.account
    connection.execute(update(account).where(account.c.id == row.id).values(**values))
    end_sessions(connection, row.id)


def password_hash(connection: Connection, name: str) -> str | None:
    """The stored hash of an enabled account; None for anybody else."""
    row = _by_name(connection, name)
    return str(row.password_hash) if row is not None and row.is_enabled else None


def is_password(stored: str | None, password: str) -> bool:
    """Whether a password fits a hash; takes as long where there is none."""
    try:
        return _hasher.verify(stored or _NOBODY, password[:MAX_PASSWORD]) and stored is not None
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def authenticate(connection: Connection, name: str, password: str, *, now_us: int) -> Account | None:
    """The account with this name and password, or None. A hash made with older parameters is renewed."""
    row = _by_name(connection, name)
    stored = str(row.password_hash) if row is not None and row.is_enabled else None
    if not is_password(stored, password) or row is None or stored is None:
        return None
    values: dict[str, object] = {"last_login_at_us": now_us}
    if _hasher.check_needs_rehash(stored):
        values["password_hash"] = _hasher.hash(password)
    connection.execute(update(tables.account).where(tables.account.c.id == row.id).values(**values))
    return _account(row)


# --- sessions -------------------------------------------------------------------------------------------------------


def open_session(
    connection: Connection,
    *,
    name: str,
    role: str,
    account_id: str | None,
    client: str | None,
    now_us: int,
    password: str | None = None,
) -> str:
    """A new session; answers its token, which is stored nowhere.

    Args:
        password: of an account that the settings keep: the session is found with this one only.
    """
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(tables.panel_session).values(
            token_hash=_hash(_bound(token, password)),
            account_id=account_id,
            name=name[:MAX_NAME],
            role=role,
            csrf_secret=secrets.token_hex(32),
            created_at_us=now_us,
            seen_at_us=now_us,
            expires_at_us=now_us + ABSOLUTE_US,
            client=(client or "")[:100] or None,
        )
    )
    gone = tables.panel_session.c.expires_at_us < now_us
    connection.execute(delete(tables.panel_session).where(gone))
    if account_id is not None:
        account = tables.account
        connection.execute(update(account).where(account.c.id == account_id).values(last_login_at_us=now_us))
    return token


def find_session(
    connection: Connection, token: str, *, now_us: int, password: str | None = None
) -> PanelSession | None:
    """The live session of a token: not idle for 30 minutes, not older than 12 hours, its account still open.

    Args:
        password: of the account that the settings keep now: sessions opened with another one are over.
    """
    session = tables.panel_session
    hashes = {_hash(token), _hash(_bound(token, password))}
    row = connection.execute(select(session).where(session.c.token_hash.in_(hashes))).first()
    if row is None or row.expires_at_us <= now_us or now_us - row.seen_at_us > IDLE_US:
        return None
    if row.account_id is not None and not _is_enabled(connection, row.account_id):
        return None
    names = PanelSession.__dataclass_fields__
    return PanelSession(**{name: getattr(row, name) for name in names})


def needs_touch(found: PanelSession, *, now_us: int) -> bool:
    """Whether it is worth a write to note that the session was seen: once a minute."""
    return now_us - found.seen_at_us >= _SEEN_EVERY_US


def touch_session(connection: Connection, token_hash: str, *, now_us: int) -> None:
    """The session was seen now."""
    session = tables.panel_session
    connection.execute(update(session).where(session.c.token_hash == token_hash).values(seen_at_us=now_us))


def close_session(connection: Connection, token_hash: str) -> None:
    """End one session."""
    connection.execute(delete(tables.panel_session).where(tables.panel_session.c.token_hash == token_hash))


def end_sessions(connection: Connection, account_id: str) -> None:
    """End all sessions of an account."""
    connection.execute(delete(tables.panel_session).where(tables.panel_session.c.account_id == account_id))


# --- the brake ------------------------------------------------------------------------------------------------------


def is_throttled(connection: Connection, name: str, client: str, *, now_us: int) -> bool:
    """Whether this account or client address has failed too often to try now."""
    attempt = tables.login_attempt
    keys = list(_attempt_keys(name, client))
    blocked = select(attempt.c.key).where(attempt.c.key.in_(keys), attempt.c.blocked_until_us > now_us)
    return connection.execute(blocked).first() is not None


def note_failure(connection: Connection, name: str, client: str, *, now_us: int) -> None:
    """Count a failed login; past the limit of a minute the pause doubles with each failure, up to 15 minutes."""
    for key, limit in _attempt_keys(name, client).items():
        _count_failure(connection, key, limit, now_us)
    old = tables.login_attempt.c.window_at_us < now_us - 24 * 3600 * 1_000_000
    connection.execute(delete(tables.login_attempt).where(old))


def note_success(connection: Connection, name: str, client: str) -> None:
    """Forget the failures of the account; those of the address stay."""
    key = next(iter(_attempt_keys(name, client)))
    connection.execute(delete(tables.login_attempt).where(tables.login_attempt.c.key == key))


def _count_failure(connection: Connection, key: str, limit: int, now_us: int) -> None:
    attempt = tables.login_attempt
    # Made first and locked then: two first failures at once would both insert.
    missing = bulk.insert_missing(connection.dialect.name, attempt)
    connection.execute(missing.values(key=key, window_at_us=now_us, count=0, blocked_until_us=0))
    row = connection.execute(select(attempt).where(attempt.c.key == key).with_for_update()).one()
    is_over = now_us > max(row.window_at_us + _WINDOW_US, row.blocked_until_us + _LONGEST_BLOCK_US)
    count = 1 if is_over else int(row._mapping["count"]) + 1
    pause = min(_WINDOW_US * 2 ** min(count - limit, 10), _LONGEST_BLOCK_US) if count >= limit else 0
    values: dict[str, int] = {"count": count, "blocked_until_us": now_us + pause if pause else 0}
    if is_over:
        values["window_at_us"] = now_us
    connection.execute(update(attempt).where(attempt.c.key == key).values(**values))


def _attempt_keys(name: str, client: str) -> dict[str, int]:
    return {_hash(f"account\0{name.casefold()}"): PER_ACCOUNT, _hash(f"client\0{client}"): PER_CLIENT}


# --- details --------------------------------------------------------------------------------------------------------


def _bound(token: str, password: str | None) -> str:
    """A token that only a password makes whole. It is too long to be guessed, and so to tell about the password."""
    return token if password is None else f"{token}\0{password}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _check(name: str, role: str) -> None:
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput(f"a name has 1 to {MAX_NAME} printable characters", field="name")
    if role not in ROLES:
        raise InvalidInput(f"a role is one of {', '.join(ROLES)}, not {role!r}", field="role")


def _by_name(connection: Connection, name: str) -> Any:
    return connection.execute(select(tables.account).where(tables.account.c.name == name)).first()


def _known(connection: Connection, name: str) -> Any:
    row = _by_name(connection, name)
    if row is None:
        raise NotFound(f"there is no account {name!r}")
    return row


def _is_enabled(connection: Connection, account_id: str) -> bool:
    account = tables.account
    row = connection.execute(select(account.c.is_enabled).where(account.c.id == account_id)).first()
    return row is not None and bool(row.is_enabled)


def _account(row: Any) -> Account:
    names = Account.__dataclass_fields__
    return Account(**{name: getattr(row, name) for name in names})
