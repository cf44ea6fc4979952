"""Our static files, served from a fixed map of names: no path of the file system is ever made from a URL."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file: `version` is the beginning of its SHA-256."""

    body: bytes
    media_type: str
    version: str


@cache
def assets() -> dict[str, Asset]:
    """Every static file by its path below `static/`."""
    found: dict[str, Asset] = {}
    _collect(files("turntrace.panel") / "static", "", found)
    return found


def _collect(folder: Traversable, prefix: str, found: dict[str, Asset]) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _collect(item, f"{prefix}{item.name}/", found)
            continue
        media_type = _TYPES.get(item.name[item.name.rfind(".") :])
        if media_type:
            body = item.read_bytes()
            found[prefix + item.name] = Asset(body, media_type, hashlib.sha256(body).hexdigest()[:12])


@cache
def release() -> str:
    """A short digest of all assets: part of their addresses, so that browsers never mix two releases."""
    digest = hashlib.sha256()
    for name, asset in sorted(assets().items()):
        digest.update(f"{name} {asset.version}\n".encode())
    return digest.hexdigest()[:10]


def serve(request: Request) -> Response:
    """`GET /static/{release}/{name}`: the file, cacheable for ever when the address names this release."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return Response("not found", status_code=404, media_type="text/plain")
    is_current = request.path_params["release"] == release()
    caching = "public, max-age=31536000, immutable" if is_current else "no-cache"
    return Response(asset.body, headers={"content-type": asset.media_type, "cache-control": caching})
