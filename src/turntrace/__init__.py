"""Turntrace records every LLM turn of your application, in your application.

Everything public is imported from here; nothing is loaded before it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from turntrace.version import __version__ as __version__

if TYPE_CHECKING:
    from turntrace.capture.asgi import TurntraceMiddleware
    from turntrace.capture.wsgi import TurntraceWSGIMiddleware
    from turntrace.errors import BudgetExceeded, BudgetUnavailable, TurntraceError
    from turntrace.runtime import Turntrace
    from turntrace.settings import Settings
    from turntrace.storage.migrate import ignore_turntrace_tables
    from turntrace.tracing.observe import observe


__all__ = [
    "BudgetExceeded",
    "BudgetUnavailable",
    "Settings",
    "Turntrace",
    "TurntraceError",
    "TurntraceMiddleware",
    "TurntraceWSGIMiddleware",
    "ignore_turntrace_tables",
    "observe",
]

_HOME = {
    "BudgetExceeded": "turntrace.errors",
    "BudgetUnavailable": "turntrace.errors",
    "Settings": "turntrace.settings",
    "Turntrace": "turntrace.runtime",
    "TurntraceError": "turntrace.errors",
    "TurntraceMiddleware": "turntrace.capture.asgi",
    "TurntraceWSGIMiddleware": "turntrace.capture.wsgi",
    "ignore_turntrace_tables": "turntrace.storage.migrate",
    "observe": "turntrace.tracing.observe",
}
# These work without a Turntrace of their own: the runtime tells them how to make one from the environment.
_NEEDS_RUNTIME = frozenset({"TurntraceMiddleware", "TurntraceWSGIMiddleware", "observe"})


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'turntrace' has no attribute {name!r}")
    if name in _NEEDS_RUNTIME:
        importlib.import_module("turntrace.runtime")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
