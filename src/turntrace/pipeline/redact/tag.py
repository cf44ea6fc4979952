"""Placeholders: keyed when stored (`<EMAIL_k1f2a3b4c>`), numbered when shown (`<EMAIL_1>`)."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

_EVERYWHERE: Final = "everywhere"
_STORED: Final = re.compile(r"<([A-Z][A-Z0-9_]{0,39})_k[0-9a-f]{8}>")
_SHORT: Final = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "US_BANK_NUMBER": "BANK_ACCOUNT",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
    "US_PASSPORT": "PASSPORT",
    "DATE_TIME": "DATE",
}
_VERBATIM: Final = frozenset({"PASSWORD", "API_KEY", "PRIVATE_KEY", "JWT", "CRYPTO"})
_SEPARATORS: Final = re.compile(r"[\s\-./()]+")


def label(entity_type: str) -> str:
    """The name that stands in placeholders for a Presidio entity type: `EMAIL_ADDRESS` gives `EMAIL`."""
    return _SHORT.get(entity_type, entity_type)


class Tagger:
    """Makes the placeholders of one scope (a turn): one value gives one placeholder, whoever asks and whenever.

    The value cannot be computed from the placeholder without the key, and the same value gives different placeholders
    in different scopes.

    Args:
        is_everywhere: one value gives one placeholder in every scope, a longer one that is shown as it is.
    """

    __slots__ = ("_is_everywhere", "_key", "_scope")

    def __init__(self, key: bytes, scope: str, *, is_everywhere: bool = False) -> None:
        self._key = key[:64]
        self._scope = _EVERYWHERE if is_everywhere else scope
        self._is_everywhere = is_everywhere

    def tag(self, entity_type: str, value: str) -> str:
        """The stored placeholder of `value`."""
        name = label(entity_type)
        written = f"{self._scope}\0{name}\0{_canonical(name, value)}"
        size, mark = (8, "h") if self._is_everywhere else (4, "k")
        digest = blake2b(written.encode("utf-8", "surrogatepass"), key=self._key, digest_size=size).hexdigest()
        return f"<{name}_{mark}{digest}>"


def _canonical(name: str, value: str) -> str:
    """Spellings of one value brought together: case, and separators between digits."""
    if name in _VERBATIM:
        return value
    folded = value.casefold()
    return folded.strip() if name in {"EMAIL", "URL", "IP", "PERSON"} else _SEPARATORS.sub("", folded)


def number_tags(value: Any, numbering: dict[str, str] | None = None) -> Any:
    """Stored placeholders in a structure of strings, lists and mappings numbered for display.

    Args:
        value: any JSON-like structure; it is not changed.
        numbering: stored placeholder → shown one; pass one dict for all fields of a trace, it is filled.

    Returns:
        The same shape with `<EMAIL_1>` for the first e-mail address met, and so on.
    """
    known: dict[str, str] = {} if numbering is None else numbering
    if isinstance(value, str):
        return _number_text(value, known)
    if isinstance(value, Mapping):
        return {_number_text(key, known): number_tags(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(number_tags(item, known) for item in value)
    return value


def _number_text(text: Any, numbering: dict[str, str]) -> Any:
    if not isinstance(text, str) or "_k" not in text:
        return text
    return _STORED.sub(lambda match: _shown(match[0], match[1], numbering), text)


def _shown(stored: str, name: str, numbering: dict[str, str]) -> str:
    if stored not in numbering:
        start = f"<{name}_"
        taken = sum(shown.startswith(start) and shown[len(start) : -1].isdigit() for shown in numbering.values())
        numbering[stored] = f"{start}{taken + 1}>"
    return numbering[stored]
