"""Addresses inside the panel: always paths under the mount, never with a host."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

Params = tuple[tuple[str, str], ...]
_STEPS: Final = (".", "..")


def pairs(params: Iterable[tuple[str, Any]]) -> Params:
    """Query parameters as text, those that are None or empty left out."""
    return tuple((name, str(value)) for name, value in params if value is not None and value != "")


@dataclass(frozen=True, slots=True)
class Address:
    """Builds addresses under the mount's `root_path` (no trailing slash)."""

    root: str

    def to(self, page: str = "", *segments: str, **params: Any) -> str:
        """`/mount/page/segment?params`; segments and params are quoted. A trailing `_` of a name is dropped.

        A last segment that browsers would take for a step up the path goes into the parameter `id`: see `named`.
        """
        if segments and segments[-1] in _STEPS:
            params, segments = {**params, "id": segments[-1]}, (*segments[:-1], "")
        path = "/".join([page, *(quote(segment, safe="") for segment in segments)])
        query = urlencode(pairs((name.rstrip("_"), value) for name, value in params.items()))
        return f"{self.root}/{path}" + (f"?{query}" if query else "")

    def with_query(self, page: str, params: Params, **changes: Any) -> str:
        """The page with `params`, of which `changes` are replaced, added, or (None) left out."""
        changed = {name.rstrip("_"): value for name, value in changes.items()}
        kept = [(name, value) for name, value in params if name not in changed]
        query = urlencode(pairs([*kept, *changed.items()]))
        return f"{self.root}/{page}" + (f"?{query}" if query else "")


def below(scope: Mapping[str, Any]) -> str:
    """The path of a request below the mount: "/traces", "/"."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path or "/"


def named(subject: str, query: Mapping[str, str]) -> str:
    """The id that an address of ours names: the end of its path or, where that is empty, its parameter `id`."""
    return subject or query.get("id", "")


def here(scope: Mapping[str, Any]) -> str:
    """The address of a request, path and query: ids with `?`, `%` or blanks in the path quoted as in our links."""
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{scope.get('root_path', '')}{quote(below(scope))}" + (f"?{query}" if query else "")


def local_path(target: str | None, root: str) -> str | None:
    """`target` if it is a path under our mount (where to go after login), else None: no open redirect."""
    if not target or not target.startswith(f"{root}/") or target.startswith("//"):
        return None
    if "\\" in target or any(ord(character) < 33 or ord(character) == 127 for character in target):
        return None
    return None if "//" in target.partition("?")[0] or ".." in target.partition("?")[0] else target
