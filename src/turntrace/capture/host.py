"""What the middleware needs of a `Turntrace`, and how one is made where the host gave none."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from turntrace.tracing.recorder import Recorder


class Host(Protocol):
    """The part of `Turntrace` that capture knows.

    `start()` is called once per process and middleware, before the first recorded request of that process; it must be
    idempotent and quick. `panel()` answers the panel as an ASGI application.
    """

    @property
    def recorder(self) -> Recorder: ...
    def start(self) -> object: ...
    def panel(self) -> Any: ...


class _Default:
    """The factory that the runtime registers, and the one object made by it."""

    def __init__(self) -> None:
        self.factory: Callable[[], Host] | None = None
        self.host: Host | None = None
        self.lock = threading.Lock()


_default = _Default()


def set_default_factory(factory: Callable[[], Host] | None) -> None:
    """Tell how to make the host object of a middleware that was given none; forgets the one made before."""
    with _default.lock:
        _default.factory = factory
        _default.host = None


def default_host() -> Host:
    """The process's default host object, made at the first call.

    Raises:
        RuntimeError: nobody has registered a factory (importing the middleware from `turntrace` does).
    """
    with _default.lock:
        if _default.host is None:
            if _default.factory is None:
                raise RuntimeError("no Turntrace: pass turntrace=…, or import the middleware from `turntrace`")
            _default.host = _default.factory()
        return _default.host
