"""OTLP/JSON, one span or record at a time: the outer lists are split without building what is in them."""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import orjson

from turntrace.api.otlp.fault import Unreadable

Entry = tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]

# Each becomes an object in memory before it can be looked at: ten thousand spans of twenty attributes have 480,000.
MAX_COMMAS: Final = 500_000
# Up to this size a document that is not quite as it should be is read whole, so that its good spans are not lost.
_LENIENT_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 20


class _ScopeSpans(msgspec.Struct, gc=False):
    scope: msgspec.Raw = msgspec.Raw(b"{}")
    spans: list[msgspec.Raw] | None = None
    logRecords: list[msgspec.Raw] | None = None


class _ResourceSpans(msgspec.Struct, gc=False):
    resource: msgspec.Raw = msgspec.Raw(b"{}")
    scopeSpans: list[_ScopeSpans] | None = None
    scopeLogs: list[_ScopeSpans] | None = None


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans] | None = None
    resourceLogs: list[_ResourceSpans] | None = None


_decoder: Final = msgspec.json.Decoder(_Request)


def entries(body: memoryview, *, are_logs: bool) -> Iterator[Entry]:
    """Resource, scope, and span or record of a request, one after the other; None for one that cannot be read.

    Raises:
        Unreadable: it is not JSON, or the lists around them are none.
    """
    if sum(bytes(body[at : at + _PIECE]).count(b",") for at in range(0, len(body), _PIECE)) > MAX_COMMAS:
        raise Unreadable(f"it has more than {MAX_COMMAS:,} values: export fewer spans at once, or as protobuf")
    try:
        request = _decoder.decode(body)
    except RecursionError:
        raise Unreadable("it is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if len(body) > _LENIENT_BYTES:
            raise Unreadable(_place(error)) from None
        yield from _leniently(body, error, are_logs)
        return
    for outer in (request.resourceLogs if are_logs else request.resourceSpans) or ():
        resource = _mapping(outer.resource)
        for inner in (outer.scopeLogs if are_logs else outer.scopeSpans) or ():
            scope = _mapping(inner.scope)
            for raw in (inner.logRecords if are_logs else inner.spans) or ():
                yield resource, scope, _loaded(raw)


def _mapping(raw: msgspec.Raw) -> dict[str, Any]:
    return _loaded(raw) or {}


def _loaded(raw: msgspec.Raw) -> dict[str, Any] | None:
    view = memoryview(raw)
    try:
        found = orjson.loads(view)
    except ValueError:
        found = _tolerant(bytes(view))
    return found if isinstance(found, dict) else None


def _tolerant(text: bytes) -> Any:
    """Python's own reader takes lone surrogates, which texts of models do hold."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _leniently(body: memoryview, error: Exception, are_logs: bool) -> Iterator[Entry]:
    found = _tolerant(bytes(body))
    if not isinstance(found, dict):
        raise Unreadable(_place(error))
    names = ("resourceLogs", "scopeLogs", "logRecords") if are_logs else ("resourceSpans", "scopeSpans", "spans")
    outers = found.get(names[0])
    if outers is not None and not isinstance(outers, list):
        raise Unreadable(f"`{names[0]}` is no list")
    for outer in _dicts(outers):
        for inner in _dicts(outer.get(names[1])):
            leaves = inner.get(names[2])
            for raw in leaves if isinstance(leaves, list) else ():
                yield _dict(outer.get("resource")), _dict(inner.get("scope")), raw if isinstance(raw, dict) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _place(error: Exception) -> str:
    """Where it is wrong: the decoder names places and types, never values."""
    return str(error)[:200] if isinstance(error, msgspec.DecodeError) else "it is not UTF-8"
