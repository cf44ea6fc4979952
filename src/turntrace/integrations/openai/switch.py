"""Switches the tracing of the official OpenAI client on and off, for the whole process.

`request` of the two client classes is the one door that every call goes through, whichever helper made it and however
often it is retried; Azure's clients inherit it. Instances, classes and return types stay the client's own.
"""

import importlib
import threading
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, Final

from turntrace.integrations.openai.call import begin, running
from turntrace.integrations.openai.realtime import closing, watched
from turntrace.tracing.recorder import fault

_CLIENTS: Final = ("OpenAI", "AsyncOpenAI")
_RETRY: Final = "_sleep_for_retry"  # of all versions so far; without it retries are not counted
_REALTIME: Final = "realtime"
_CONNECTIONS: Final = ("RealtimeConnection", "AsyncRealtimeConnection")
_lock: Final = threading.RLock()
_installed: dict[tuple[str, str], Any] = {}


def switch_on() -> bool:
    """Trace every client of this process, made before or after; False where that was so already.

    Raises:
        ImportError: `openai` is not installed.
    """
    module = importlib.import_module("openai")
    with _lock:
        if _installed:
            return False
        for name in _CLIENTS:
            owner = getattr(module, name)
            is_async = name.startswith("Async")
            _replace(owner, "request", _asked_later if is_async else _asked)
            if callable(getattr(owner, _RETRY, None)):
                _replace(owner, _RETRY, _counted)
            if isinstance(vars(owner).get(_REALTIME), cached_property):
                _replace(owner, _REALTIME, _watched_from_use_on)
        return True


def switch_off() -> bool:
    """Put the client's own methods back, except where somebody has wrapped them since; False where it was off."""
    with _lock:
        was_on = bool(_installed)
        for (_, name), (owner, wrapper, had_own) in _installed.items():
            if vars(owner).get(name) is wrapper:
                if had_own:
                    setattr(owner, name, wrapper.__wrapped__)
                else:
                    delattr(owner, name)
        _installed.clear()
        return was_on


def is_on() -> bool:
    """Whether calls are traced here."""
    return bool(_installed)


def _replace(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    had_own = name in vars(owner)
    wrapper = make(vars(owner)[name] if had_own else getattr(owner, name))
    setattr(owner, name, wrapper)
    _installed[owner.__name__, name] = owner, wrapper, had_own


def _watched_from_use_on(original: Any) -> Any:
    """The `realtime` of a client: its module takes long to import, so connections are watched from the first use on."""

    def realtime(client: Any) -> Any:
        found = original.func(client)
        try:
            _watch_connections()
        except Exception as exc:
            fault(None, "openai.realtime", exc)
        return found

    wrapper: Any = cached_property(realtime)
    wrapper.__set_name__(None, _REALTIME)
    wrapper.__wrapped__ = original
    return wrapper


def _watch_connections() -> None:
    module = importlib.import_module("openai.resources.realtime.realtime")
    with _lock:
        for name in _CONNECTIONS:
            owner = getattr(module, name, None)
            if owner is None or not _installed or (name, "parse_event") in _installed:
                continue
            _replace(owner, "parse_event", watched)
            _replace(owner, "close", closing)


def _asked(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = begin(self, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        call.enter()
        try:
            answer = original(self, *args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave()
        call.answer(answer)
        return answer

    return request


def _asked_later(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = begin(self, args, kwargs)
        if call is None:
            return await original(self, *args, **kwargs)
        call.enter()
        try:
            answer = await original(self, *args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave()
        call.answer(answer)
        return answer

    return request


def _counted(original: Callable[..., Any]) -> Callable[..., Any]:
    """Works for the coroutine as well: counting is done when it is called."""

    @wraps(original)
    def sleep(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = running.get()
        if call is not None:
            call.retries += 1
        return original(self, *args, **kwargs)

    return sleep
