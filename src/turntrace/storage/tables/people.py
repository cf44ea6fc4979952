"""Accounts, panel sessions, API keys, the audit log, operator prices."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    Count,
    Flag,
    Instant,
    LongText,
    Row,
    Serial,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class AccountRow(Row, table=True):
    """A person who may log in to the panel. `role` is viewer, reader, annotator, operator or admin."""

    __table_args__ = options(index("account_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(100))
    password_hash: str = column(fixed(255))
    role: str = column(Word)
    is_enabled: bool = column(Flag)
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)
    last_login_at_us: int | None = optional(Instant)


class PanelSessionRow(Row, table=True):
    """A login to the panel. The cookie holds a random token, the table only its SHA-256.

    `account_id` is NULL for people whom the host's callback or the settings let in.
    """

    __table_args__ = options(
        index("panel_session_account", "account_id"), index("panel_session_expires", "expires_at_us")
    )

    token_hash: str = column(fixed(64), primary_key=True)
    account_id: str | None = optional(fixed(32))
    name: str = column(String(100))
    role: str = column(Word)
    csrf_secret: str = column(fixed(64))
    created_at_us: int = column(Instant)
    seen_at_us: int = column(Instant)
    expires_at_us: int = column(Instant)  # absolute end
    client: str | None = optional(String(100))


class LoginAttemptRow(Row, table=True):
    """Failed logins by account name or client address (`key` is a hash), for throttling across processes."""

    __table_args__ = options(index("login_attempt_window", "window_at_us"))

    key: str = column(fixed(64), primary_key=True)
    window_at_us: int = column(Instant)
    count: int = column(Count)
    blocked_until_us: int = column(Instant)


class ApiKeyRow(Row, table=True):
    """A key of the REST API: only the SHA-256 of its secret. `scopes` are separated by spaces."""

    id: str = column(fixed(24), primary_key=True)
    name: str = column(String(100))
    secret_hash: str = column(fixed(64))
    scopes: str = column(String(200))
    created_at_us: int = column(Instant)
    expires_at_us: int | None = optional(Instant)
    revoked_at_us: int | None = optional(Instant)
    last_used_at_us: int | None = optional(Instant)


class AuditRow(Row, table=True):
    """Who did what. Each row's hash covers its fields and the hash of the row before: a change breaks the chain."""

    __table_args__ = options(index("audit_at", "at_us", "id"))

    id: int = column(Serial, primary_key=True, autoincrement=True)
    at_us: int = column(Instant)
    actor: str = column(String(100))
    role: str | None = optional(Word)
    action: str = column(String(100))
    target: str | None = optional(String(255))
    details: str | None = optional(LongText)  # JSON, no content
    previous_hash: str = column(fixed(64))
    hash: str = column(fixed(64))


class PriceRow(Row, table=True):
    """A price of the operator's own; `rates` is JSON: dollars per million tokens by rate name."""

    __table_args__ = options(index("price_model", "provider", "model", "effective_from_us"))

    id: str = column(fixed(32), primary_key=True)
    provider: str = column(String(length.PROVIDER))
    model: str = column(String(length.MODEL))
    effective_from_us: int = column(Instant)
    rates: str = column(LongText)
    created_at_us: int = column(Instant)


class SavedViewRow(Row, table=True):
    """Filters and columns of a list that somebody keeps under a name."""

    __table_args__ = options(index("saved_view_page", "page", "name"))

    id: str = column(fixed(32), primary_key=True)
    page: str = column(fixed(64))
    name: str = column(String(100))
    query: str = column(LongText)  # the query string of the list
    author: str | None = optional(String(length.NAME))
    is_shared: bool = column(Flag)
    created_at_us: int = column(Instant)


account: Final = table(AccountRow)
panel_session: Final = table(PanelSessionRow)
login_attempt: Final = table(LoginAttemptRow)
api_key: Final = table(ApiKeyRow)
audit: Final = table(AuditRow)
price: Final = table(PriceRow)
saved_view: Final = table(SavedViewRow)
