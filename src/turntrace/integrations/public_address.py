"""Which addresses are public: those of the internet, and IPv6 ones that stand for such an IPv4 address."""

import ipaddress
from typing import Final

from turntrace.tracing.trust import Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, NAT64, 6to4), else the address itself."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether an address, as `inner` answers it, is one of the internet that may be called without being named."""
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not (address.is_multicast or address.is_reserved or is_site_local)
