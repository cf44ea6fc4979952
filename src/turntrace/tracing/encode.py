"""Content as it is captured: encoded once, at the moment it is given, and never longer than allowed.

Scalars and short strings stay as they are (they cannot change); everything else becomes an `orjson.Fragment`, so that
what the host does to its object later does not change what was recorded.

A text over the limit stays a string: head and tail around a mark that tells the original length,
`…[turntrace: 1234 of 300000 characters cut]…`. In a structure the longest strings are cut that way; one that is too
large even so becomes `{"turntrace.cut": {"bytes": n, "head": "…", "tail": "…"}}`, and without head and tail where the
turn as a whole has no room left.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final

import orjson

from turntrace.records.fragment import CUT, CUT_BEGINS, CUT_ENDS

Fragment = orjson.Fragment
_dumps: Final = orjson.dumps
_NON_STR_KEYS: Final = orjson.OPT_NON_STR_KEYS
_SCALARS: Final = frozenset({bool, int, float, type(None)})
_MAX_DEPTH: Final = 32
_MAX_NODES: Final = 20_000
_MAX_REPR: Final = 1_000
_SHRINKABLE: Final = 16 << 20  # bytes of JSON that are worth parsing again to cut single strings
_MARK_ROOM: Final = 96
_OBJECT_REPR: Final[object] = object.__repr__


def capture(value: Any, limit: int) -> tuple[Any, int]:
    """The recorded form of `value` and its size in bytes (strings: about), cut to `limit` bytes."""
    kind = type(value)
    if kind is not dict and kind is not list:
        if kind is str:
            size = len(value)
            if size * 3 > limit and (size > limit or not value.isascii()):
                value = cut_text(value, limit)
                size = len(value)
            return value, size
        if kind in _SCALARS:
            return value, 8
    try:
        blob = _dumps(value, _plain)
    except TypeError:
        blob = dump(value)
    size = len(blob)
    if size > limit:
        blob = _shrink(blob, limit)
        size = len(blob)
    return Fragment(blob), size


def withheld(size: int) -> dict[str, Any]:
    """What stands for a value of `size` bytes that had no room in its turn."""
    return {CUT: {"bytes": size}}


def dump(value: Any) -> bytes:
    """JSON bytes of anything: what JSON has no form for is described, not raised."""
    try:
        return orjson.dumps(value, _plain)
    except TypeError:  # JSONEncodeError: other keys than strings, lone surrogates, huge integers, cycles, depth
        pass
    try:
        return orjson.dumps(value, _plain, _NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_Walk().tame(value, 0))


def cut_text(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8: two thirds head, one third tail, and a mark between."""
    room = max(limit - _MARK_ROOM, 32)
    if len(text) <= limit and len(text.encode("utf-8", "replace")) <= limit:
        return text
    head_bytes = text[: room * 2 // 3].encode("utf-8", "replace")[: room * 2 // 3]
    tail_bytes = text[-(room // 3) :].encode("utf-8", "replace")[-(room // 3) :]
    head, tail = head_bytes.decode("utf-8", "ignore"), tail_bytes.decode("utf-8", "ignore")
    left_out = f"{len(text) - len(head) - len(tail)} of {len(text)} characters"
    return f"{head}{CUT_BEGINS}{left_out}{CUT_ENDS}{tail}"


def _shrink(blob: bytes, limit: int) -> bytes:
    """Cut the longest strings of a JSON text; where that is not enough, keep head and tail of the text."""
    if len(blob) <= _SHRINKABLE:
        tree = orjson.loads(blob)
        lengths = sorted(_string_lengths(tree))
        longest = _share(lengths, limit - (len(blob) - sum(lengths)))
        if longest >= 2 * _MARK_ROOM:
            smaller = orjson.dumps(_cut_strings(tree, longest))
            if len(smaller) <= limit:
                return smaller
    keep = max(limit - 2 * _MARK_ROOM, 64) // 2
    head = blob[: keep * 2 // 3].decode("utf-8", "ignore")
    tail = blob[-(keep // 3) :].decode("utf-8", "ignore")
    return orjson.dumps({CUT: {"bytes": len(blob), "head": head, "tail": tail}})


def _string_lengths(tree: Any) -> Iterator[int]:
    if isinstance(tree, str):
        yield len(tree.encode())
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _string_lengths(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from _string_lengths(item)


def _share(lengths: list[int], room: int) -> int:
    """The greatest length so that strings cut to it fit into `room` together; `lengths` ascending."""
    room -= room // 8  # escapes take more than their characters
    for index, length in enumerate(lengths):
        share = room // (len(lengths) - index)
        if length > share:
            return share
        room -= length
    return lengths[-1] if lengths else 0


def _cut_strings(tree: Any, limit: int) -> Any:
    if isinstance(tree, str):
        return cut_text(tree, limit)
    if isinstance(tree, dict):
        return {key: _cut_strings(item, limit) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_cut_strings(item, limit) for item in tree]
    return tree


def _plain(value: Any) -> Any:
    """`default` of orjson: a JSON form for what has none. Iterators are named, never consumed."""
    model_dump = getattr(value, "model_dump", None)
    if model_dump is not None and not isinstance(value, type):
        return _model(model_dump)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (AbstractSet, deque, tuple, list)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{type(value).__name__}: {len(value)} bytes>"
    if isinstance(value, (Decimal, PurePath)):
        return str(value)
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": str(value)[:_MAX_REPR]}
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):  # arrays and tensors: vectors are no reading matter
        return f"<{type(value).__name__}: {shape}>"
    return _named(value)


def _model(model_dump: Any) -> Any:
    try:
        return model_dump(mode="json", warnings=False)
    except TypeError:  # an older or a foreign model_dump
        return model_dump()


def _named(value: Any) -> str:
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"<{value.__qualname__}>"
    if getattr(type(value), "__repr__", None) is _OBJECT_REPR:
        return f"<{type(value).__name__}>"
    return repr(value)[:_MAX_REPR]


class _Walk:
    """The slow way: a bounded walk through a value that orjson refuses."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _MAX_NODES

    def tame(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value) if -(1 << 63) <= value < 1 << 64 else str(value)
        if type(value) in _SCALARS or isinstance(value, Fragment):
            return value
        if depth > _MAX_DEPTH or self.left < 0:
            return "<…>"
        return self._tame_container(value, depth)

    def _tame_container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {self._key(key): self.tame(item, depth + 1) for key, item in list(value.items())[: self.left + 1]}
        if isinstance(value, (list, tuple, AbstractSet, deque)):
            return [self.tame(item, depth + 1) for item in list(value)[: self.left + 1]]
        return self._tame_object(value, depth)

    def _tame_object(self, value: Any, depth: int) -> Any:
        try:
            return orjson.loads(orjson.dumps(value))  # dataclasses, dates, UUIDs, enums
        except TypeError:
            pass
        try:
            return self.tame(_plain(value), depth + 1)
        except Exception:  # a repr or model_dump of the host that fails
            return f"<{type(value).__name__}>"

    def _key(self, key: Any) -> str:
        text = key if isinstance(key, str) else _named(key)
        return text[:_MAX_REPR].encode("utf-8", "replace").decode()
