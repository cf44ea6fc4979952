"""JSON-like values as a bounded tree that templates can fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_DEPTH: Final = 12
MAX_CHILDREN: Final = 200
MAX_NODES: Final = 3000
MAX_TEXT: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value: `kind` is object, array, string or plain; `size` how many children it has, `rest` those left out."""

    kind: str
    text: str = ""
    children: tuple[tuple[str, "Node"], ...] = ()
    size: int = 0
    rest: int = 0


def fold(value: Any) -> Node:
    """The tree of a value, at most `MAX_NODES` nodes of it."""
    return _node(value, 0, [MAX_NODES])


def _node(value: Any, depth: int, left: list[int]) -> Node:
    left[0] -= 1
    if isinstance(value, str):
        return Node(kind="string", text=_cut(value))
    if isinstance(value, Mapping):
        return _branch("object", [(str(key), item) for key, item in value.items()], depth, left)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return _branch("array", [("", item) for item in value], depth, left)
    if value is None or isinstance(value, bool):
        return Node(kind="plain", text={None: "null", True: "true", False: "false"}[value])
    return Node(kind="plain", text=_cut(str(value)))


def _branch(kind: str, items: list[tuple[str, Any]], depth: int, left: list[int]) -> Node:
    if depth >= MAX_DEPTH:
        return Node(kind="plain", text=f"… ({len(items)} items, nested too deeply to show)")
    children: list[tuple[str, Node]] = []
    for key, item in items[:MAX_CHILDREN]:
        if left[0] <= 0:
            break
        children.append((key, _node(item, depth + 1, left)))
    return Node(kind=kind, children=tuple(children), size=len(items), rest=len(items) - len(children))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text):,} characters)"
