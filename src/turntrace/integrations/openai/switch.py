"""Switches the tracing of the official OpenAI client on and off, for the whole process.

`request` of the two client classes is the one door that every call goes through, whichever helper made it and however
often it is retried; Azure's clients inherit it. Instances, classes and return types stay the client's own.
"""

import importlib
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from turntrace.integrations.openai.call import begin, running

_CLIENTS: Final = ("OpenAI", "AsyncOpenAI")
_RETRY: Final = "_sleep_for_retry"  # of all versions so far; without it retries are not counted
_lock: Final = threading.Lock()
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
    wrapper = make(getattr(owner, name))
    setattr(owner, name, wrapper)
    _installed[owner.__name__, name] = owner, wrapper, had_own


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
