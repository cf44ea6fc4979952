"""Whom we believe and whom we tell: peers whose headers count, hosts that baggage is sent to. No name is resolved."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Names that cannot belong to a public host: RFC 6761, RFC 6762, RFC 8375 and ICANN's reserved `internal`.
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")
_CACHED: Final = 1024


def parse_address(text: str | None) -> Address | None:
    """An IP address, IPv4 in IPv6 unwrapped and the zone left off, or None for anything else."""
    try:
        address = ipaddress.ip_address((text or "").strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def parse_networks(parts: Iterable[str]) -> tuple[Network, ...]:
    """Networks and single addresses.

    Raises:
        ValueError: a part is neither.
    """
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in parts if part.strip())


class PeerTrust:
    """Whose `traceparent` is continued and whose `baggage` is believed (setting `trusted_context`)."""

    __slots__ = ("_all", "_networks", "believes_baggage", "continues_trace")

    def __init__(self, trusted_context: str) -> None:
        self._all = trusted_context == "all"
        self._networks = () if trusted_context in ("all", "none") else parse_networks(trusted_context.split(","))
        # One cache per object: peers repeat, and parsing an address costs more than the rest of a plain request.
        self.continues_trace = lru_cache(_CACHED)(self._continues_trace)
        self.believes_baggage = lru_cache(_CACHED)(self._believes_baggage)

    def _continues_trace(self, peer: str | None) -> bool:
        return self._all or self._is_named(parse_address(peer))

    def _believes_baggage(self, peer: str | None) -> bool:
        address = parse_address(peer)
        return address is not None and (address.is_loopback or self._is_named(address))

    def _is_named(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


class HostRules:
    """Hosts that outgoing `baggage` goes to (setting `propagate_hosts`): names, `*.suffixes`, networks, `private`."""

    __slots__ = ("_has_private", "_names", "_networks", "_suffixes", "allows")

    def __init__(self, rules: Iterable[str]) -> None:
        parts = [rule.strip().lower() for rule in rules]
        self._has_private = "private" in parts
        self._networks = tuple(network for part in parts for network in _network_or_nothing(part))
        self._suffixes = tuple(part[1:] for part in parts if part.startswith("*."))
        self._names = frozenset(parts)
        self.allows = lru_cache(_CACHED)(self._allows)

    def _allows(self, host: str | None) -> bool:
        name = (host or "").lower().rstrip(".")
        if not name:
            return False
        address = parse_address(name)
        if address is None:
            return name in self._names or name.endswith(self._suffixes or ("\0",)) or self._is_private_name(name)
        is_private = address.is_loopback or (address.is_private and not address.is_unspecified)
        return any(address in network for network in self._networks) or (self._has_private and is_private)

    def _is_private_name(self, name: str) -> bool:
        # A name of one label is a container or a machine of the local domain; a number is an address in disguise.
        is_one_label = "." not in name and name[0].isalpha()
        return self._has_private and (is_one_label or name.endswith(_PRIVATE_SUFFIXES))


def _network_or_nothing(text: str) -> tuple[Network, ...]:
    try:
        return parse_networks([text])
    except ValueError:
        return ()


def host_of(target: str | None) -> str | None:
    """Host name of a URL, of `host:port` or of a plain host; None where there is none."""
    if not target:
        return None
    try:
        return urlsplit(target if "//" in target else f"//{target}").hostname
    except ValueError:
        return None
