"""Where we are mounted, put right: prefix-stripping proxies, and hosts whose router must not answer for ours."""

from starlette.types import ASGIApp, Receive, Scope, Send

_OF_THE_HOST = frozenset({"router", "app", "endpoint", "path_params", "session", "auth", "user"})


class FixRoot:
    """Gives `path` the prefix of `root_path` where a proxy in front of the host has stripped (a part of) it.

    Starlette matches routes on `path` below `root_path`. With `FastAPI(root_path="/svc")` behind a proxy that strips
    `/svc`, we are called with `root_path="/svc/llm-admin"` and `path="/llm-admin/…"`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with `path` put right."""
        if scope["type"] in ("http", "websocket"):
            root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
            if path != root and not path.startswith(f"{root}/"):
                scope = dict(scope, root_path=root, path=_with_prefix(root, path))
            elif root != scope.get("root_path", ""):
                scope = dict(scope, root_path=root)
        await self._app(scope, receive, send)


def _with_prefix(root: str, path: str) -> str:
    """`path` under `root`: what both share (the end of one, the beginning of the other) is not repeated."""
    cut = root.find("/", 1)
    while cut > 0:
        mount = root[cut:]
        if path == mount or path.startswith(f"{mount}/"):
            return root[:cut] + path
        cut = root.find("/", cut + 1)
    return root + path


class Isolate:
    """Hides the host's router: `url_for("admin:…")` inside finds our sqladmin, never one that the host mounts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request without the host's routing entries."""
        inner = {key: value for key, value in scope.items() if key not in _OF_THE_HOST}
        inner["app_root_path"] = scope.get("root_path", "")
        await self._app(inner, receive, send)
