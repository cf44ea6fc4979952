"""JSON in: bounded in bytes and depth, checked against the declared schema."""

from typing import Any, Final

import orjson
from starlette.requests import Request

from turntrace.api.problem import Problem, bad_body
from turntrace.api.schema import Mismatch, Schema, check

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 32


async def read_body(request: Request, schema: Schema) -> dict[str, Any]:
    """The JSON object a request carries.

    Raises:
        Problem: 413, 415 or 400.
    """
    _check_media_type(request)
    value = _parse(await _read(request))
    _check_depth(value)
    try:
        check(value, schema)
    except Mismatch as mismatch:
        raise bad_body(mismatch.path, f"{mismatch.path}: {mismatch.reason}.") from None
    assert isinstance(value, dict)  # every declared body is an object
    return value


def _check_media_type(request: Request) -> None:
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise Problem(
            415, "media-type", "The media type is not supported", "Send `Content-Type: application/json` in UTF-8."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "content-encoding", "Compressed bodies are not supported", "Send the JSON uncompressed.")


async def _read(request: Request) -> bytes:
    too_large = Problem(413, "too-large", "The request body is too large", f"Send at most {MAX_BYTES:,} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > MAX_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise too_large
    return bytes(body)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise bad_body("$", f"This is not JSON in UTF-8: look at {where}.") from None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise bad_body("$", f"JSON is nested deeper than {MAX_DEPTH} levels: flatten it.")


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
