"""Content sealed at rest: AES-256-GCM under keys of the ring, or under keys that a callable gives (a KMS).

A `Cipher` belongs to the dialect of one `Database`: columns of the type `Sealed` are sealed on their way in and opened
on their way out. Blobs of turns name their key in their row, texts begin with theirs.
"""

import base64
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Dialect, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from turntrace.errors import KeyMissing, SettingsError
from turntrace.keyring import KeyRing, hkdf

PURPOSE: Final = b"turntrace content"
# Begins a sealed text; its first character is of the private use area, so that hardly any text begins so by chance.
PREFIX: Final = "\ue0a5sealed:"
UNREADABLE: Final = "[sealed with a key that is not in the key ring]"
LONGEST_ID: Final = 8
# How long the current key of a callable is used before it is asked again.
KEY_SECONDS: Final = 300.0
_NONCE_BYTES: Final = 12
_TEXT_SALT: Final = b"text"

# Asked with a key id, or None for the key that writes now; answers (id, 32 bytes). May block: it is asked seldom.
KeySource = Callable[[str | None], tuple[str, bytes]]


def of_ring(ring: KeyRing) -> KeySource:
    """The keys of a ring, derived for content."""

    def find(key_id: str | None) -> tuple[str, bytes]:
        found = key_id or ring.current_id
        return found, ring.derive(PURPOSE, key_id=found)

    return find


class Cipher:
    """Seals and opens. For several threads, without a lock that a fork could find held.

    Args:
        source: where keys come from.
        is_writing: whether new rows are sealed; what is sealed already is opened either way.
    """

    def __init__(self, source: KeySource, *, is_writing: bool) -> None:
        self._source, self.is_writing = source, is_writing
        self._known: dict[str, bytes] = {}
        self._current: tuple[str, float] | None = None

    @property
    def current_id(self) -> str:
        """The id of the key that writes now.

        Raises:
            SettingsError: the callable gives no usable key.
        """
        known = self._current
        if known is None or time.monotonic() - known[1] > KEY_SECONDS:
            known = self._current = self._ask(None), time.monotonic()
        return known[0]

    def seal(self, text: bytes, *, about: bytes) -> tuple[str, bytes]:
        """A key id, and the text sealed under that key; it opens only with the same `about`."""
        key_id = self.current_id
        nonce = os.urandom(_NONCE_BYTES)
        return key_id, nonce + self._gcm(key_id, about).encrypt(nonce, text, about)

    def open(self, key_id: str, sealed: bytes, *, about: bytes) -> bytes:
        """What was sealed.

        Raises:
            KeyMissing: the key is not to be had.
            ValueError: it was changed, or belongs to something else.
        """
        try:
            return self._gcm(key_id, about).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about)
        except InvalidTag as error:
            raise ValueError("sealed content was changed, or belongs to another row") from error

    def seal_text(self, text: str) -> str:
        """A text as a column holds it."""
        key_id, sealed = self.seal(text.encode("utf-8", "surrogatepass"), about=_TEXT_SALT)
        return f"{PREFIX}{key_id}:{base64.b64encode(sealed).decode()}"

    def open_text(self, text: str) -> str:
        """What a column holds, opened where it is sealed.

        Raises:
            KeyMissing, ValueError: it cannot be opened.
        """
        key_id, _, body = text[len(PREFIX) :].partition(":")
        return self.open(key_id, base64.b64decode(body), about=_TEXT_SALT).decode("utf-8", "surrogatepass")

    def _gcm(self, key_id: str, about: bytes) -> AESGCM:
        if key_id not in self._known:
            self._ask(key_id)
        return AESGCM(hkdf(self._known[key_id], PURPOSE, about))

    def _ask(self, key_id: str | None) -> str:
        found, key = self._source(key_id)
        if not 0 < len(found) <= LONGEST_ID or not found.isascii() or ":" in found or len(key) != 32:
            raise SettingsError(f"content_keys: expected an id of 1 to {LONGEST_ID} ASCII characters and 32 bytes")
        if key_id is not None and found != key_id:
            raise KeyMissing(f"the key {key_id} is not to be had")
        self._known[found] = key
        return found


_ciphers: "weakref.WeakKeyDictionary[Dialect, Cipher]" = weakref.WeakKeyDictionary()


def use(dialect: Dialect, cipher: Cipher) -> None:
    """Let the columns of this dialect's engine be sealed and opened by `cipher`."""
    _ciphers[dialect] = cipher


def cipher_of(dialect: Dialect) -> Cipher | None:
    """The cipher of an engine's dialect, or None."""
    return _ciphers.get(dialect)


def sealed_text(dialect: Dialect, text: str | None) -> str | None:
    """A text as it is to be stored."""
    cipher = _ciphers.get(dialect)
    return text if text is None or cipher is None or not cipher.is_writing else cipher.seal_text(text)


def opened_text(dialect: Dialect, text: str | None, unreadable: str = UNREADABLE) -> str | None:
    """A stored text; `unreadable` in its place where it cannot be opened."""
    if text is None or not text.startswith(PREFIX):
        return text
    cipher = _ciphers.get(dialect)
    try:
        return unreadable if cipher is None else cipher.open_text(text)
    except (KeyMissing, ValueError):
        return unreadable


class Sealed(TypeDecorator[str]):
    """Text that is sealed where encryption is on. It cannot be searched then: nothing like it is in the column.

    Args:
        is_sealing: False where the writer seals by hand what must be.
        unreadable: what stands for a text that cannot be opened here.
    """

    impl = Text
    cache_ok = True

    def __init__(self, *, is_sealing: bool = True, unreadable: str = UNREADABLE) -> None:
        super().__init__()
        self.is_sealing, self.unreadable = is_sealing, unreadable

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Long text, as the other texts of ours."""
        return mysql.LONGTEXT() if dialect.name in ("mysql", "mariadb") else Text()

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        """What a column is compared with is not sealed."""
        return Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """On the way in."""
        return sealed_text(dialect, value) if self.is_sealing else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """On the way out."""
        return opened_text(dialect, value, self.unreadable)
