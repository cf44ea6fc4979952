"""What a request tells about its turn: the caller's trace, session, user. ASGI scopes and WSGI environs alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from turntrace.capture.rules import CaptureRules
from turntrace.tracing.baggage import FIELDS, SESSION_ID, BaggageEntry, baggage_values, parse_baggage
from turntrace.tracing.propagation import RemoteContext, read_context

REQUEST_ID: Final = "x-request-id"
_NO_VALUES: Final[Sequence[str]] = ()


@dataclass(slots=True)
class Incoming:
    """What was believed of a request's headers. `said` holds baggage entries by key, those the settings name."""

    parent: RemoteContext | None = None
    session_id: str | None = None
    request_id: str | None = None
    said: dict[str, str] = field(default_factory=dict)
    foreign: tuple[BaggageEntry, ...] = ()  # other entries, passed on as they came


_NOTHING: Final = Incoming()  # of most requests; nobody changes it


class HeaderNames:
    """The headers worth reading, in the forms of both interfaces."""

    __slots__ = ("asgi", "wsgi")

    def __init__(self, rules: CaptureRules) -> None:
        names = {"traceparent", "tracestate", "baggage", REQUEST_ID, rules.session_header}
        if rules.session_cookie:
            names.add("cookie")
        self.asgi = {name.encode("latin-1"): name for name in names}
        self.wsgi = {f"HTTP_{name.upper().replace('-', '_')}": name for name in names}


def asgi_headers(names: HeaderNames, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Values of the headers worth reading, in order; names as the settings write them, lower case."""
    found: dict[str, list[str]] = {}
    wanted = names.asgi
    for key, value in headers:
        name = wanted.get(key)
        if name is not None:
            found.setdefault(name, []).append(value.decode("latin-1"))
    return found


def wsgi_headers(names: HeaderNames, environ: Mapping[str, Any]) -> dict[str, list[str]]:
    """The same of an environ, where a server has already joined repeated headers with commas."""
    return {name: [environ[key]] for key, name in names.wsgi.items() if key in environ}


def read_request(
    rules: CaptureRules, headers: Mapping[str, Sequence[str]], peer: str | None, query: Callable[[], str]
) -> Incoming:
    """Decide what to believe.

    Args:
        headers: from `asgi_headers` or `wsgi_headers`.
        peer: address of the peer, None where there is none (unix socket).
        query: gives the query string; only called where the session may stand in it.
    """
    if not headers and not rules.session_query:
        return _NOTHING
    incoming = Incoming()
    if "traceparent" in headers and rules.trust.continues_trace(peer):
        incoming.parent = read_context(headers["traceparent"], headers.get("tracestate", _NO_VALUES))
    if REQUEST_ID in headers:
        incoming.request_id = clean(headers[REQUEST_ID][0])
    if "baggage" in headers and rules.trust.believes_baggage(peer):
        entries = parse_baggage(headers["baggage"])
        incoming.foreign = tuple(entry for entry in entries if entry.key not in FIELDS)
        said = baggage_values(entries)
        incoming.said = {key: value for key, value in said.items() if key in rules.baggage_keys}
    incoming.session_id = _session(rules, headers, query) or clean(incoming.said.pop(SESSION_ID, None))
    return incoming


def _session(rules: CaptureRules, headers: Mapping[str, Sequence[str]], query: Callable[[], str]) -> str | None:
    found = None
    if rules.session_header in headers:
        found = clean(headers[rules.session_header][0])
    if not found and rules.session_cookie and "cookie" in headers:
        found = clean(_cookie(headers["cookie"], rules.session_cookie))
    if not found and rules.session_query:
        pairs = parse_qsl(query(), errors="replace", max_num_fields=None)
        found = next((clean(value) for key, value in pairs if key == rules.session_query), None)
    return found


def _cookie(values: Sequence[str], name: str) -> str | None:
    for part in ";".join(values).split(";"):
        key, equals, value = part.partition("=")
        if equals and key.strip() == name:
            return value.strip().strip('"')
    return None


def clean(text: str | None) -> str | None:
    """An identifier from outside: header text that is UTF-8 is read as such; nothing but blanks is nothing."""
    if text is None:
        return None
    if not text.isascii():
        with suppress(UnicodeError):  # not from a header, or really latin-1
            text = text.encode("latin-1").decode("utf-8")
    return text.strip() or None


def identity(found: Any) -> str | None:
    """What a host's `session_id` or `user_id` callable answered, as text."""
    return None if found is None or found == "" else str(found)
