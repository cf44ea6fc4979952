"""Where stored turns are sent on to over OTLP, which of them, and what it answers: setting `export_to`."""

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final
from urllib.parse import urlsplit

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_HEADER: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_SPACE: Final = 1 << 56  # what the random part of a W3C trace id can be (level 2: its last 56 bits)
OWN_PREFIX: Final = "turntrace"  # of the environments of our own evaluators and probes


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One OTLP/HTTP endpoint.

    Args:
        url: the whole address, the path included (`…/v1/traces`).
        headers: sent with every request: keys. They never show in `repr`.
        environments: shell-style patterns; none: all but those of our own evaluators and probes.
        routes: shell-style patterns of the turn's route, or of its name where it has none; none: all.
        sample_rate: share of the traces, 0..1, decided by the W3C trace id: a trace goes whole or not at all.
        content: whether texts go (redacted as they are stored), or numbers and names only.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    environments: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    sample_rate: float = 1.0
    content: bool = False

    @property
    def host(self) -> str:
        """Where it is, for people: host and port without user info."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def samples(self, trace_id: str) -> bool:
        """Whether this W3C trace is among the share that is sent."""
        if self.sample_rate >= 1:
            return True
        return int(trace_id[-14:], 16) < self.sample_rate * _SPACE

    def wants(self, *, environment: str, route: str) -> bool:
        """Whether turns of this environment and route are sent."""
        if not self.environments and environment.startswith(OWN_PREFIX):
            return False
        return _matches(environment, self.environments) and _matches(route, self.routes)


class Verdict(Enum):
    """What a destination says to a request."""

    TAKEN = "taken"
    REFUSED = "refused"  # it does not want this, ever
    LATER = "later"  # nobody knows whether it has it: send again


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a request went; `reason` holds a status or the name of an error, nothing of what was sent or answered."""

    verdict: Verdict
    reason: str = ""
    retry_seconds: float | None = None  # the destination asks for this pause


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


def read_destinations(text: str) -> tuple[Destination, ...]:
    """Destinations of a JSON list of objects with the names of `Destination`, or of one such object.

    Raises:
        ValueError: what is wrong, and with which destination; no header value is in the message.
    """
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("expected JSON: a list of objects with name and url") from None
    entries = found if isinstance(found, list) else [found]
    destinations = tuple(_destination(entry) for entry in entries)
    names = [destination.name for destination in destinations]
    if len(set(names)) != len(names):
        raise ValueError("two destinations have the same name")
    return destinations


def _destination(entry: Any) -> Destination:
    if not isinstance(entry, dict):
        raise ValueError("expected JSON: a list of objects with name and url")
    known = {item.name for item in fields(Destination)}
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ValueError(f"a destination has no {', '.join(map(str, unknown))}; it has {', '.join(sorted(known))}")
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError("a destination's name is lower case letters, digits, - and _, at most 40")
    values = {**entry, **{key: _patterns(name, key, entry.get(key, ())) for key in ("environments", "routes")}}
    _check(name, values)
    return Destination(**values)


def _patterns(name: str, key: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) for item in values):
        raise ValueError(f"{name}: {key} is a list of patterns")
    return tuple(values)


def _check(name: str, values: Mapping[str, Any]) -> None:
    url = values.get("url")
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError(f"{name}: url is an http or https address without user info")
    if any(ord(character) <= 32 or ord(character) > 126 for character in str(url)):
        raise ValueError(f"{name}: url holds characters that no address has")
    rate = values.get("sample_rate", 1.0)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise ValueError(f"{name}: sample_rate is a number from 0 to 1")
    if not isinstance(values.get("content", False), bool):
        raise ValueError(f"{name}: content is true or false")
    headers = values.get("headers", {})
    if not isinstance(headers, dict) or not all(map(_is_header, headers.items())):
        raise ValueError(f"{name}: headers is an object of header names and texts of one line")


def _is_header(item: tuple[Any, Any]) -> bool:
    name, value = item
    if not isinstance(name, str) or not isinstance(value, str) or not _HEADER.match(name):
        return False
    return value.isascii() and value.isprintable()
