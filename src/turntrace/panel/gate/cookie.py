"""Our cookies: below the mount only, never read by scripts, never sent by other sites."""

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from turntrace.settings import Settings

PLAIN_NAME: Final = "turntrace_panel"
SECURE_NAME: Final = "__Secure-turntrace_panel"
LOGIN_NAME: Final = "turntrace_login"


def is_https(request: Request, settings: Settings) -> bool:
    """Whether the browser speaks HTTPS to us: by the scheme, or by the public address in the settings."""
    return request.scope.get("scheme") == "https" or urlsplit(settings.panel_url or "").scheme == "https"


def name(request: Request, settings: Settings) -> str:
    """Name of the session cookie; browsers accept the `__Secure-` prefix only over HTTPS."""
    return SECURE_NAME if is_https(request, settings) else PLAIN_NAME


def put(
    response: Response, request: Request, settings: Settings, key: str, value: str, max_age: int | None = None
) -> None:
    """Set a cookie that only the panel gets."""
    response.set_cookie(
        key,
        value,
        max_age=max_age,
        path=_path(request),
        secure=is_https(request, settings),
        httponly=True,
        samesite="strict",
    )


def drop(response: Response, request: Request, settings: Settings, key: str) -> None:
    """Delete a cookie of ours."""
    response.delete_cookie(
        key, path=_path(request), secure=is_https(request, settings), httponly=True, samesite="strict"
    )


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"
