"""W3C Baggage: the `baggage` header to entries and back. Which entries are believed or sent is decided elsewhere."""

import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from turntrace.tracing.propagation import header_values, remove_header

BAGGAGE: Final = "baggage"
SESSION_ID: Final = "session.id"
# Entries that say whose turn it is, and the fields of the turn that hold them.
FIELDS: Final[Mapping[str, str]] = {
    SESSION_ID: "session_id",
    "user.id": "user_id",
    "feature": "feature",
    "experiment": "experiment",
    "tags": "tags",
}
MAX_MEMBERS: Final = 64
MAX_BYTES: Final = 8192
_OWS: Final = " \t"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_PLAIN: Final = "!#$&'()*+-./:<=>?@[]^_`{|}~"  # what a value may hold unescaped, beside letters and digits


@dataclass(frozen=True, slots=True)
class BaggageEntry:
    """One list-member, as it stood in the header: `raw` and properties are still percent-encoded."""

    key: str
    raw: str
    properties: tuple[tuple[str, str | None], ...] = ()

    @property
    def value(self) -> str:
        """The decoded value; octets that are not UTF-8 become U+FFFD."""
        return unquote(self.raw, errors="replace")

    @staticmethod
    def is_key(key: str) -> bool:
        """Whether the text may be the key of an entry."""
        return _TOKEN.fullmatch(key) is not None

    @classmethod
    def of(cls, key: str, value: str) -> "BaggageEntry":
        """An entry of a plain key and any text.

        Raises:
            ValueError: the key is not a token.
        """
        if not _TOKEN.fullmatch(key):
            raise ValueError(f"a baggage key is a token of letters, digits and !#$%&'*+-.^_`|~, not {key!r}")
        return cls(key, quote(value, safe=_PLAIN, errors="replace"))

    def __str__(self) -> str:
        parts = [f"{self.key}={self.raw}"]
        parts += [key if value is None else f"{key}={value}" for key, value in self.properties]
        return ";".join(parts)


def parse_baggage(values: Sequence[str]) -> tuple[BaggageEntry, ...]:
    """Entries of all `baggage` headers together, at most 64 in at most 8,192 bytes; malformed ones are left out."""
    entries: list[BaggageEntry] = []
    size = 0
    for part in ",".join(values).split(","):
        size += len(part) + 1
        if size > MAX_BYTES + 1 or len(entries) == MAX_MEMBERS:
            break
        entry = _parse_member(part)
        if entry is not None:
            entries.append(entry)
    return tuple(entries)


def _parse_member(text: str) -> BaggageEntry | None:
    head, *tail = text.split(";")
    key, equals, raw = head.partition("=")
    key, raw = key.strip(_OWS), raw.strip(_OWS)
    if not equals or not _TOKEN.fullmatch(key) or not _VALUE.fullmatch(raw):
        return None
    properties = []
    for part in tail:
        name, equals, value = (piece.strip(_OWS) for piece in part.partition("="))
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            return None
        properties.append((name, value if equals else None))
    return BaggageEntry(key, raw, tuple(properties))


def format_baggage(entries: Iterable[BaggageEntry]) -> str:
    """Value of the `baggage` header; entries past 64 or past 8,192 bytes are left out whole."""
    members: list[str] = []
    size = -1
    for entry in entries:
        text = str(entry)
        if len(members) == MAX_MEMBERS or size + 1 + len(text) > MAX_BYTES:
            continue
        members.append(text)
        size += 1 + len(text)
    return ",".join(members)


def baggage_values(entries: Iterable[BaggageEntry]) -> dict[str, str]:
    """Decoded values by key; of entries with the same key the last counts."""
    return {entry.key: entry.value for entry in entries}


def extract_baggage(carrier: Mapping[str, str | Sequence[str]]) -> tuple[BaggageEntry, ...]:
    """Entries of a mapping of headers."""
    return parse_baggage(header_values(carrier, BAGGAGE))


def inject_baggage(headers: MutableMapping[str, str], values: Mapping[str, str | None]) -> None:
    """Put entries in front of what the `baggage` header has; those that are None or already there are left out."""
    present = extract_baggage(headers)
    known = {entry.key for entry in present}
    added = [BaggageEntry.of(key, value) for key, value in values.items() if value and key not in known]
    text = format_baggage([*added, *present]) if added else ""
    if text:
        remove_header(headers, BAGGAGE)
        headers[BAGGAGE] = text


def withdraw_baggage(headers: MutableMapping[str, str], values: Mapping[str, str | None]) -> None:
    """Take these entries out again where they have these very values: a redirect may lead to a host that gets none."""
    present = extract_baggage(headers)
    kept = [entry for entry in present if values.get(entry.key) != entry.value]
    if len(kept) < len(present):
        remove_header(headers, BAGGAGE)
        if kept:
            headers[BAGGAGE] = format_baggage(kept)


def tags_to_text(tags: Iterable[str]) -> str | None:
    """Tags as one value, separated by commas; a comma inside a tag is escaped."""
    return ",".join(tag.replace("%", "%25").replace(",", "%2C") for tag in tags) or None


def text_to_tags(text: str | None) -> tuple[str, ...]:
    """The tags in a value."""
    parts = (part.strip().replace("%2C", ",").replace("%25", "%") for part in (text or "").split(","))
    return tuple(part for part in parts if part)
