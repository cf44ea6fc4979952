"""Accounts, panel sessions, API keys, the audit log, operator prices."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    Count,
    Flag,
    Instant,
    LongText,
    Serial,
    Word,
    column,
    fixed,
    index,
    optional,
    table,
)

# A person who may log in to the panel. `role` is viewer, reader, annotator, operator or admin.
account: Final = table(
    "account",
    column("id", fixed(32), primary_key=True),
    column("name", String(100)),
    column("password_hash", fixed(255)),
    column("role", Word),
    column("is_enabled", Flag),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    optional("last_login_at_us", Instant),
    index("account_name", "name", unique=True),
)

# A login to the panel. The cookie holds a random token, the table only its SHA-256. `account_id` is NULL for people
# whom the host's callback or the settings let in.
panel_session: Final = table(
    "panel_session",
    column("token_hash", fixed(64), primary_key=True),
    optional("account_id", fixed(32)),
    column("name", String(100)),
    column("role", Word),
    column("csrf_secret", fixed(64)),
    column("created_at_us", Instant),
    column("seen_at_us", Instant),
    column("expires_at_us", Instant),  # absolute end
    optional("client", String(100)),
    index("panel_session_account", "account_id"),
    index("panel_session_expires", "expires_at_us"),
)

# Failed logins by account name or client address (`key` is a hash), for throttling across processes.
login_attempt: Final = table(
    "login_attempt",
    column("key", fixed(64), primary_key=True),
    column("window_at_us", Instant),
    column("count", Count),
    column("blocked_until_us", Instant),
    index("login_attempt_window", "window_at_us"),
)

# A key of the REST API: only the SHA-256 of its secret. `scopes` are separated by spaces.
api_key: Final = table(
    "api_key",
    column("id", fixed(24), primary_key=True),
    column("name", String(100)),
    column("secret_hash", fixed(64)),
    column("scopes", String(200)),
    column("created_at_us", Instant),
    optional("expires_at_us", Instant),
    optional("revoked_at_us", Instant),
    optional("last_used_at_us", Instant),
)

# Who did what. Each row's hash covers its fields and the hash of the row before: a change breaks the chain.
audit: Final = table(
    "audit",
    column("id", Serial, primary_key=True, autoincrement=True),
    column("at_us", Instant),
    column("actor", String(100)),
    optional("role", Word),
    column("action", String(100)),
    optional("target", String(255)),
    optional("details", LongText),  # JSON, no content
    column("previous_hash", fixed(64)),
    column("hash", fixed(64)),
    index("audit_at", "at_us", "id"),
)

# A price of the operator's own; `rates` is JSON: dollars per million tokens by rate name.
price: Final = table(
    "price",
    column("id", fixed(32), primary_key=True),
    column("provider", String(length.PROVIDER)),
    column("model", String(length.MODEL)),
    column("effective_from_us", Instant),
    column("rates", LongText),
    column("created_at_us", Instant),
    index("price_model", "provider", "model", "effective_from_us"),
)

# Filters and columns of a list that somebody keeps under a name.
saved_view: Final = table(
    "saved_view",
    column("id", fixed(32), primary_key=True),
    column("page", fixed(64)),
    column("name", String(100)),
    column("query", LongText),  # the query string of the list
    optional("author", String(length.NAME)),
    column("is_shared", Flag),
    column("created_at_us", Instant),
    index("saved_view_page", "page", "name"),
)
