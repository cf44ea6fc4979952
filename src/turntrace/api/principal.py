"""Who calls: the key of a request and what it may do."""

from dataclasses import dataclass
from typing import Final

SCOPES: Final = ("read", "write", "feedback", "erase", "ingest", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The holder of a valid key."""

    key_id: str
    name: str
    scopes: frozenset[str]

    def may(self, *scopes: str) -> bool:
        """Whether the key has any of these scopes; `admin` has all of them."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)
