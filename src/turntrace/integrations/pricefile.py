"""Prices in a JSON file, a list of what `POST /prices` takes (setting `prices_file`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turntrace.errors import InvalidInput, SettingsError
from turntrace.pipeline.own_price import parse
from turntrace.records.usage import Price


def read_file(path: Path) -> tuple[Price, ...]:
    """The prices in a JSON file, a list of what `parse` takes.

    Raises:
        SettingsError: the file cannot be read, or a price in it cannot be used; nothing of it is loaded.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"prices_file: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"prices_file: {path} is no JSON: {error}") from None
    if not isinstance(stated, list):
        raise SettingsError(f"prices_file: {path} has no list of prices")
    return tuple(_of_file(path, number, item) for number, item in enumerate(stated, 1))


def _of_file(path: Path, number: int, item: Any) -> Price:
    if not isinstance(item, Mapping):
        raise SettingsError(f"prices_file: {path}: price {number} is no object")
    try:
        return parse(item)
    except InvalidInput as error:
        raise SettingsError(f"prices_file: {path}: price {number}: {error}") from None
