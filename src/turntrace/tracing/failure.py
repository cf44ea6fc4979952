"""Exceptions as they are recorded: type, message and stack; never local variables."""

import traceback
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = str(Path(__file__).resolve().parent)
_MAX_MESSAGE: Final = 4_000  # characters
_MAX_FRAMES: Final = 40
_MAX_CHAIN: Final = 4
# A client that is gone, as frameworks tell it; by name, so that none of them is imported for it.
DEPARTURES: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})


def describe(error: BaseException) -> dict[str, Any]:
    """`{"type", "message", "stack"}`. The stack is that of the traceback, outermost call first, with its causes.

    Source lines are not read: that would touch the file system inside the host's request.
    """
    return {"type": type(error).__name__, "message": _message(error), "stack": _stack(error)}


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE]
    except Exception:  # an exception class of the host with a broken __str__
        return "<no message>"


def _stack(error: BaseException) -> str:
    lines = _frames(error)
    seen, cause = {id(error)}, _cause(error)
    while cause is not None and id(cause) not in seen and len(seen) <= _MAX_CHAIN:
        seen.add(id(cause))
        lines += [f"caused by {type(cause).__name__}: {_message(cause)[:500]}", *_frames(cause)]
        cause = _cause(cause)
    return "\n".join(lines)


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(error: BaseException) -> list[str]:
    lines = [
        f'File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_qualname}'
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_PACKAGE)
    ]
    if len(lines) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        lines = [*lines[:half], f"… {len(lines) - _MAX_FRAMES} frames", *lines[-half:]]
    return lines
