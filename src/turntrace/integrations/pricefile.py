"""Prices in a JSON file: a list of what `POST /prices` takes, or models as Langfuse exports them."""

from pathlib import Path

from sqlalchemy import Connection

from turntrace.errors import InvalidInput, SettingsError
from turntrace.pipeline.price import Pricer
from turntrace.pipeline.price_list import read_list
from turntrace.records.usage import Price
from turntrace.settings import Settings
from turntrace.storage import prices


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


class Prices:
    """Gives the `Pricer` of the own prices in file and database; the same one while they are the same."""

    def __init__(self, settings: Settings) -> None:
        self._from_file: tuple[Price, ...] = read_file(Path(settings.prices_file)) if settings.prices_file else ()
        self._known: tuple[Price, ...] | None = None
        self._pricer = Pricer()

    def __call__(self, connection: Connection) -> Pricer:
        found = (*self._from_file, *prices.list_prices(connection))
        if found != self._known:
            self._known, self._pricer = found, Pricer(found)
        return self._pricer
