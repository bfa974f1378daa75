"""Which addresses an outgoing request may reach: those of the public internet, and what the operator lists.

A list of what is allowed and not of what is forbidden: what nobody thought of is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from registry.settings import Network

Address = IPv4Address | IPv6Address

_UNICAST_6 = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
# IETF's own (Teredo among it), documentation, 6to4: each reaches what its inner address says, or nothing.
_NOT_PUBLIC_6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NOT_PUBLIC_4 = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3")))
# Where clouds tell a machine its credentials (AWS and most others, Alibaba, Oracle, AWS by IPv6).
_METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)


def parse_address(text: str) -> Address:
    """An address as a socket has it; an IPv4 address in IPv6 form (mapped, NAT64) is the IPv4 address.

    Raises:
        ValueError: no address.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether the address is one of the public internet, to which anybody may send."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    return (
        address in _UNICAST_6
        and address.is_global
        and not any(address in network for network in _NOT_PUBLIC_6)
    )


def is_listed(address: Address, networks: Iterable[Network]) -> bool:
    """Whether the operator has listed the address."""
    return any(address in network for network in networks)


def is_metadata(address: Address) -> bool:
    """Whether a cloud answers there with a machine's credentials: no list of networks opens that."""
    return address in _METADATA
