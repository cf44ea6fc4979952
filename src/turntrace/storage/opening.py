"""The database of some settings, with what seals its content. Nothing is connected, no key asked for, before use."""

from typing import Any

from turntrace.errors import SettingsError
from turntrace.keyring import KeyRing
from turntrace.settings import Secret, Settings
from turntrace.storage.database import Database
from turntrace.storage.seal import Cipher, of_ring


def open_database(settings: Settings, engine: Any = None) -> Database:
    """The database of these settings."""
    database = Database(settings.database_url, engine=engine)
    database.cipher = cipher_of(settings)
    database.stores = {name: _store(name, url, database.cipher) for name, url in settings.content_stores().items()}
    return database


def _store(environment: str, url: Secret, cipher: Cipher | None) -> Database:
    setting = f"content_urls, {environment}"
    store = Database(url, setting=setting)
    if store.is_memory:  # each process would have one of its own
        raise SettingsError(f"{setting}: content cannot lie in memory: name a file or a server")
    store.cipher, store.is_store = cipher, True
    return store


def cipher_of(settings: Settings) -> Cipher | None:
    """What seals content; None where there is no key that every host shares, so that nothing can be sealed."""
    if settings.content_keys is not None:
        return Cipher(settings.content_keys, is_writing=settings.encrypt_content)
    if settings.secret_key is None:
        return None
    # Explicit keys only: a generated key file lives and dies with one host's spool.
    return Cipher(of_ring(KeyRing.from_settings(settings, None)), is_writing=settings.encrypt_content)
