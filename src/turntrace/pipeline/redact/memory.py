"""Remembers where personal data stood in texts seen before, without keeping a character of them."""

import secrets
from hashlib import blake2b
from typing import Final

from turntrace.pipeline.redact.analysis import Entity, Failure

Known = tuple[Entity, ...] | Failure
_DIGEST: Final = 16  # bytes: collisions are beyond reach even for someone who could choose every text


class Memory:
    """Findings by keyed hash of the text; the key is random and dies with the process.

    Holds between `capacity` and twice as many texts: what was not asked for during one whole generation is forgotten.
    """

    def __init__(self, capacity: int = 50_000) -> None:
        self._capacity = capacity
        self._key = secrets.token_bytes(32)
        self._young: dict[bytes, Known] = {}
        self._old: dict[bytes, Known] = {}

    def name(self, text: str) -> bytes:
        """The keyed hash under which `text` is remembered."""
        return blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=_DIGEST).digest()

    def get(self, name: bytes) -> Known | None:
        """The findings of a text, or None where it is not remembered."""
        found = self._young.get(name)
        if found is None and (found := self._old.get(name)) is not None:
            self.put(name, found)
        return found

    def put(self, name: bytes, findings: Known) -> None:
        """Remember the findings of a text."""
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        self._young[name] = findings
