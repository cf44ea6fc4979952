"""Prices in a JSON file: a list of what `POST /prices` takes, or models as Langfuse exports them."""

from pathlib import Path

from turntrace.errors import InvalidInput, SettingsError
from turntrace.pipeline.price_list import read_list
from turntrace.records.usage import Price


def read_file(path: Path) -> tuple[Price, ...]:
    """The prices in a file.

    Raises:
        SettingsError: the file cannot be read, or a price in it cannot be used; nothing of it is loaded.
    """
    try:
        return read_list(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"prices_file: {path} cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise SettingsError(f"prices_file: {path} is not UTF-8") from None
    except InvalidInput as error:
        raise SettingsError(f"prices_file: {path}, {error}") from None
