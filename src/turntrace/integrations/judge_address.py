"""Where judges may be asked: public addresses, and private ones that the setting `judge_allowed_hosts` names.

What is checked is the address that is connected to, not only the name: one that leads elsewhere the next moment gains
nothing.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from turntrace.errors import EvaluationFailed, InvalidInput
from turntrace.integrations.public_address import inner, is_public
from turntrace.tracing.trust import Address

_PORTS: Final = {"http": 80, "https": 443}


class JudgeAddresses:
    """The rule of the settings.

    Args:
        allowed: names of hosts, addresses and networks.
        may_call: whether a host may be called at all.
    """

    def __init__(self, allowed: Iterable[str], may_call: Callable[[str], bool] = lambda host: True) -> None:
        self._may_call = may_call
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in allowed:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))

    def check(self, url: str) -> None:
        """Nothing for an address that may be asked, or whose name nobody knows here and now.

        Raises:
            InvalidInput: it is a private one that is not allowed.
        """
        host, port = host_and_port(url)
        if not self._may_call(host):
            raise InvalidInput(f"$.judge.base_url: {host} is not among outgoing_hosts", field="$.judge.base_url")
        try:
            found = _resolved(host, port)
        except OSError:
            return
        if found and not any(self._may(host, address) for address in found):
            raise InvalidInput(
                f"$.judge.base_url: {host} is a private address: name it in the setting judge_allowed_hosts",
                field="$.judge.base_url",
            )

    def address(self, url: str) -> tuple[str, int]:
        """The address to connect to, and the port.

        Raises:
            EvaluationFailed: it is not allowed, or the name is not known.
        """
        host, port = host_and_port(url)
        if not self._may_call(host):
            raise EvaluationFailed("address_not_allowed", is_final=True)
        try:
            found = _resolved(host, port)
        except OSError:
            raise EvaluationFailed("unknown_host") from None
        for address in found:
            if self._may(host, address):
                return str(address), port
        raise EvaluationFailed("address_not_allowed", is_final=True)

    def _may(self, host: str, address: Address) -> bool:
        plain = inner(address)
        if is_public(plain):
            return True
        return host.lower().rstrip(".") in self._names or any(
            plain.version == network.version and plain in network for network in self._networks
        )


def host_and_port(url: str) -> tuple[str, int]:
    """Host and port of an http address."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _resolved(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
