"""Which hosts a SQLAlchemy URL leads to, read as SQLAlchemy and its drivers read it; settings import neither."""

import re
from typing import Final
from urllib.parse import parse_qsl

# As `sqlalchemy.engine.url` has it; `urlsplit` takes other parts for the host where a name or password holds a slash.
_URL: Final = re.compile(
    r"(?P<scheme>[\w+]+)://"
    r"(?:[^:/]*(?::[^@]*)?@)?"
    r"(?:(?:\[(?P<v6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?)?"
    r"(?:/[^?]*)?"
    r"(?:\?(?P<query>.*))?"
)
_HOST_NAMES: Final = ("host", "hostaddr")  # arguments that drivers connect by, whatever the URL says before
_ELSEWHERE: Final = frozenset(("service", "servicefile", "dsn", "conninfo", "read_default_file", "read_default_group"))
_SOCKET: Final = ("/", "@")


def hosts(url: str) -> tuple[str, ...]:
    """Every host that may be connected to; none for a file or a socket of this host.

    Raises:
        ValueError: not such a URL. Its message holds nothing of it.
    """
    return tuple(dict.fromkeys(found for text in _stated(url) for found in _each(text)))


def names_hosts_elsewhere(url: str) -> bool:
    """Whether an argument of the URL has the driver look up, in a file, where to connect to."""
    return any(name in _ELSEWHERE for name, _ in _arguments(_parts(url)))


def _stated(url: str) -> list[str]:
    parts = _parts(url)
    if parts["scheme"].partition("+")[0] == "sqlite":
        return []
    return [
        *(f"[{text}]" for text in (parts["v6"],) if text),
        *(text for text in (parts["host"],) if text),
        *(value for name, value in _arguments(parts) if name in _HOST_NAMES),
    ]


def _parts(url: str) -> dict[str, str]:
    found = _URL.match(url)
    if found is None or not (found["port"] or "0").isdecimal():
        raise ValueError("not a SQLAlchemy URL")
    return found.groupdict(default="")


def _arguments(parts: dict[str, str]) -> list[tuple[str, str]]:
    return parse_qsl(parts["query"])


def _each(text: str) -> list[str]:
    """Hosts of a list as PostgreSQL's library takes it: `a:5432,b`."""
    return [_without_port(part.strip()) for part in text.split(",") if part.strip() and not part.startswith(_SOCKET)]


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
