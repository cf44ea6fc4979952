"""Small secrets in the database (API keys of judges): AES-256-GCM under a key of the ring, as text."""

import base64
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from turntrace.errors import KeyMissing
from turntrace.keyring import KeyRing

_PURPOSE: Final = b"sealed secrets"
_NONCE_BYTES: Final = 12


def seal(keys: KeyRing, text: str) -> str:
    """The text, encrypted: `<key id>:<base64 of nonce and ciphertext>`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(keys.derive(_PURPOSE)).encrypt(nonce, text.encode(), None)
    return f"{keys.current_id}:{base64.b64encode(nonce + sealed).decode()}"


def is_current(keys: KeyRing, sealed: str) -> bool:
    """Whether it is sealed with the key that writes now."""
    return sealed.startswith(f"{keys.current_id}:")


def unseal(keys: KeyRing, sealed: str) -> str:
    """The text again.

    Raises:
        KeyMissing: its key is not in the ring, or what is stored was damaged.
    """
    key_id, _, encoded = sealed.partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
        return (
            AESGCM(keys.derive(_PURPOSE, key_id=key_id)).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
        )
    except (ValueError, InvalidTag) as error:
        raise KeyMissing("a sealed secret cannot be opened: store it again") from error
