"""Route templates, read from what the frameworks leave in scope and environ. None of them is imported."""

from typing import Any


def asgi_route(scope: Any, outer_root: str) -> str | None:
    """Template such as `/chats/{chat_id}` of a Starlette or FastAPI route, mounts in front; None where unknown.

    Args:
        outer_root: `root_path` as it was when the request came in; it is no part of the template.
    """
    mounted = scope.get("root_path", "")
    mounted = mounted[len(outer_root) :] if mounted.startswith(outer_root) else ""
    route = scope.get("route")
    # Where a mounted application is of another kind, the mount itself is all there is to name.
    if not hasattr(route, "endpoint"):
        return mounted or None
    path = _included_path(scope, route) or getattr(route, "path", None)
    return mounted + path if isinstance(path, str) else None


def _included_path(scope: Any, route: Any) -> str | None:
    """FastAPI's routes of an included router know their own path only; the whole one is in a context beside them."""
    known = scope.get("fastapi")
    context = known.get("effective_route_context") if isinstance(known, dict) else None
    if context is None:
        return None
    made = getattr(context, "starlette_route", None)
    if route is not made and route is not getattr(context, "original_route", None):
        return None
    path = getattr(made, "path", None) or getattr(context, "path", None)
    return path if isinstance(path, str) else None


def wsgi_route(environ: Any, outer_script: str) -> str | None:
    """Template such as `/chats/<chat_id>` of a Flask (Werkzeug) or Bottle route, mounts in front; None if unknown."""
    matched = getattr(environ.get("werkzeug.request"), "url_rule", None) or environ.get("bottle.route")
    rule = getattr(matched, "rule", None)
    if not isinstance(rule, str):
        return None
    script = environ.get("SCRIPT_NAME", "")
    return (script[len(outer_script) :] if script.startswith(outer_script) else "") + rule
