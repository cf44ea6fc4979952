"""Keys: every key Turntrace uses is derived, per purpose, from a ring of secret material.

The material comes from `secret_key` or from a 0600 key file beside (never in) the spool.
"""

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from turntrace.errors import KeyMissing
from turntrace.settings import Settings

_log = logging.getLogger("turntrace")
_ID_PURPOSE: Final = b"turntrace key id"
_MATERIAL_BYTES: Final = 32
_LONGEST_FILE: Final = 4096


def hkdf(material: bytes, purpose: bytes, salt: bytes = b"") -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869, one block)."""
    extracted = hmac.digest(salt or bytes(32), material, hashlib.sha256)
    return hmac.digest(extracted, purpose + b"\x01", hashlib.sha256)


SUBJECT_PURPOSE: Final = b"turntrace audit targets"


class KeyRing:
    """Secret keys by id. The first one writes, all of them read; nothing secret shows in `repr`, nothing is pickled."""

    __slots__ = ("_materials", "current_id", "is_explicit")

    def __init__(self, materials: list[bytes], *, is_explicit: bool) -> None:
        if not materials:
            raise ValueError("a key ring needs at least one key")
        self._materials: Mapping[str, bytes] = {_key_id(material): material for material in materials}
        self.current_id: str = _key_id(materials[0])
        self.is_explicit: bool = is_explicit

    @classmethod
    def from_settings(cls, settings: Settings, key_file: Path | None) -> "KeyRing":
        """The ring of these settings.

        Args:
            key_file: where the generated key lives; made (0600) when `secret_key` is not set, and read as a further key
                when it is, so that a spool written before the setting stays readable. None, or a place that cannot be
                written: a key of this process only, which no later process can read.
        """
        explicit = [part.strip().encode() for part in _text(settings).split(",") if part.strip()]
        if explicit:
            generated = _read(key_file) if key_file else None
            return cls([*explicit, *([generated] if generated else [])], is_explicit=True)
        return cls([_generated(key_file)], is_explicit=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids (8 hex digits) of all keys, the writing one first."""
        return tuple(self._materials)

    def derive(self, purpose: bytes, *, salt: bytes = b"", key_id: str | None = None) -> bytes:
        """32 bytes of key for one purpose.

        Raises:
            KeyMissing: `key_id` is not in the ring.
        """
        material = self._materials.get(key_id or self.current_id)
        if material is None:
            raise KeyMissing(f"the key {key_id} is not in the key ring: add it to secret_key behind the current one")
        return hkdf(material, purpose, salt)

    def __repr__(self) -> str:
        return f"KeyRing({len(self._materials)} keys)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing is not pickled")


def _key_id(material: bytes) -> str:
    return hkdf(material, _ID_PURPOSE)[:4].hex()


def _text(settings: Settings) -> str:
    return settings.secret_key.reveal() if settings.secret_key else ""


def _generated(key_file: Path | None) -> bytes:
    if key_file is not None:
        try:
            return _read(key_file) or _create(key_file)
        except OSError as error:
            _log.warning(
                "no key file can be made at %s (%s): this spool ends with its process", key_file, error.strerror
            )
    return secrets.token_hex(_MATERIAL_BYTES).encode()


def _read(key_file: Path) -> bytes | None:
    """The key in the file; None where there is no usable one."""
    try:
        descriptor = os.open(key_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            _log.warning("the key file %s is open to other users: chmod it to 0600", key_file)
        text = os.read(descriptor, _LONGEST_FILE).strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return text if len(text) >= _MATERIAL_BYTES else None


def _create(key_file: Path) -> bytes:
    """Make the key file. Of several processes that try at once one wins, and all return its key."""
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = key_file.with_name(f".{key_file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_hex(_MATERIAL_BYTES).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())  # a key lost to a power cut would make the whole spool unreadable
        try:
            os.link(fresh, key_file)
        except FileExistsError:
            if _read(key_file) is None:  # present but unusable (cut short, a symlink): nothing can be readable with it
                os.replace(fresh, key_file)
                return _must_read(key_file)
        return _must_read(key_file)
    finally:
        fresh.unlink(missing_ok=True)


def _must_read(key_file: Path) -> bytes:
    found = _read(key_file)
    if found is None:
        raise OSError(5, "the key file cannot be read back", str(key_file))
    return found


def subject_names(ring: KeyRing, text: str) -> tuple[str, ...]:
    """What may stand for a user or session id where the id itself must not stay: one keyed digest a key of the ring,
    the current one's first."""
    raw = text.encode("utf-8", "replace")
    keys = (ring.derive(SUBJECT_PURPOSE, key_id=key_id) for key_id in ring.ids)
    return tuple("~" + hmac.digest(key, raw, "sha256")[:16].hex() for key in keys)
