"""The database of some settings, with what seals its content. Nothing is connected, no key asked for, before use."""

from typing import Any

from turntrace.keyring import KeyRing
from turntrace.settings import Settings
from turntrace.storage.database import Database
from turntrace.storage.seal import Cipher, of_ring


def open_database(settings: Settings, engine: Any = None) -> Database:
    """The database of these settings."""
    database = Database(settings.database_url, engine=engine)
    database.cipher = cipher_of(settings)
    return database


def cipher_of(settings: Settings) -> Cipher | None:
    """What seals content; None where there is no key that every host shares, so that nothing can be sealed."""
    if settings.content_keys is not None:
        return Cipher(settings.content_keys, is_writing=settings.encrypt_content)
    if settings.secret_key is None:
        return None
    # Explicit keys only: a generated key file lives and dies with one host's spool.
    return Cipher(of_ring(KeyRing.from_settings(settings, None)), is_writing=settings.encrypt_content)
