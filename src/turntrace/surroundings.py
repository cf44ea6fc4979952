"""Servers that take threads away from the applications in them: which of them this process runs in, and what that does.

Where the spool lies, and what speaks against that place, is `spool.directory`'s to say.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

_GREEN: Final = (
    "{} has replaced threads with greenlets: who watches over the worker stands still while a request does not yield, "
    "and worker=thread would hold up requests. Run `turntrace worker` beside the server and set worker=external"
)
# What to say of each, by the name under which a process counts it.
SURROUNDINGS: Final[Mapping[str, str]] = {
    "gevent": _GREEN.format("gevent"),
    "eventlet": _GREEN.format("eventlet"),
    "uwsgi": "uWSGI runs without threads: nothing can start the worker, and turns wait in the spool. Start it with "
    "--enable-threads, or run `turntrace worker` beside it and set worker=external",
}


def risky_surroundings(worker: str, modules: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """What is risky about the server that this process runs in: keys of `SURROUNDINGS`.

    Args:
        worker: the setting; with `external` none of it matters.
        modules: loaded modules by name; by default those of this process. Nothing is imported for it.
    """
    loaded = sys.modules if modules is None else modules
    if worker == "external":
        return ()
    found = []
    if _says(loaded.get("gevent.monkey"), "is_module_patched", "threading"):
        found.append("gevent")
    if _says(loaded.get("eventlet.patcher"), "is_monkey_patched", "thread"):
        found.append("eventlet")
    uwsgi = loaded.get("uwsgi")
    if uwsgi is not None and not _has_threads(getattr(uwsgi, "opt", None) or {}):
        found.append("uwsgi")
    return tuple(found)


def _says(module: Any, function: str, about: str) -> bool:
    """Whether the library has put something of its own in the place of `about`; being imported is not enough."""
    ask = getattr(module, function, None)
    return ask is not None and bool(ask(about))


def _has_threads(options: Mapping[Any, Any]) -> bool:
    """uWSGI's options by name, of which releases differ in whether they are text or bytes."""
    named = {key.decode() if isinstance(key, bytes) else key for key, value in options.items() if value}
    return bool(named & {"enable-threads", "threads"})
