"""Cross-origin requests of front ends that send scores: configured origins only, no credentials."""

from collections.abc import Collection
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_DAY_SECONDS: Final = "86400"


def allowed_origin(request: Request, origins: Collection[str]) -> str | None:
    """The origin to name in the answer, or None."""
    origin = request.headers.get("origin")
    return origin if origin is not None and origin in origins else None


def preflight(request: Request, method: str, origin: str) -> Response | None:
    """The answer to a preflight for this method, or None when the request is none."""
    if request.method != "OPTIONS" or request.headers.get("access-control-request-method") != method:
        return None
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": method,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": _DAY_SECONDS,
        "Vary": "Origin",
    }
    return Response(status_code=204, headers=headers)
