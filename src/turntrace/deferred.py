"""Modules that are imported when the first name of theirs is asked for: a short command does not pay for all others."""

from importlib import import_module
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands for a module until it is used. Type checkers are shown the module itself, beside it."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value
