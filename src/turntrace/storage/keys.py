"""Keys of the REST API, `ttk_<id>_<secret>`: the table holds only the SHA-256 of the secret."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, insert, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.storage import tables
from turntrace.storage.database import Database

SCOPES: Final = ("read", "write", "feedback", "erase", "ingest", "admin")
MAX_NAME: Final = 100
FRESH_SECONDS: Final = 4.0  # a revoked key is refused everywhere within 5 s
UNKNOWN_SECONDS: Final = 0.1  # a flood of made-up ids costs ten short reads a second


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is listed."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None

    @property
    def is_revoked(self) -> bool:
        """Whether it was made useless."""
        return self.revoked_at_us is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key at its making: the only time that `key` is known."""

    id: str
    key: str
    scopes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r}, scopes={self.scopes!r})"


def create(
    connection: Connection, *, name: str, scopes: tuple[str, ...], now_us: int, expires_at_us: int | None = None
) -> NewKey:
    """Make a key.

    Raises:
        InvalidInput: an unknown scope, or an unusable name.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise InvalidInput(
            f"scopes are some of {', '.join(SCOPES)}, not {', '.join(unknown) or 'none'}", field="scopes"
        )
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput(f"a name has 1 to {MAX_NAME} printable characters", field="name")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    ordered = tuple(scope for scope in SCOPES if scope in scopes)
    connection.execute(
        insert(tables.api_key).values(
            id=key_id,
            name=name,
            secret_hash=_hash(secret),
            scopes=" ".join(ordered),
            created_at_us=now_us,
            expires_at_us=expires_at_us,
        )
    )
    return NewKey(id=key_id, key=f"ttk_{key_id}_{secret}", scopes=ordered)


def list_keys(connection: Connection) -> tuple[ApiKey, ...]:
    """All keys, the newest first."""
    key = tables.api_key
    return tuple(
        _api_key(row) for row in connection.execute(select(key).order_by(key.c.created_at_us.desc(), key.c.id))
    )


def revoke(connection: Connection, key_id: str, *, now_us: int) -> None:
    """Make a key useless; it stays listed.

    Raises:
        NotFound: there is no such key.
    """
    key = tables.api_key
    if connection.execute(select(key.c.id).where(key.c.id == key_id)).first() is None:
        raise NotFound(f"there is no key {key_id!r}")
    live = key.c.revoked_at_us.is_(None)
    connection.execute(update(key).where(key.c.id == key_id, live).values(revoked_at_us=now_us))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _api_key(row: object) -> ApiKey:
    fields = {name: getattr(row, name) for name in ApiKey.__dataclass_fields__}
    return ApiKey(**{**fields, "scopes": tuple(fields["scopes"].split())})


class KeyCheck:
    """Answers what a presented key may do, from memory; the table is read again every 4 s.

    Args:
        clock: seconds that never go back; wall: Unix time in microseconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database, self._clock, self._wall = database, clock, wall
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, ApiKey]] = {}
        self._read_at = float("-inf")

    def find(self, presented: str) -> ApiKey | None:
        """The live key that was presented, or None. An unknown id is looked up, ten times a second at most."""
        prefix, _, rest = presented.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != "ttk" or not key_id or not secret:
            return None
        age = self._clock() - self._read_at
        if age >= FRESH_SECONDS or (key_id not in self._known and age >= UNKNOWN_SECONDS):
            self._read()
        stored_hash, key = self._known.get(key_id, (_hash(""), None))
        is_right = hmac.compare_digest(stored_hash, _hash(secret))
        if key is None or not is_right or key.is_revoked:
            return None
        return None if key.expires_at_us is not None and key.expires_at_us <= self._wall() else key

    def _read(self) -> None:
        with self._lock:
            now = self._clock()
            with self._database.read() as connection:
                rows = connection.execute(select(tables.api_key)).all()
            self._known = {row.id: (row.secret_hash, _api_key(row)) for row in rows}
            self._read_at = now
