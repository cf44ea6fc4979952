"""Whose data it is: the ids under which a person is stored."""

import hmac
from typing import Final

from turntrace.keyring import KeyRing
from turntrace.pipeline.identify import bounded

PSEUDONYM_PURPOSE: Final = b"pseudonyms"


def pseudonym(keys: KeyRing, user_id: str, *, key_id: str | None = None) -> str:
    """What `identify=hash` stores of a user id: 32 hex digits, the same for the same id and key, and no way back."""
    key = keys.derive(PSEUDONYM_PURPOSE, key_id=key_id)
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()


def stored_ids(keys: KeyRing | None, user_id: str) -> tuple[str, ...]:
    """Every id that this person's turns may be stored under: as it is, and pseudonymous under each key of the ring."""
    plain = bounded(user_id)
    found = [plain] if plain else []
    if keys is not None:
        found += [pseudonym(keys, user_id, key_id=key_id) for key_id in keys.ids]
    return tuple(dict.fromkeys(found))
