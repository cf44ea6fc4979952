"""Places where a fault test may stop the program: inert unless `TURNTRACE_FAIL_POINTS` was set at import.

`TURNTRACE_FAIL_POINTS="spool.after_write=kill@37,worker.before_commit=raise"`: a name, an action, and optionally the
number of the visit at which it happens (`@37` only then, `@37+` from then on; none: at every visit).
Actions: `kill` (SIGKILL to ourselves), `raise` (`FailPointReached`), `enospc` and `eio` (an `OSError`).
"""

import errno
import os
import signal
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "TURNTRACE_FAIL_POINTS"
_ERRNO: Final = {"enospc": errno.ENOSPC, "eio": errno.EIO}


class FailPointReached(RuntimeError):
    """A fail point with the action `raise` was reached."""


@dataclass(slots=True)
class _FailPoint:
    action: str
    first: int = 1
    is_once: bool = False
    visits: int = 0

    def visit(self, name: str) -> None:
        self.visits += 1
        if self.visits < self.first or (self.is_once and self.visits > self.first):
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action in _ERRNO:
            raise OSError(_ERRNO[self.action], f"fail point {name}")
        raise FailPointReached(name)


active: dict[str, _FailPoint] = {}


def reach(name: str) -> None:
    """Say that the program is at `name`; a fault test may have something happen here."""
    if active and (point := active.get(name)) is not None:
        point.visit(name)


def activate(specification: str) -> None:
    """Replace the active fail points; an empty text removes all.

    Raises:
        ValueError: a part is not `name=action[@visit[+]]` or names an unknown action.
    """
    found: dict[str, _FailPoint] = {}
    for part in filter(None, (part.strip() for part in specification.split(","))):
        name, _, rest = part.partition("=")
        action, _, visit = rest.partition("@")
        if action not in ("kill", "raise", *_ERRNO):
            raise ValueError(f"{VARIABLE}: unknown action in {part!r}; known: kill, raise, enospc, eio")
        number = visit.rstrip("+")
        found[name] = _FailPoint(action, int(number or 1), is_once=bool(number) and not visit.endswith("+"))
    active.clear()
    active.update(found)


activate(os.environ.get(VARIABLE, ""))
