"""Requests that change something: they must come from our own pages and carry the token of their session."""

import hashlib
import hmac
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
FIELD: Final = "csrf_token"
HEADER: Final = "x-csrf-token"
MAX_BODY_BYTES: Final = 1 << 20
MAX_FIELDS: Final = 1000
REPLACEMENT: Final = b"%EF%BF%BD"  # U+FFFD as addresses and forms write it
_FORM: Final = "application/x-www-form-urlencoded"

Form = dict[str, str]


class BodyTooLarge(Exception):
    """The request body is larger than 1 MiB, or has more than 1,000 fields."""


def token_of(secret: str) -> str:
    """The CSRF token that belongs to a session secret; tells nothing about the secret."""
    return hmac.new(secret.encode(), b"turntrace panel csrf", hashlib.sha256).hexdigest()


def matches(expected: str, given: str | None) -> bool:
    """Constant-time comparison."""
    return given is not None and hmac.compare_digest(expected.encode(), given.encode())


def site_of(scope: Scope, own_url: str | None = None) -> str:
    """Where a request comes from, by fetch metadata or Origin: `same`, `cross`, `hidden` (Origin: null) or `unknown`.

    Args:
        scope: of the request.
        own_url: public address of the panel, for proxies that rewrite Host.
    """
    headers = Headers(scope=scope)
    fetch_site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if fetch_site:
        return "same" if fetch_site == "same-origin" else "cross"
    if origin is None:
        return "unknown"
    if origin == "null":  # our own Referrer-Policy makes browsers say so on plain HTTP
        return "hidden"
    hosts = {headers.get("host", "").lower(), urlsplit(own_url or "").netloc.lower()} - {""}
    try:
        return "same" if urlsplit(origin).netloc.lower() in hosts else "cross"
    except ValueError:  # nothing that a browser says
        return "cross"


async def read_form(scope: Scope, receive: Receive) -> tuple[Form, Receive]:
    """The fields of a urlencoded body (last value of each), and a `receive` that plays the body again.

    Raises:
        BodyTooLarge: more than `MAX_BODY_BYTES` or `MAX_FIELDS`.
    """
    body = await _read(receive)
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    form: Form = {}
    if kind == _FORM:
        body = body.replace(b"%00", REPLACEMENT).replace(b"\0", REPLACEMENT)  # PostgreSQL takes no U+0000
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            raise BodyTooLarge from None
        form = {name: values[-1] for name, values in fields.items()}
    return form, _replay(body, receive)


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunks.append(message.get("body", b""))
        length += len(chunks[-1])
        if length > MAX_BODY_BYTES:
            raise BodyTooLarge
        if not message.get("more_body"):
            break
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
